"""Lexicographic minimax paths through an error graph: which steps of a run to compute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from ..schedules.schedule import is_count, shown
from .path import Path
from .problem import OBJECTIVES, Choice, Choices, Constraints, Edge, InfeasibleError, SolverError, choices_of, too_large

__all__ = ["OBJECTIVES", "Constraints", "Edge", "InfeasibleError", "Path", "SolverError", "solve", "sweep"]

MAX_LABELS = 4 << 30
"""The bytes that labels and choices may take, as far as that can be told beforehand; they take about a third of it."""

KEPT = 300
"""Of them, for the choice that is kept for a state and a number of computed steps."""

MAX_ADDED = 100 << 30
"""The bytes of all labels that are added up, which is some ten seconds."""


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
    >>> from lemica.schedules import Rule
    >>> hold = Rule("output", "hold")
    >>> edges = [Edge(-1, 0, 2, hold, 0.9), Edge(-1, 1, 3, hold, 0.3), Edge(-1, 2, 4, hold, 0.2)]
    >>> path = solve(edges, steps=4, budget=3)
    >>> path.computed, path.errors
    ((0, 1, 2), (0.2, 0.0, 0.0))
    >>> solve(edges, steps=4, budget=1)
    Traceback (most recent call last):
        ...
    lemica.calibration.problem.InfeasibleError: No path computes exactly 1 of 4 steps: the nearest budget is 2.
    """
    choices = choices_of(edges, steps, constraints, objective)
    if not is_count(budget) or not 1 <= budget <= steps:
        raise SolverError(f"The budget is {shown(budget)}: give a whole number from 1 to {steps}.")
    feasible = _feasible(choices)
    if budget in feasible:
        return _walk(_best(choices, budget), budget)
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
    choices = choices_of(edges, steps, constraints, objective)
    feasible = _feasible(choices)
    best = _best(choices, steps)
    return {budget: _walk(best, budget) for budget in feasible}


def _best(choices: Choices, most: int) -> list[dict[int, dict[int, Choice]]]:
    """The choice that begins the best path to the sink, by start, before and number of computed steps up to ``most``."""
    steps = len(choices)
    spans = (choice.end - start for start, states in enumerate(choices) for found in states.values() for choice in found)
    longest = max(spans, default=1)
    width = max((one.weight.bit_length() for states in choices for found in states.values() for one in found), default=0)
    added = sum(min(steps - one.end + 1, most) for states in choices for found in states.values() for one in found)
    check_labels([len(states) for states in choices], added, width, longest, most)
    labels = {steps: defaultdict(lambda: {0: 0})}  # {start: {before: {computed steps: label}}}
    best: list[dict[int, dict[int, Choice]]] = [{} for _ in choices]
    for start in reversed(range(steps)):
        labels[start] = {}
        for before, found in choices[start].items():
            known: dict[int, int] = {}
            taken: dict[int, Choice] = {}
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


def check_labels(states: Sequence[int], added: int, width: int, longest: int, most: int) -> None:
    """SolverError for a problem that would take the machine's memory, or minutes.

    ``states``: how many every step has. ``added``: how many labels are added up. ``width``: the bits of a weight.
    ``longest``: of the segments. ``most``: how many steps are computed, at most.
    """
    steps = len(states)
    size = width // 8 + 100
    counts = [one * min(steps - start, most) for start, one in enumerate(states)]
    held = max(sum(counts[start : start + longest + 1]) for start in range(0, steps, max(longest // 2, 1)))
    if held * size + sum(counts) * KEPT > MAX_LABELS or added * (size + 1000) > MAX_ADDED:
        raise too_large(steps)


def _feasible(choices: Choices) -> list[int]:
    """The budgets that have a path, increasing; InfeasibleError when there is none."""
    steps = len(choices)
    # A bit for every number of computed steps from a state to the sink.
    reached: list[dict[int, int]] = [{} for _ in choices]
    for start in reversed(range(steps)):
        for before, found in choices[start].items():
            counts = 0
            for choice in found:
                counts |= 2 if choice.end == steps else reached[choice.end][choice.before] << 1
            reached[start][before] = counts
    budgets = [budget for budget in range(1, steps + 1) if reached[0][-1] >> budget & 1]
    if not budgets:
        raise InfeasibleError(
            f"No path leads from step 0 to the end of {steps} steps: forbid fewer segments and reuse fewer steps."
        )
    return budgets


def _walk(best: list[dict[int, dict[int, Choice]]], budget: int) -> Path:
    """The path that the best choices make from step 0 with this budget."""
    start, before = 0, -1
    computed: list[int] = []
    taken: list[Choice] = []
    for count in range(budget, 0, -1):
        choice = best[start][before][count]
        computed.append(start)
        taken.append(choice)
        start, before = choice.end, choice.before
    rules = tuple(choice.rule for choice in taken)
    return Path(len(best), tuple(computed), rules, tuple(choice.error for choice in taken))
