"""What came of a calibration, in words and as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..calibration import ErrorGraph, Path, sweep
from ..calibration.draw import number
from ..calibration.job import duration
from ..calibration.outcome import Route
from ..calibration.picture import combined
from ..schedules import Rule
from .types import Calibrated

SWEEPS = {"minimax": "minimax", "shortest path": "shortest"}
"""What the picture and the solve node call the objectives of the solver."""


def path_of(graph: ErrorGraph, route: Route) -> Path:
    """A route with the errors that the graph predicts for its segments, NaN where it has none, as for fitted ones."""
    known = {edge[:4]: edge.error for edge in graph.edges()}
    rules: list[Rule | None] = []
    errors: list[float] = []
    befores, ends = (-1, *route.computed[:-1]), (*route.computed[1:], graph.steps)
    for before, start, end, rule in zip(befores, route.computed, ends, route.rules, strict=True):
        reuses = end - start > 1
        predicted = known.get((before, start, end, rule), known.get((-1, start, end, rule), math.nan))
        rules.append(rule if reuses else None)
        errors.append(predicted if reuses else 0.0)
    return Path(graph.steps, route.computed, tuple(rules), tuple(errors))


def summary(calibrated: Calibrated, spent: int, seconds: float, saved: Sequence[str]) -> str:
    """The calibration as Markdown: what was measured, at what cost, and the schedule of every budget."""
    graph = calibrated.graph
    lines = [
        f"**{calibrated.name}**: {graph.family}, {graph.steps} steps, {graph.mode} mode, "
        f"{counted(len(graph.samples), 'sample')}, measured in {calibrated.metric}",
        "",
        f"{counted(spent, 'model step')} computed in {duration(seconds)}, as many as "
        f"{number(spent / graph.steps)} full runs",
        "",
        "| budget | computed steps | rules | predicted worst | measured mean | measured worst |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for budget, outcome in sorted(calibrated.outcomes.items(), reverse=True):
        path = path_of(graph, outcome.route)
        predicted = "-" if any(map(math.isnan, path.segment_errors)) else number(path.worst)
        measured = f"{number(np.mean(outcome.errors))} | {number(max(outcome.errors))}"
        computed = " ".join(map(str, path.computed))
        lines.append(f"| {budget} | {computed} | {rules_of(path)} | {predicted} | {measured} |")
    return "\n".join([*lines, "", f"Saved in {' and '.join(saved)}.", ""])


def picture_of(calibrated: Calibrated) -> Image.Image:
    """The error graph with the chosen paths, and the curves over all budgets."""
    graph = calibrated.graph
    chosen = sorted(calibrated.outcomes.items(), reverse=True)
    paths = [path_of(graph, outcome.route) for _, outcome in chosen]
    measured = {budget: float(np.mean(outcome.errors)) for budget, outcome in chosen}
    edges = graph.edges()
    sweeps = {name: sweep(edges, graph.steps, objective=objective) for name, objective in SWEEPS.items()}
    metric = "" if calibrated.metric == graph.metric else f", {calibrated.metric} error of the whole run"
    return combined(
        graph, paths, sweeps, measured, highlight=min(1, max(len(paths) - 1, 0)), measured_as=f"measured{metric}"
    )


def rules_of(path: Path) -> str:
    """The rules of a path's reusing segments, each with how often it is taken where they differ."""
    used = [rule for rule in path.rules if rule is not None]
    kinds = list(dict.fromkeys(used))
    if len(kinds) == 1:
        return str(kinds[0])
    return ", ".join(f"{used.count(rule)} x {rule}" for rule in kinds) or "none"


def counted(count: int, what: str) -> str:
    """A number with its noun."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
