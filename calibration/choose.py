"""The schedule that a run gets when there may be calibrations: solved anew for its steps and its budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from ..schedules import (
    Library,
    Match,
    ModelIdentity,
    Rule,
    Schedule,
    Selection,
    same_grid,
    select,
)
from ..schedules.schedule import MAX_NAME
from ..schedules.select import few_steps_note
from .graph import ErrorGraph
from .problem import check_choices
from .regrid import fans, regrid
from .segments import GraphError
from .solver import SolverError, check_labels, solve
from .store import Calibrations

SHORTEST_REACH = 8
"""Segments of up to this many steps are solved on an interpolated graph at any budget; see ``_longest``."""


def choose(
    library: Library,
    calibrations: Calibrations,
    match: Match,
    sigmas: Sequence[float],
    *,
    preset: str | None = None,
    budget: int | None = None,
    name: str | None = None,
    rule: Rule | None = None,
) -> Selection:
    """As ``schedules.select``, which it asks first, but a calibration is solved for the very steps and budget.

    One on the same sigmas comes first, then the error graph of the one with the nearest number of steps, interpolated
    to these sigmas (see ``regrid``); what cannot be used is told in the note. A saved schedule of the wanted budget on
    these sigmas is taken before that, since its outcome was measured; so is one that was saved as the preset, and one
    that was chosen by name. Calibrations of another model file are not solved, unless by name. ``rule`` limits the
    solver to that rule.
    """
    known = name is not None and name in calibrations.names()
    selection = select(
        library, match, sigmas, preset=preset, budget=budget, name=None if known else name, rule=rule
    )
    if len(sigmas) < 3 or not known and (name is not None or _stays(selection.schedule, preset)):
        return selection
    wanted = selection.schedule.budget
    graphs = [(name, calibrations.get(name))] if known else calibrations.of_family(match.key)
    left_out = []
    for found, graph in sorted(graphs, key=lambda pair: _distance(pair[1], sigmas)):
        if known or _same_file(graph.model, match.identity):
            try:
                return _solution(found, graph, tuple(sigmas), wanted, rule)
            except (GraphError, SolverError) as error:
                left_out.append(f"calibration {found} does not fit: {str(error).rstrip('.')}")
    return replace(selection, note="; ".join([*left_out[:1], selection.note]))


def solved(name: str, graph: ErrorGraph, budget: int, rule: Rule | None = None) -> Schedule:
    """The lexicographic minimax schedule of a calibration.

    Raises:
        InfeasibleError: no path has this budget.
    """
    edges = [edge for edge in graph.edges() if rule in (None, edge.rule)]
    path = solve(edges, graph.steps, budget)
    source = {"calibration": name, "file": graph.model.file, "mode": graph.mode, "metric": graph.metric,
              "samples": len(graph.samples)}
    suffix = f"/{graph.steps}b{budget}"
    return path.to_schedule(f"{name[: MAX_NAME - len(suffix)].rstrip()}{suffix}", graph.family, graph.sigmas, source)


def _solution(
    name: str, graph: ErrorGraph, sigmas: tuple[float, ...], budget: int, rule: Rule | None
) -> Selection:
    """The selection that a calibration makes for a run.

    Raises:
        GraphError: the rule was not measured, or the graph does not reach as far as the sigmas.
        SolverError: no path has this budget, or there is too much to solve.
    """
    if rule not in (None, *graph.rules):
        raise GraphError(f"it has not measured {rule}")
    steps = len(sigmas) - 1
    schedule = _schedule(name, graph, sigmas, budget, rule)
    if same_grid(graph.sigmas, sigmas):
        note = f"solved from calibration {name} for {budget} of {steps} steps"
    else:
        note = (
            f"solved on the error graph of calibration {name} ({graph.steps} steps), interpolated to {steps} steps, of "
            f"which {budget} compute"
        )
    return Selection(schedule, "; ".join(filter(None, [note, few_steps_note(schedule)])))


@lru_cache(maxsize=32)
def _schedule(
    name: str, graph: ErrorGraph, sigmas: tuple[float, ...], budget: int, rule: Rule | None
) -> Schedule:
    """The schedule of a calibration on a grid, kept for as long as the same is asked again."""
    if same_grid(graph.sigmas, sigmas):
        return solved(name, graph, budget, rule)
    longest = _longest(len(sigmas) - 1, budget)
    _check_size(graph, sigmas, longest, budget, rule)
    schedule = solved(name, _regridded(graph, sigmas, longest), budget, rule)
    source = {**schedule.source, "origin": "calibrated", "interpolated_from": graph.steps}
    return replace(schedule, origin="resampled", source=source)


def _check_size(
    graph: ErrorGraph, sigmas: tuple[float, ...], longest: int, budget: int, rule: Rule | None
) -> None:
    """SolverError where the graph on these sigmas would be too large to be solved; told before it is made."""
    every = fans(graph, sigmas, longest, rule)
    ends = np.max([ends for ends, _ in every], axis=0)
    befores = np.max([befores for _, befores in every], axis=0)
    steps, count = len(ends), int((ends * befores).sum())
    check_choices(count, count, steps)
    left = np.minimum(np.arange(steps, 0, -1), budget)
    check_labels(befores.tolist(), int((ends * befores * left).sum()), count, longest, budget)


def _longest(steps: int, budget: int) -> int:
    """Twice the mean segment, as minimax paths keep far below that; so that 100 steps are solved in seconds."""
    return max(SHORTEST_REACH, 2 * -(-steps // budget))


@lru_cache(maxsize=4)
def _regridded(graph: ErrorGraph, sigmas: tuple[float, ...], longest: int) -> ErrorGraph:
    return regrid(graph, sigmas, longest)


def _distance(graph: ErrorGraph, sigmas: Sequence[float]) -> tuple[bool, int]:
    """What is sorted by: the same grid first, then by how many steps more or fewer."""
    return not same_grid(graph.sigmas, sigmas), abs(graph.steps - (len(sigmas) - 1))


def _stays(schedule: Schedule, preset: str | None) -> bool:
    """Whether it is as it was saved, with a measured outcome or as this preset."""
    saved = schedule.source
    asked = preset is not None and saved.get("preset") == preset
    return schedule.origin == "calibrated" and (asked or "measured" in saved)


def _same_file(model: ModelIdentity, other: ModelIdentity) -> bool:
    return None in (model.file, other.file) or model.file == other.file
