"""Lexicographic minimax paths through an error graph: which steps of a run to compute.

The steps of a run and the sink N are the nodes of a directed acyclic graph, the segments are its edges: (i, j)
computes step i and reuses it for i+1 .. j-1. A segment of length 1 reuses nothing and has error 0, so it is there
without being given. A path from step 0 to the sink with B edges computes exactly B steps.

Errors may depend on the computed step before the segment as well, as they do for rules with a slope. The state is
then a pair of steps (second order) rather than a step.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..schedules.schedule import MAX_STEPS, Rule, Schedule, is_count, shown

__all__ = ["OBJECTIVES", "Constraints", "Edge", "InfeasibleError", "Path", "SolverError", "solve", "sweep"]

OBJECTIVES = ("minimax", "shortest")

MAX_LABELS = 4 << 30
"""The bytes that labels may take, as far as that can be told beforehand; they take about a third of it."""

MAX_ADDED = 100 << 30
"""The bytes of all labels that are added up, which is some ten seconds."""

_HOLD = Rule("output", "hold")


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


@dataclass(frozen=True, slots=True)
class Path:
    """A path from step 0 to the sink: the computed steps, and the rule and the error of the segment that each opens.

    The rule is None for a segment that reuses nothing.
    """

    steps: int
    computed: tuple[int, ...]
    rules: tuple[Rule | None, ...]
    segment_errors: tuple[float, ...]

    @property
    def budget(self) -> int:
        """The number of computed steps."""
        return len(self.computed)

    @property
    def errors(self) -> tuple[float, ...]:
        """The errors in descending order: what the minimax path has lexicographically smallest."""
        return tuple(sorted(self.segment_errors, reverse=True))

    @property
    def worst(self) -> float:
        """The largest error of a segment."""
        return max(self.segment_errors)

    @property
    def total(self) -> float:
        """The sum of the errors."""
        return math.fsum(self.segment_errors)

    def segments(self) -> tuple[tuple[int, int], ...]:
        """The segments (i, j) in order; the last one ends at N, the sink."""
        return tuple(zip(self.computed, (*self.computed[1:], self.steps), strict=True))

    def to_schedule(
        self,
        name: str,
        family: str,
        sigmas: tuple[float, ...] | None = None,
        source: Mapping[str, object] | None = None,
    ) -> Schedule:
        """The calibrated schedule of this path; its source is ``source`` with the predicted worst and total error.

        A schedule has a rule for every computed step: a segment that reuses nothing takes the rule of the next one
        that does, or else of the last one before it.
        """
        rules: list[Rule] = []
        following = next((rule for rule in reversed(self.rules) if rule is not None), _HOLD)
        for rule in reversed(self.rules):
            following = following if rule is None else rule
            rules.append(following)
        return Schedule(
            name=name,
            family=family,
            steps=self.steps,
            computed=self.computed,
            rules=tuple(reversed(rules)),
            origin="calibrated",
            sigmas=sigmas,
            source={**(source or {}), "predicted": {"worst": self.worst, "total": self.total}},
        )


def solve(
    edges: Iterable[Edge],
    steps: int,
    budget: int,
    constraints: Constraints = Constraints(),
    *,
    objective: str = "minimax",
) -> Path:
    """Return the best path that computes exactly ``budget`` of ``steps`` steps.

    Parameters
    ----------
    edges : iterable of Edge
        Errors of segments of length 2 and more. A segment may have several rules; the best one is taken. An edge
        whose ``before`` is -1 holds after any computed step.
    steps : int
        N, the number of steps of the run, and the sink.
    budget : int
        B, the exact number of computed steps.
    constraints : Constraints
        What the path has to keep to.
    objective : {"minimax", "shortest"}
        ``minimax``: the lexicographically smallest vector of descending errors (eq. 5 of [1]_). ``shortest``: the
        smallest sum of errors (compared in Table 3 of [1]_); of equal sums the lexicographically smallest vector.

    Returns
    -------
    Path
        The best path. Of equally good ones the one with the lexicographically smallest tuple of computed steps; of
        equally good rules on a segment the one that comes first in ``edges``.

    Raises
    ------
    InfeasibleError
        If no path has this budget; it names the nearest budgets that have one.
    SolverError
        If an edge, the constraints, the budget or the objective is invalid.

    See Also
    --------
    sweep : The best paths of all budgets at once.

    Notes
    -----
    The label of a state and a count c of computed steps is the best vector of errors among the paths from there to
    the sink with c edges. One label is exact. Vectors of one length, sorted in descending order, compare like their
    counts: u is before v when, at the largest value that they hold unequally often, u holds it less often. One more
    edge adds the same value to both, which changes both counts alike, so it keeps the order of u and v, and keeps
    equal ones equal. A suffix of a path may hence always be replaced by the best one with the same state and count,
    and the lists of tied paths in Algorithm 1 of [1]_, whose number can grow exponentially, are not needed.

    For the same reason the smallest path is found from the labels alone: the smallest next step that still leads to
    the best vector, again and again from step 0. Equal vectors have equal sums, so the total breaks no tie here.

    Counts per distinct error are the digits of one integer, the largest error in the highest place: adding an edge is
    an addition, and comparing vectors is comparing integers. Sums of errors are integers as well, in units of the
    smallest binary place that an error has, so nothing is rounded. With E edges the sweep takes O(E N) additions of
    integers with up to E bits, one per edge where all errors differ.

    References
    ----------
    .. [1] Gao et al., "LeMiCa: Lexicographic Minimax Path Caching for Efficient Diffusion-Based Video Generation",
       NeurIPS 2025, https://arxiv.org/abs/2511.00090

    Examples
    --------
    >>> hold = Rule("output", "hold")
    >>> edges = [Edge(-1, 0, 2, hold, 0.9), Edge(-1, 1, 3, hold, 0.3), Edge(-1, 2, 4, hold, 0.2)]
    >>> path = solve(edges, steps=4, budget=3)
    >>> path.computed, path.errors
    ((0, 1, 2), (0.2, 0.0, 0.0))
    >>> solve(edges, steps=4, budget=1)
    Traceback (most recent call last):
        ...
    lemica.calibration.solver.InfeasibleError: No path computes exactly 1 of 4 steps: the nearest budget is 2.
    """
    choices = _choices(edges, steps, constraints, objective)
    if not is_count(budget) or not 1 <= budget <= steps:
        raise SolverError(f"The budget is {shown(budget)}: give a whole number from 1 to {steps}.")
    best = _best(choices, budget)
    if budget in best[0][-1]:
        return _walk(best, budget)
    feasible = _feasible(_best(choices, steps))
    below = [other for other in feasible if other < budget]
    above = [other for other in feasible if other > budget]
    nearest = (*below[-1:], *above[:1])
    advice = f"budget is {nearest[0]}" if len(nearest) == 1 else f"budgets are {nearest[0]} and {nearest[1]}"
    raise InfeasibleError(f"No path computes exactly {budget} of {steps} steps: the nearest {advice}.", nearest)


def sweep(
    edges: Iterable[Edge],
    steps: int,
    constraints: Constraints = Constraints(),
    *,
    objective: str = "minimax",
) -> dict[int, Path]:
    """Return the best path of every budget that has one, by budget in increasing order.

    Parameters
    ----------
    edges, steps, constraints, objective
        As for `solve`.

    Returns
    -------
    dict of int to Path
        The paths that `solve` gives, found in one pass.

    Raises
    ------
    InfeasibleError
        If no budget has a path.
    SolverError
        If an edge, the constraints or the objective is invalid.

    Notes
    -----
    The worst error falls with the budget, or stays, when no segment has a smaller error than a segment inside it, as
    any path can then be refined. Measured errors need not be like that, those of the second order least of all.
    """
    best = _best(_choices(edges, steps, constraints, objective), steps)
    return {budget: _walk(best, budget) for budget in _feasible(best)}


class _Choice(NamedTuple):
    """A segment to take from a state: where it leads, and what it costs."""

    end: int
    before: int
    error: float
    rule: Rule | None
    weight: int


# By start, then by the step before it, in the order of their ends. Without a second order every ``before`` is -1.
_Choices = list[dict[int, list[_Choice]]]


def _choices(edges: Iterable[Edge], steps: int, constraints: Constraints, objective: str) -> _Choices:
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
    choices: _Choices = [{} for _ in range(steps)]
    for start, states in enumerate(options):
        for before, ends in states.items():
            found = choices[start][before] = []
            if allowed(start, start + 1):
                found.append(_Choice(start + 1, start if second_order else -1, 0.0, None, 0))
            for end, (error, place) in sorted(ends.items()):
                found.append(_Choice(end, start if second_order else -1, error, rules[place], weights[error]))
    return choices


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
    return {error: (n * (unit // d) << width) + digits[error] for error, (n, d) in ratios.items()}


def _best(choices: _Choices, most: int) -> list[dict[int, dict[int, _Choice]]]:
    """The choice that begins the best path to the sink, by start, before and number of computed steps up to ``most``."""
    steps = len(choices)
    spans = (choice.end - start for start, states in enumerate(choices) for found in states.values() for choice in found)
    longest = max(spans, default=1)
    _check_size(choices, longest, most)
    labels = {steps: defaultdict(lambda: {0: 0})}  # {start: {before: {computed steps: label}}}
    best: list[dict[int, dict[int, _Choice]]] = [{} for _ in choices]
    for start in reversed(range(steps)):
        labels[start] = {}
        for before, found in choices[start].items():
            known: dict[int, int] = {}
            taken: dict[int, _Choice] = {}
            for choice in found:
                weight = choice.weight
                for count, label in labels[choice.end][choice.before].items():
                    if count < most:
                        candidate = label + weight
                        current = known.get(count + 1)
                        if current is None or candidate < current:
                            known[count + 1] = candidate
                            taken[count + 1] = choice
            labels[start][before] = known
            best[start][before] = taken
        labels.pop(start + longest, None)  # no segment from an earlier step leads there
    return best


def _check_size(choices: _Choices, longest: int, most: int) -> None:
    """SolverError for a problem that would take the machine's memory, or minutes."""
    steps = len(choices)
    width = max((one.weight.bit_length() for states in choices for found in states.values() for one in found), default=0)
    size = width // 8 + 100
    states = [len(found) * min(steps - start, most) for start, found in enumerate(choices)]
    held = max(sum(states[start : start + longest + 1]) for start in range(0, steps, max(longest // 2, 1)))
    added = sum(
        min(steps - one.end + 1, most) for states in choices for found in states.values() for one in found
    )
    if held * size > MAX_LABELS or added * (size + 1000) > MAX_ADDED:
        raise SolverError(
            f"This error graph of {steps} steps, with segments of up to {longest}, is too large to be solved: measure "
            "shorter segments, or fewer steps."
        )


def _feasible(best: list[dict[int, dict[int, _Choice]]]) -> list[int]:
    """The budgets that have a path, increasing; InfeasibleError when there is none."""
    if not best[0][-1]:
        raise InfeasibleError(
            f"No path leads from step 0 to the end of {len(best)} steps: forbid fewer segments and reuse fewer steps."
        )
    return sorted(best[0][-1])


def _walk(best: list[dict[int, dict[int, _Choice]]], budget: int) -> Path:
    """The path that the best choices make from step 0 with this budget."""
    start, before = 0, -1
    computed: list[int] = []
    taken: list[_Choice] = []
    for count in range(budget, 0, -1):
        choice = best[start][before][count]
        computed.append(start)
        taken.append(choice)
        start, before = choice.end, choice.before
    rules = tuple(choice.rule for choice in taken)
    return Path(len(best), tuple(computed), rules, tuple(choice.error for choice in taken))


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
