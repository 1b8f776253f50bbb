"""Who makes which run of a calibration on many workers, in simulated time."""

from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lemica.calibration.cluster.shares import PathShares, Run, SampleShares, Speeds
from lemica.calibration.cluster.simulate import Costs, Plan, simulate
from lemica.schedules import Rule

STEPS = 10


def play(edges: dict[int, list[int]], speeds: list[float], losses: float = 0.0, seed: int = 0):
    """Every run that ended, as (worker, run), the seconds it took, and how many workers were lost in a replay."""
    cost = {edge: 1 + edge % (STEPS - 1) for todo in edges.values() for edge in todo}
    shares = SampleShares(STEPS, edges, cost, list(edges), Speeds())
    draw, ended, lost, now = random.Random(seed), [], 0, 0.0
    idle, busy, numbers = list(range(len(speeds))), [], len(speeds)
    pace = dict(enumerate(speeds))
    while not shares.finished:
        waiting = []
        for worker in idle:
            if (run := shares.next(worker)) is None:
                waiting.append(worker)
            else:
                heapq.heappush(busy, (now + run.steps * pace[worker], worker, run))
        assert busy, "work is left and nobody does it"
        now, worker, run = heapq.heappop(busy)
        if draw.random() < losses:
            shares.lost(worker, run)
            lost += run.kind == "replay"
            pace[numbers] = pace[worker]
            worker, numbers = numbers, numbers + 1
        else:
            shares.done(worker, run, run.steps * pace[worker])
            ended.append((worker, run))
        idle = [*waiting, worker]
    return ended, now, lost


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=6), st.lists(st.floats(0.5, 20.0), min_size=1, max_size=5),
    st.floats(0.0, 0.4), st.integers(0, 99),
)
def test_every_edge_is_replayed_once_by_a_worker_that_holds_its_reference(counts, speeds, losses, seed):
    edges = {place: list(range(count)) for place, count in enumerate(counts)}
    ended, _, _ = play(edges, speeds, losses, seed)
    replayed = Counter((run.place, run.item) for _, run in ended if run.kind == "replay")
    assert replayed == Counter((place, edge) for place, todo in edges.items() for edge in todo)
    held: dict[int, int] = {}
    for worker, run in ended:
        if run.kind == "full":
            held[worker] = run.place
        else:
            assert held[worker] == run.place
    assert {run.place for _, run in ended if run.kind == "full"} == set(edges)


def test_a_worker_ten_times_slower_leaves_its_work_to_the_others():
    edges = {place: list(range(40)) for place in range(4)}
    ended, seconds, _ = play(edges, [1.0, 1.0, 1.0, 10.0])
    _, equal, _ = play(edges, [1.0, 1.0, 1.0])
    made = Counter(worker for worker, run in ended if run.kind == "replay")
    assert made[3] < min(made[0], made[1], made[2]) / 4
    assert seconds < 1.25 * equal, "the slow one holds nobody up"


def test_a_sample_is_joined_when_that_pays_and_not_otherwise():
    many, _, _ = play({0: list(range(60))}, [1.0, 1.0])
    few, _, _ = play({0: [0, 1]}, [1.0, 1.0])
    assert sum(run.kind == "full" for _, run in many) == 2
    assert sum(run.kind == "full" for _, run in few) == 1


def test_paths_go_to_workers_that_know_the_sample_and_a_lost_one_comes_first():
    shares = PathShares(STEPS, Speeds())
    runs = [Run("path", place, ((0, number), ("output hold",)), 2) for number in range(2) for place in range(2)]
    shares.want(runs)
    shares.knows(7, 1)
    assert shares.next(7) == runs[1] and shares.next(8) == runs[0]
    shares.want(runs)
    assert shares.next(9) == runs[2], "what is being made is not given out again"
    shares.lost(8, runs[0])
    assert shares.next(9) == runs[0]
    shares.done(7, runs[1], 1.0)
    assert shares.next(7) == runs[3] and shares.next(7) is None


@pytest.mark.parametrize("samples, workers, least", [(64, 8, 7.5), (8, 8, 7.0), (1, 8, 5.0)])
def test_the_simulation_scales_while_there_is_work_and_never_beyond_the_workers(samples, workers, least):
    rules = (Rule("output", "hold"), Rule("output", "linear"))
    plan = Plan(20, rules, 4, (10, 6), 30)
    costs = Costs(1.0, 0.01, 0.005, 0.02)
    alone, many = (simulate(plan, samples, count, costs) for count in (1, workers))
    assert least < many.speed_up(alone) <= 1.02 * workers
    assert alone.extra == 0 and 0 <= many.extra < 0.3
