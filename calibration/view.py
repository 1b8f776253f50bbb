"""Error graphs, paths and schedules in plain JSON values, for a page to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..schedules import Rule, Schedule
from .graph import ErrorGraph
from .path import Path
from .segments import GraphError

REUSED_COST = {"output": 0.01, "residual": 0.06}
"""What a reused step costs, in computed ones, by the target of its rule.

Measured on a Wan with random weights of width 256 by tests/benchmarks/reuse_cost.py.
"""


def speedup(steps: int, computed: Sequence[int], rules: Sequence[Rule | None]) -> float:
    """How many times faster a run is than one that computes every step; a rule for every computed step."""
    cost = 0.0
    for start, end, rule in zip(computed, (*computed[1:], steps), rules, strict=True):
        cost += 1 + (end - start - 1) * (0.0 if rule is None else REUSED_COST[rule.target])
    return steps / cost


def schedule_view(schedule: Schedule) -> dict[str, object]:
    """A schedule for a list of them: without its sigmas, with its budget."""
    return {
        "name": schedule.name, "family": schedule.family, "steps": schedule.steps, "budget": schedule.budget,
        "computed": list(schedule.computed), "rules": [str(rule) for rule in schedule.rules], "origin": schedule.origin,
        "weights": [list(own) for own in schedule.weights],
    }


def calibration_entry(name: str, graph: ErrorGraph) -> dict[str, object]:
    """A calibration for a list of them."""
    lengths = graph.segments[:, 2] - graph.segments[:, 1]
    return {
        "name": name, "family": graph.family, "steps": graph.steps, "mode": graph.mode, "metric": graph.metric,
        "rules": [str(rule) for rule in graph.rules], "samples": len(graph.samples),
        "longest": int(lengths.max(initial=1)), "file": graph.model.file, "patches": graph.model.patches,
        "imported": graph.source.get("imported") is True,
    }


def calibration_view(name: str, graph: ErrorGraph, paths: Mapping[int, Path]) -> dict[str, object]:
    """A calibration with its cells and the curve of ``paths``, the best ones by budget."""
    return {
        **calibration_entry(name, graph),
        "sigmas": list(graph.sigmas),
        "samples": [{"prompt": sample.prompt, "seed": sample.seed} for sample in graph.samples],
        "cells": cells(graph),
        "curve": [curve_point(path) for _, path in sorted(paths.items())],
    }


def cells(graph: ErrorGraph) -> list[list[object]]:
    """Per measured segment [start, end, mean, worst, spread, rule], of the rule and step before with the least mean.

    Of equal ones the first in the order of the graph's rules. GraphError for errors too large to be added up.
    """
    with np.errstate(over="ignore"):
        values = np.stack([graph.mean(), graph.worst(), graph.spread()], axis=1)
    measured = np.flatnonzero(graph.measured())
    if not np.isfinite(values[measured]).all():
        raise GraphError("The errors of this calibration are too large to be added up: make it anew.")
    segments = graph.segments[measured]
    order = np.lexsort((segments[:, 3], values[measured, 0], segments[:, 2], segments[:, 1]))
    rows = zip(segments[order].tolist(), values[measured][order].tolist(), strict=True)
    best: dict[tuple[int, int], list[object]] = {}
    for (_, start, end, rule), errors in rows:
        best.setdefault((start, end), [start, end, *errors, str(graph.rules[rule])])
    return list(best.values())


def curve_point(path: Path) -> dict[str, object]:
    """What a budget costs and gains."""
    return {
        "budget": path.budget, "worst": path.worst, "total": path.total,
        "speedup": speedup(path.steps, path.computed, path.rules),
    }


def path_view(path: Path) -> dict[str, object]:
    """A solved path, with a rule for every computed step as a schedule has them."""
    schedule = path.to_schedule("path", "any")
    return {
        **curve_point(path), "steps": path.steps, "computed": list(path.computed),
        "rules": [str(rule) for rule in schedule.rules], "errors": list(path.segment_errors),
    }
