"""The schedule that a run gets when there may be calibrations: solved anew for its steps and its budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from ..schedules import (
    Library,
    Match,
    Rule,
    Schedule,
    Selection,
    claimed,
    other_file,
    other_patches,
    same_grid,
    select,
)
from ..schedules.select import few_steps_note
from .graph import ErrorGraph
from .learning.learned import NAME, Learned
from .problem import check_choices
from .regrid import fans, regrid
from .segments import GraphError
from .solved import solved
from .solver import SolverError, check_labels
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
    learned: Sequence[Learned] = (),
) -> Selection:
    """As ``schedules.select``, which it asks first, but a calibration is solved for the very steps and budget.

    Of what there is, that of this model comes before that of the same file with other patches; then that on the same
    sigmas before an error graph that is interpolated to them (see ``regrid``), the nearest number of steps first; then
    what was measured as a whole, or saved as this very preset, before what is solved, and that before a predicted one
    that was saved; of graphs, calibrations before ``learned`` ones, which are of runs of this very kind. Everything else
    that ``select`` finds comes last. What cannot be used is told in the note.
    Calibrations of another model file are not solved, unless by name. With ``rule`` only segments under that rule are
    solved; where no calibration measured it, the rules of what ``select`` finds are replaced.
    """
    known = name is not None and name in calibrations.names()
    selection = select(
        library, match, sigmas, preset=preset, budget=budget, name=None if known else name, rule=rule
    )
    if len(sigmas) < 3 or name is not None and not known:
        return selection
    wanted = selection.schedule.budget
    graphs = [(name, calibrations.get(name))] if known else calibrations.of_family(match.key)
    taught = {} if known else {one.graph: one for one in learned}
    graphs += [(NAME, graph) for graph in taught]
    found = _standing(selection, match)
    left_out = []
    for known_as, graph in sorted(graphs, key=lambda pair: _graph_standing(pair[1], match, sigmas)):
        if not known and found < _graph_standing(graph, match, sigmas):
            break
        if known or not other_file(graph.model.file, match.identity):
            try:
                return _solution(known_as, graph, match, tuple(sigmas), wanted, rule, taught.get(graph))
            except (GraphError, SolverError) as error:
                left_out.append(f"{_called(known_as, graph)} does not fit: {str(error).rstrip('.')}")
    return replace(selection, note="; ".join([*left_out[:1], selection.note]))


def _solution(
    name: str, graph: ErrorGraph, match: Match, sigmas: tuple[float, ...], budget: int, rule: Rule | None,
    learned: Learned | None,
) -> Selection:
    """The selection that a calibration, or what was ``learned``, makes for a run.

    Raises:
        GraphError: the rule was not measured, or the graph does not reach as far as the sigmas.
        SolverError: no path has this budget, or there is too much to solve.
    """
    if rule not in (None, *graph.rules):
        raise GraphError(f"it has not measured {rule}")
    steps = len(sigmas) - 1
    here = same_grid(graph.sigmas, sigmas)
    if here and learned and rule is None:
        schedule = learned.schedule(budget)
    else:
        schedule = _schedule(name, graph, sigmas, budget, rule)
    if here and schedule.weights:
        note = f"fitted to {schedule.source['refined']} of your pictures for {budget} of {steps} steps"
    elif here:
        note = f"solved from {_called(name, graph)} for {budget} of {steps} steps"
    else:
        note = (
            f"solved on the error graph of {_called(name, graph)} ({graph.steps} steps), interpolated to {steps} steps, of "
            f"which {budget} compute"
        )
    schedule, why = claimed(schedule, match.identity)
    return Selection(schedule, "; ".join(filter(None, [note, why, few_steps_note(schedule)])))


def _called(name: str, graph: ErrorGraph) -> str:
    """What a graph is of, in words."""
    return f"{len(graph.samples)} of your pictures" if graph.learned else f"calibration {name}"


@lru_cache(maxsize=8)
def _schedule(
    name: str, graph: ErrorGraph, sigmas: tuple[float, ...], budget: int, rule: Rule | None
) -> Schedule:
    """The schedule of a calibration on a grid, kept for as long as the same is asked again."""
    if same_grid(graph.sigmas, sigmas):
        return solved(name, graph, budget, rule)
    longest = _longest(len(sigmas) - 1, budget)
    _check_size(graph, sigmas, longest, budget, rule)
    schedule = solved(name, _regridded(graph, sigmas, longest), budget, rule)
    source = {**schedule.source, "origin": schedule.origin, "interpolated_from": graph.steps}
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


def _graph_standing(graph: ErrorGraph, match: Match, sigmas: Sequence[float]) -> tuple[float, ...]:
    """What comes first, see ``choose``: other patches, other sigmas, saved or measured, learned, how many steps more or
    fewer."""
    steps = abs(graph.steps - (len(sigmas) - 1))
    return other_patches(graph.model.patches, match.identity), not same_grid(graph.sigmas, sigmas), 1, graph.learned, steps


def _standing(selection: Selection, match: Match) -> tuple[float, ...]:
    """Where what ``select`` found stands among the error graphs."""
    schedule = selection.schedule
    if selection.saved or schedule.origin == "calibrated":
        return False, False, 0
    if schedule.origin == "predicted":
        return False, False, 2
    if schedule.origin == "borrowed" and not other_file(schedule.source.get("file"), match.identity):
        return True, False, 0
    return True, True, 2
