"""Who makes which run of a calibration on many workers, in simulated time."""

from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lemica.calibration.cluster.shares import PathShares, Run, SampleShares, Speeds, WalkShares
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


def walk_runs(samples: int, item: object = "one") -> list[Run]:
    return [Run("products", place, ((0, 4), (), item), 1) for place in range(samples)]


def test_a_walk_stays_with_the_worker_that_has_its_full_run_whoever_asks_first():
    shares = WalkShares(lambda worker: worker in (7, 8))
    shares.knows(7, 1)
    shares.knows(8, 0)
    for item in range(3):
        first, second = walk_runs(2, item)
        shares.want([first, second])
        assert shares.next(7) == second and shares.next(7) is None, "the other one has a worker, who may be at work"
        assert shares.next(8) == first and shares.next(8) is None
        shares.done(7, second, 1.0), shares.done(8, first, 1.0)


def test_samples_that_nobody_has_are_taken_by_whoever_is_idle_and_stay_there():
    shares = WalkShares(lambda worker: worker in (7, 8))
    runs = walk_runs(3)
    shares.want(runs)
    assert [shares.next(worker) for worker in (7, 8, 8)] == runs and shares.next(7) is None
    again = walk_runs(3, "two")
    shares.want(again)
    assert [shares.next(worker) for worker in (8, 8, 7)] == [again[1], again[2], again[0]]


def test_the_walks_of_a_lost_worker_go_to_others_with_what_it_was_asked_for_first():
    there = {7, 8}
    shares = WalkShares(lambda worker: worker in there)
    for worker, place in ((7, 0), (8, 1), (7, 2)):
        shares.knows(worker, place)
    runs = walk_runs(3)
    shares.want(runs)
    assert shares.next(7) == runs[0] and shares.next(8) == runs[1]
    shares.lost(7, runs[0])
    assert shares.next(8) is None, "until it is gone, its samples are its own"
    there.remove(7)
    assert shares.next(8) == runs[0], "before what it was not asked for yet"
    there.add(9)
    assert shares.next(9) == runs[2] and shares.next(9) is None
    again = walk_runs(3, "two")
    shares.want(again)
    assert shares.next(9) == again[2] and shares.next(9) is None
    assert [shares.next(8), shares.next(8)] == again[:2], "they stay where they went"


def test_a_worker_that_is_lost_with_nothing_to_do_costs_nothing():
    shares = WalkShares(lambda worker: worker == 8)
    shares.want(walk_runs(1))
    shares.lost(7, None)
    assert shares.next(8) == walk_runs(1)[0] and shares.next(8) is None


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.lists(st.floats(0.5, 20.0), min_size=1, max_size=4),
    st.floats(0.0, 0.4), st.integers(0, 999),
)
def test_every_sample_answers_every_question_once_and_changes_its_worker_only_with_a_loss(
    samples, known, questions, paces, losses, seed
):
    """As a crew asks: everything is wanted of all samples at once, and the next thing when all have answered."""
    draw = random.Random(seed)
    there, numbers, pace = set(range(len(paces))), len(paces), dict(enumerate(paces))
    shares, now = WalkShares(lambda worker: worker in there), 0.0
    owner: dict[int, int] = {}
    for place in range(min(known, samples)):
        owner[place] = draw.choice(sorted(there))
        shares.knows(owner[place], place)
    for question in range(questions):
        shares.want(walk_runs(samples, question))
        answers, busy = Counter(), []
        while len(answers) < samples:
            at_work = {worker for _, worker, _ in busy}
            for worker in draw.sample(sorted(there), len(there)):
                if worker not in at_work and (run := shares.next(worker)) is not None:
                    assert run.item[-1] == question
                    assert owner.get(run.place, worker) == worker or owner[run.place] not in there
                    owner[run.place] = worker
                    heapq.heappush(busy, (now + pace[worker], worker, run))
            assert busy, "something is wanted and nobody does it"
            now, worker, run = heapq.heappop(busy)
            if draw.random() < losses:
                shares.lost(worker, run)
                there.remove(worker)
                there.add(numbers)
                pace[numbers] = pace.pop(worker)
                numbers += 1
            else:
                shares.done(worker, run, pace[worker])
                answers.update([run.place])
        assert answers == Counter(range(samples)) and not busy


@pytest.mark.parametrize("samples, workers, least", [(64, 8, 7.5), (8, 8, 7.0), (1, 8, 5.0)])
def test_the_simulation_scales_while_there_is_work_and_never_beyond_the_workers(samples, workers, least):
    rules = (Rule("output", "hold"), Rule("output", "linear"))
    plan = Plan(20, rules, 4, (10, 6), 30)
    costs = Costs(1.0, 0.01, 0.005, 0.02)
    alone, many = (simulate(plan, samples, count, costs) for count in (1, workers))
    assert least < many.speed_up(alone) <= 1.02 * workers
    assert alone.extra == 0 and 0 <= many.extra < 0.3
