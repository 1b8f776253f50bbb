"""What records of one kind and grid teach: the error graph, and the schedules that follow from it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np

from ...schedules import DENOISED, OUTPUT_FITTED, Rule, Schedule, ScheduleError
from ..fitted_paths import EARLY, EARLY_WEIGHT, LATE, FittedPaths
from ..graph import ErrorGraph
from ..references.closed_loop import added, fitted
from ..references.segment_errors import segment_errors
from ..references.whole_path import final_error
from ..sample import Sample
from ..segments import all_segments
from ..solved import solved
from .record import Record
from .refined import Refined

logger = logging.getLogger("LeMiCa")

NAME = "learned"
"""What its schedules are called."""

RULES = (Rule("output", "hold"), Rule("output", "half"), Rule("output", "linear"))
"""Fixed ones: nothing that follows from full runs alone says what fitted weights do to a whole path. Accelerated runs do."""

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
        """The schedule with this budget: with weights where accelerated runs told what they do, else the minimax path, or
        that of several whose simulated final error is smallest.

        Raises:
            InfeasibleError: no path has this budget.
        """
        return _refined(self.records, self.graph, budget) or _schedule(self.records, self.graph, budget)


def refined_of(records: Sequence[Record], budget: int) -> list[Refined]:
    """What accelerated runs told of one path with this budget: of the newest that has one."""
    of_budget = [one for record in records for one in record.refined if len(one.computed) == budget]
    return [one for one in of_budget if one.computed == of_budget[0].computed]


def path_to_refine(records: Sequence[Record], budget: int) -> tuple[int, ...]:
    """The computed steps of the path that is refined for a budget: that of earlier runs, or the minimax path of segments with
    weights."""
    known = refined_of(records, budget)
    if known:
        return known[0].computed
    steps = len(records[0].sigmas) - 1
    graph = _graph(tuple(records), (OUTPUT_FITTED,), _longest(steps))
    return FittedPaths(graph, safe=True).candidates(budget)[0].computed


@lru_cache(maxsize=32)
def _refined(records: tuple[Record, ...], graph: ErrorGraph, budget: int) -> Schedule | None:
    """The schedule whose weights accelerated runs told; None where there are none, or no weights follow."""
    known = refined_of(records, budget)
    if not known:
        return None
    computed, errors = known[0].computed, [one.error for one in known]
    noise = {"carries": DENOISED} if records[0].response.noise else {}
    try:
        return Schedule(
            f"{NAME}/{graph.steps}b{budget}", graph.family, graph.steps, computed, (OUTPUT_FITTED,) * budget, "learned",
            graph.sigmas,
            {
                **graph.provenance(NAME), "refined": len(known), **noise,
                "measured": {"mean": float(np.mean(errors)), "worst": max(errors)},
            },
            fitted(graph.sigmas, computed, added([one.told for one in known])),
        )
    except (ScheduleError, np.linalg.LinAlgError) as error:  # numbers that no run of ours has
        logger.warning("Fitted weights left out: %s", error)
        return None


@lru_cache(maxsize=8)
def learned_from(records: tuple[Record, ...]) -> Learned:
    """What these records teach, worked out once for as long as their files stay the same."""
    return Learned(records, _graph(records, RULES, _longest(len(records[0].sigmas) - 1)))


def _longest(steps: int) -> int:
    return min(steps, LONGEST if steps <= MANY else LONGEST_OF_MANY)


def _graph(records: tuple[Record, ...], rules: tuple[Rule, ...], longest: int) -> ErrorGraph:
    """The errors of segments of up to ``longest`` steps under these rules."""
    newest = records[0]
    kind, rows = newest.kind, all_segments(len(newest.sigmas) - 1, longest, rules)
    return ErrorGraph(
        family=kind.family, model=kind.model, sigmas=newest.sigmas, mode="short", metric="l2", rules=rules,
        samples=tuple(
            Sample(f"{datetime.fromtimestamp(record.made):%Y-%m-%d %H:%M:%S.%f}", record.seed) for record in records
        ),
        segments=rows, errors=segment_errors(newest.segments, [record.gram for record in records], rows, rules),
        setup={"sampler": kind.sampler, **kind.guidance, "latent": list(kind.latent)}, source={"learned": True},
    )


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
