"""What the solver is given: edges with their errors and constraints, and from them what can be done in every state.

The steps of a run and the sink N are the nodes of a directed acyclic graph, the segments are its edges: (i, j)
computes step i and reuses it for i+1 .. j-1. A segment of length 1 reuses nothing and has error 0, so it is there
without being given. A path from step 0 to the sink with B edges computes exactly B steps.

Errors may depend on the computed step before the segment as well, as they do for rules with a slope. The state is
then a pair of steps (second order) rather than a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ..schedules.schedule import MAX_STEPS, Rule, is_count, shown

OBJECTIVES = ("minimax", "shortest")

MAX_CHOICES = 1 << 21
"""Of all states together, which take about 300 bytes each."""

MAX_WEIGHTS = 1 << 30
"""The bytes that the weights of all errors may take."""


class SolverError(ValueError):
    """The edges, the constraints or the budget do not describe a problem that can be solved."""


class InfeasibleError(SolverError):
    """No path has this budget; ``nearest`` holds the feasible budgets next to it, below and above."""

    def __init__(self, message: str, nearest: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.nearest = nearest


class Edge(NamedTuple):
    """The error of the segment (start, end) under one rule, where ``before`` is the computed step before ``start``.

    ``before`` is -1 where that step does not matter: for rules without a slope, at step 0, in first-order graphs.
    """

    before: int
    start: int
    end: int
    rule: Rule
    error: float


@dataclass(frozen=True, slots=True)
class Constraints:
    """What every path has to keep to, on top of what the graph offers.

    ``tail``: whether the last steps of the run may be reused; when not, step N-1 is computed, as in the published
    lists. ``first``: this many steps are computed at the start. ``fixed``: steps that are always computed.
    ``reused``: steps that are never computed. ``forbidden``: segments (i, j) that are never taken.
    """

    tail: bool = True
    first: int = 1
    fixed: Collection[int] = ()
    reused: Collection[int] = ()
    forbidden: Collection[tuple[int, int]] = ()


class Choice(NamedTuple):
    """A segment to take from a state: where it leads, and what it costs."""

    end: int
    before: int
    error: float
    rule: Rule | None
    weight: int


# By start, then by the step before it, in the order of their ends. Without a second order every ``before`` is -1.
Choices = list[dict[int, list[Choice]]]


def choices_of(edges: Iterable[Edge], steps: int, constraints: Constraints, objective: str) -> Choices:
    """What can be done in every state: every allowed segment once, with the best of its rules."""
    if not is_count(steps) or not 1 <= steps <= MAX_STEPS:
        raise SolverError(f"steps is {steps!r}: give a whole number from 1 to {MAX_STEPS}.")
    if objective not in OBJECTIVES:
        raise SolverError(f"The objective {objective!r} is unknown: choose one of {', '.join(OBJECTIVES)}.")
    allowed = _allowed(constraints, steps)
    places: dict[Rule, int] = {}
    best: dict[tuple[int, int], dict[int, tuple[float, int]]] = {}  # {(start, before): {end: (error, place of rule)}}
    entered = [{step - 1} for step in range(steps)]  # from where a step may be entered; step 0 from nowhere
    second_order = False
    for edge in edges:
        before, start, end, rule, error = _checked(edge, steps)
        place = places.setdefault(rule, len(places))
        second_order |= before >= 0
        if allowed(start, end):
            ends = best.setdefault((start, before), {})
            ends[end] = min((error, place), ends.get(end, (error, place)))
            if end < steps:
                entered[end].add(start)

    ahead = [len(best.get((start, -1), ())) for start in range(steps)]
    count = sum(len(ends) for (_, before), ends in best.items() if before >= 0)
    count += sum((len(states) if second_order else 1) * one for states, one in zip(entered, ahead, strict=True))
    errors = len({(start, error) for (start, _), ends in best.items() for error, _ in ends.values()})
    check_choices(count, errors, steps, objective)
    options: list[dict[int, dict[int, tuple[float, int]]]] = []
    for start in range(steps):
        states = entered[start] if second_order else {-1}
        options.append({before: dict(best.get((start, -1), {})) for before in states})
        for before, ends in options[-1].items():
            for end, option in best.get((start, before), {}).items():
                ends[end] = min(option, ends.get(end, option))

    starts: dict[float, set[int]] = {}
    for start, states in enumerate(options):
        for error in {error for ends in states.values() for error, _ in ends.values()}:
            starts.setdefault(error, set()).add(start)
    weights = _weights({error: len(found) for error, found in starts.items()}, objective)
    rules = list(places)
    choices: Choices = [{} for _ in range(steps)]
    for start, states in enumerate(options):
        for before, ends in states.items():
            found = choices[start][before] = []
            if allowed(start, start + 1):
                found.append(Choice(start + 1, start if second_order else -1, 0.0, None, 0))
            for end, (error, place) in sorted(ends.items()):
                found.append(Choice(end, start if second_order else -1, error, rules[place], weights[error]))
    return choices


def check_choices(count: int, errors: int, steps: int, objective: str = "minimax") -> None:
    """SolverError for so many choices, of so many different errors, that they would take the machine's memory."""
    weights = errors * errors // 16 * (1 if objective == "minimax" else 2)
    if count > MAX_CHOICES or weights > MAX_WEIGHTS:
        raise too_large(steps)


def too_large(steps: int) -> SolverError:
    """What to tell of a problem that would take the machine's memory, or minutes."""
    return SolverError(
        f"This error graph of {steps} steps is too large to be solved: measure shorter segments, or fewer steps."
    )


def _weights(starts: dict[float, int], objective: str) -> dict[float, int]:
    """An integer for every distinct error, so that sums of them compare as the objective wants; see `solve`.

    ``starts``: at how many steps a segment with this error starts. A path leaves every step once, so this bounds how
    often it can meet the error, and with it the digit that counts it.
    """
    digits = {0.0: 0}
    width = 0
    for error in sorted(starts.keys() - {0.0}):
        digits[error] = 1 << width
        width += starts[error].bit_length()
    if objective == "minimax":
        return digits
    ratios = {error: error.as_integer_ratio() for error in digits}
    unit = max(denominator for _, denominator in ratios.values())
    # Taken out one by one, as both together would need half as much again.
    return {error: (n * (unit // d) << width) + digits.pop(error) for error, (n, d) in ratios.items()}


def _checked(edge: Edge, steps: int) -> Edge:
    """The edge with a float error; SolverError when it fits no run of N steps."""
    before, start, end, rule, error = edge
    if not (0 <= start <= end - 2 and end <= steps and (before == -1 or 0 <= before < start)):
        raise SolverError(
            f"Edge {tuple(edge)!r} is no segment of {steps} steps: give a start from 0, an end from start + 2 "
            f"to {steps}, and -1 or a step before start."
        )
    if not 0 <= error < math.inf:
        raise SolverError(f"The error of segment {(start, end)} with {rule} is {error}: give a finite one, 0 or more.")
    return Edge(before, start, end, rule, float(error))


def _allowed(constraints: Constraints, steps: int) -> Callable[[int, int], bool]:
    """Whether the constraints allow a segment; SolverError when they fit no run of N steps."""
    if not is_count(constraints.first) or not 1 <= constraints.first <= steps:
        raise SolverError(f"first is {constraints.first!r}: give a number of steps from 1 to {steps}.")
    for step in (*constraints.fixed, *constraints.reused):
        if not is_count(step) or not 0 <= step < steps:
            raise SolverError(f"There is no step {shown(step)} to fix or to reuse: the steps are 0 to {steps - 1}.")
    for pair in constraints.forbidden:
        if len(pair) != 2 or not all(is_count(end) for end in pair) or not 0 <= pair[0] < pair[1] <= steps:
            raise SolverError(f"{pair!r} is no segment to forbid: give pairs (i, j) with 0 <= i < j <= {steps}.")
    fixed = {*range(constraints.first), *constraints.fixed, *(() if constraints.tail else (steps - 1,))}
    reused = set(constraints.reused)
    if fixed & reused:
        raise SolverError(f"Step {min(fixed & reused)} has to be computed, so it cannot be reused: drop one of the two.")
    forbidden = {tuple(pair) for pair in constraints.forbidden}
    furthest = [steps] * steps
    for step in reversed(range(1, steps)):
        furthest[step - 1] = step if step in fixed else furthest[step]

    def allowed(start: int, end: int) -> bool:
        return end <= furthest[start] and reused.isdisjoint((start, end)) and (start, end) not in forbidden

    return allowed
