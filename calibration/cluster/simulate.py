"""How long a calibration takes on many workers, in simulated time: the same shares as for real ones, with measured costs.

Workers compute steps, and the calibration writes every answer down, one after the other. What is not simulated: workers
that are lost, and the loading of the model, which every worker does once at the same time.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..estimate import replayed_edges
from ..segments import all_segments
from .shares import SampleShares, Speeds

ROUNDS = 5
"""How many times the search for a better path begins anew, per budget: each time one was found, and at its beginning."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured: ``step`` seconds a computed step, ``run`` a run besides, ``answer`` to write one down.

    ``spread``: the standard deviation of a run's time, as a share of it.
    """

    step: float
    run: float
    answer: float
    spread: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A calibration by replays: N, its rules, the longest segment, and per budget how many paths are measured."""

    steps: int
    rules: tuple
    longest: int
    budgets: tuple[int, ...]
    paths: int


@dataclass(frozen=True, slots=True)
class Simulated:
    """``seconds`` it takes, ``work`` of all workers together, ``extra`` share of it that one worker would not have."""

    seconds: float
    work: float
    extra: float

    def speed_up(self, alone: Simulated) -> float:
        """Over one worker."""
        return alone.seconds / self.seconds


def simulate(plan: Plan, samples: int, workers: int, costs: Costs, seed: int = 0) -> Simulated:
    """A calibration of so many samples on so many equal workers."""
    segments = all_segments(plan.steps, plan.longest, plan.rules)
    edges = replayed_edges(segments).tolist()
    cost = (plan.steps - segments[:, 2].astype(int)).tolist()
    shares = SampleShares(plan.steps, {place: edges for place in range(samples)}, cost, range(samples), Speeds())
    draw = random.Random(seed)
    now, written, work, full_runs = 0.0, 0.0, 0.0, 0
    waiting = list(range(workers))
    busy: list[tuple[float, int, float, object]] = []
    while not shares.finished:
        idle = []
        for worker in waiting:
            run = shares.next(worker)
            if run is None:
                idle.append(worker)
                continue
            full_runs += run.kind == "full"
            seconds = (run.steps * costs.step + costs.run) * max(draw.gauss(1.0, costs.spread), 0.1)
            heapq.heappush(busy, (now + seconds, worker, seconds, run))
        end, worker, seconds, run = heapq.heappop(busy)
        work += seconds
        # A worker gets its next run when its answer was written down, after those that came before it.
        written = max(written, end) + costs.answer
        now = max(now, written)
        shares.done(worker, run, seconds)
        waiting = [*idle, worker]
    seconds, steps = _paths(plan, samples, workers, costs)
    needed = samples * (plan.steps + sum(cost[edge] for edge in edges)) + steps
    computed = needed + (full_runs - samples) * plan.steps
    return Simulated(now + seconds, work + steps * costs.step, computed / needed - 1)


def _paths(plan: Plan, samples: int, workers: int, costs: Costs) -> tuple[float, int]:
    """Seconds and steps of the whole paths: in every round the workers make the paths that may come next."""
    seconds, steps = 0.0, 0
    for budget in plan.budgets:
        for tries in np.diff(np.linspace(0, plan.paths, ROUNDS + 1).round().astype(int)).tolist():
            runs = tries * samples
            seconds += max(math.ceil(runs / workers) * (budget * costs.step + costs.run), runs * costs.answer)
            steps += runs * budget
    return seconds, steps


def table(plan: Plan, samples: Sequence[int], workers: Sequence[int], costs: Costs) -> list[list[str]]:
    """Speed-up over one worker, [samples + 1][workers + 1], with heads."""
    rows = [["samples", "one GPU", *(f"{count} GPUs" for count in workers)]]
    for count in samples:
        alone = simulate(plan, count, 1, costs)
        found = [simulate(plan, count, number, costs) for number in workers]
        rows.append([str(count), f"{alone.seconds / 86400:.1f} days", *(f"{one.speed_up(alone):.0f}" for one in found)])
    return rows
