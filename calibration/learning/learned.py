"""What records of one kind and grid teach: the error graph, and the schedules that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np

from ...schedules import Rule, Schedule
from ..fitted_paths import EARLY, EARLY_WEIGHT, LATE
from ..graph import ErrorGraph
from ..references.segment_errors import segment_errors
from ..references.whole_path import final_error
from ..sample import Sample
from ..segments import all_segments
from ..solved import solved
from .record import Record

NAME = "learned"
"""What its schedules are called."""

RULES = (Rule("output", "hold"), Rule("output", "half"), Rule("output", "linear"))
"""Fixed ones: nothing that follows from full runs alone says what fitted weights do to a whole path."""

LONGEST, LONGEST_OF_MANY, MANY = 16, 8, 64
"""The longest segment, in steps; in runs of more than MANY steps, so that they are solved in seconds."""

SIMULATED = 1 / 3
"""From which share of computed steps on the simulated error of whole paths decides between several; see ``whole_path``."""

PATHS = (("minimax", 1.0), ("shortest", 2.0))
"""Of these paths: objective, and the power of errors that it goes by."""


@dataclass(frozen=True, eq=False, slots=True)
class Learned:
    """The error graph of records, which are of one kind and grid, the newest first."""

    records: tuple[Record, ...]
    graph: ErrorGraph

    def schedule(self, budget: int) -> Schedule:
        """The schedule with this budget: the minimax path, or that of several whose simulated final error is smallest.

        Raises:
            InfeasibleError: no path has this budget.
        """
        return _schedule(self.records, self.graph, budget)


@lru_cache(maxsize=8)
def learned_from(records: tuple[Record, ...]) -> Learned:
    """What these records teach, worked out once for as long as their files stay the same."""
    newest = records[0]
    steps = len(newest.sigmas) - 1
    rows = all_segments(steps, min(steps, LONGEST if steps <= MANY else LONGEST_OF_MANY), RULES)
    kind = newest.kind
    graph = ErrorGraph(
        family=kind.family, model=kind.model, sigmas=newest.sigmas, mode="short", metric="l2", rules=RULES,
        samples=tuple(
            Sample(f"{datetime.fromtimestamp(record.made):%Y-%m-%d %H:%M:%S.%f}", record.seed) for record in records
        ),
        segments=rows, errors=segment_errors(newest.segments, [record.gram for record in records], rows, RULES),
        setup={"sampler": kind.sampler, **kind.guidance, "latent": list(kind.latent)}, source={"learned": True},
    )
    return Learned(records, graph)


@lru_cache(maxsize=32)
def _schedule(records: tuple[Record, ...], graph: ErrorGraph, budget: int) -> Schedule:
    first = solved(NAME, graph, budget)
    if budget < SIMULATED * graph.steps:
        return first
    done, mean = graph.segments[:, 1] / graph.steps, graph.mean()
    candidates = [first]
    for early in (1.0, EARLY_WEIGHT):
        for late, share in LATE:
            weights = 1 + (early - 1) * np.maximum(0.0, 1 - done / EARLY) + (late - 1) * np.maximum(0.0, 1 - (1 - done) / share)
            candidates += [
                solved(NAME, graph, budget, values=(mean * weights) ** power, objective=objective)
                for objective, power in PATHS
            ]
    segments, grams = records[0].segments, [record.gram for record in records]
    unique = {(one.computed, one.rules): one for one in candidates}.values()
    return min(unique, key=lambda one: final_error(segments, grams, one))
