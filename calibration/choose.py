"""The schedule that a run gets when there may be calibrations: solved anew for its budget where one fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..schedules import (
    Library,
    Match,
    ModelIdentity,
    Rule,
    Schedule,
    Selection,
    preset_budget,
    same_grid,
    select,
)
from .graph import ErrorGraph
from .solver import InfeasibleError, solve
from .store import Calibrations


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
    """As ``schedules.select``, which it asks first, but a calibration on the same sigmas is solved for the very budget.

    A saved schedule of the wanted budget on these sigmas is taken before that, since its outcome was measured; so is
    one that was chosen by name. Calibrations of another model file are not solved. ``rule`` limits the solver to that
    rule where the calibration measured it.
    """
    if name is not None and name in calibrations.names():
        graphs = [(name, calibrations.get(name))]
    else:
        selection = select(library, match, sigmas, preset=preset, budget=budget, name=name, rule=rule)
        if name is not None or len(sigmas) < 3 or _is_measured(selection.schedule):
            return selection
        graphs = calibrations.of_family(match.key)
    steps = len(sigmas) - 1
    wanted = preset_budget(match, preset or "medium", steps) if budget is None else budget
    for found, graph in graphs:
        fits = same_grid(graph.sigmas, sigmas) and (rule is None or rule in graph.rules)
        if fits and (name is not None or _same_file(graph.model, match.identity)):
            try:
                schedule = solved(found, graph, wanted, rule)
            except InfeasibleError:
                continue
            return Selection(schedule, f"solved from calibration {found} for {wanted} of {steps} steps")
    if name is not None:
        selection = select(library, match, sigmas, preset=preset, budget=budget, rule=rule)
        return replace(selection, note=f"calibration {name} does not fit these sigmas; {selection.note}")
    return selection


def solved(name: str, graph: ErrorGraph, budget: int, rule: Rule | None = None) -> Schedule:
    """The lexicographic minimax schedule of a calibration.

    Raises:
        InfeasibleError: no path has this budget.
    """
    edges = [edge for edge in graph.edges() if rule in (None, edge.rule)]
    path = solve(edges, graph.steps, budget)
    source = {"calibration": name, "file": graph.model.file, "mode": graph.mode, "metric": graph.metric,
              "samples": len(graph.samples)}
    return path.to_schedule(f"{name}/{graph.steps}b{budget}", graph.family, graph.sigmas, source)


def _is_measured(schedule: Schedule) -> bool:
    return schedule.origin == "calibrated" and "measured" in schedule.source


def _same_file(model: ModelIdentity, other: ModelIdentity) -> bool:
    return None in (model.file, other.file) or model.file == other.file
