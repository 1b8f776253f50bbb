"""Outcome decides: candidate paths are run whole on the samples, and the best one is polished by moving single steps.

The errors of single segments do not add up exactly, so the solver's path is a candidate like others. What counts is
what was measured: the mean over the samples and the worst of them, both in the logarithm of the error.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..schedules import Rule, Schedule
from .graph import ErrorGraph
from .solver import Constraints, SolverError, solve

SMALLEST_GAIN = 0.02
"""A moved step has to bring the score down by this much: 2 % of the error, or 0.2 dB."""

WORST_SHARE = 0.25
"""How much the worst sample counts beside the mean: it guards against a path that spoils one prompt, but the largest of a
few errors says little about other prompts."""


@dataclass(frozen=True, slots=True)
class Route:
    """A path with its rules: the computed steps, and the rule of the segment that each one opens."""

    computed: tuple[int, ...]
    rules: tuple[Rule, ...]
    found: str = ""
    weights: tuple[tuple[float, ...], ...] = ()

    @property
    def key(self) -> str:
        """A text that is the same for the same route, however it was found."""
        fitted = hashlib.sha256(repr(self.weights).encode()).hexdigest()[:16] if self.weights else ""
        return f"{','.join(map(str, self.computed))}|{','.join(map(str, self.rules))}|{fitted}".rstrip("|")

    def segments(self, steps: int) -> Iterator[tuple[int, int]]:
        """The segments (i, j) in order; the last one ends at N, the sink."""
        return zip(self.computed, (*self.computed[1:], steps), strict=True)

    def schedule(self, steps: int) -> Schedule:
        """The route as a schedule to be measured."""
        return Schedule("path", "any", steps, self.computed, self.rules, "custom", weights=self.weights)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A route and its measured error on every sample."""

    route: Route
    errors: tuple[float, ...]

    @property
    def score(self) -> float:
        """What is to be small, see ``score``."""
        return score(self.errors)

    @property
    def figures(self) -> dict[str, float]:
        """The mean and the worst of the errors."""
        return {"mean": float(np.mean(self.errors)), "worst": max(self.errors)}


def score(errors: Sequence[float]) -> float:
    """The mean natural logarithm of the errors, and to WORST_SHARE the largest one."""
    logs = [math.log(max(error, 1e-12)) for error in errors]
    return (1 - WORST_SHARE) * sum(logs) / len(logs) + WORST_SHARE * max(logs)


def surely_better(errors: Sequence[float], than: Sequence[float]) -> bool:
    """Whether errors are below others of the same samples by more than chance: the mean difference of their logarithms is
    larger than its standard error."""
    gains = np.log(np.maximum(than, 1e-12)) - np.log(np.maximum(errors, 1e-12))
    return bool(gains.mean() > (gains.std(ddof=1) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0))


Measure = Callable[[Route, int], float]
"""The error of a route on the sample with this place."""

Attempt = Callable[[Route, "Outcome | None", float], "Outcome | None"]
"""The outcome of a route, or None where its score is not below that of the best one so far, if there is one, by a gain."""


def sample_by_sample(measure: Measure, samples: int) -> Attempt:
    """Measures a route on one sample after the other, and gives up as soon as it can no longer win."""

    def lost(errors: Sequence[float], bound: float) -> bool:
        # Whether those seen so far are too bad, were all others a tenth of the best of them.
        return score([*errors, *[min(errors) * 0.1] * (samples - len(errors))]) >= bound

    def attempt(route: Route, best: Outcome | None, gain: float) -> Outcome | None:
        errors: list[float] = []
        for place in range(samples):
            errors.append(measure(route, place))
            if best is not None and lost(errors, best.score - gain):
                return None
        return Outcome(route, tuple(errors))

    return attempt


class Contest:
    """Finds the best route of a budget by measuring.

    Args:
        attempt: measures one route; the route of its outcome has the weights that were fitted on the way.
        steps: N.
        expect: is told which routes come next, should none of them be the new best.
    """

    def __init__(
        self, attempt: Attempt, steps: int, expect: Callable[[Sequence[Route]], None] = lambda routes: None
    ) -> None:
        self._attempt, self._expect = attempt, expect
        self._steps = steps
        self.tried = 0

    def best(self, routes: Iterable[Route]) -> Outcome:
        """The route with the smallest score; a route that can no longer win is not measured to its end."""
        best: Outcome | None = None
        routes = list(routes)
        for place, route in enumerate(routes):
            self._expect(routes[place + 1 :])
            best = self._try(route, best) or best
        return best

    def polish(
        self, outcome: Outcome, limit: int, rules: Sequence[Rule], allowed: Callable[[Route], bool] = lambda route: True
    ) -> Outcome:
        """Change single steps and rules while the measured outcome improves, trying up to ``limit`` routes."""
        seen = {outcome.route.key}
        start = self.tried
        improved = True
        while improved:
            improved = False
            changed = [route for route in neighbours(outcome.route, self._steps, rules) if allowed(route)]
            for place, route in enumerate(changed):
                if self.tried - start >= limit:
                    return outcome
                if route.key in seen:
                    continue
                seen.add(route.key)
                left = max(limit - (self.tried - start) - 1, 0)
                self._expect([other for other in changed[place + 1 :] if other.key not in seen][:left])
                found = self._try(route, outcome, SMALLEST_GAIN)
                if found is not None:
                    outcome, improved = found, True
                    break
        return outcome

    def _try(self, route: Route, best: Outcome | None, gain: float = 0.0) -> Outcome | None:
        """The outcome of a route if it is the new best one."""
        self.tried += 1
        found = self._attempt(route, best, gain)
        return found if found is not None and (best is None or found.score < best.score - gain) else None


def candidates(graph: ErrorGraph, budget: int, others: Sequence[Schedule] = ()) -> list[Route]:
    """The routes worth measuring, at most ``most_candidates``.

    Lexicographic minimax with all rules: of the mean over the samples as in the paper, of the geometric mean, which is
    what the outcome counts, and of the worst sample. Shortest paths of the errors and of their squares, which are between
    the sum and the largest. Minimax and uniform spacing with each rule. Others.

    Args:
        graph: of the errors of its samples.
        budget: B.
        others: schedules of the same steps from elsewhere, such as published lists; those of other budgets are left out.
    """
    edges = graph.edges()
    routes: list[Route] = []

    def add(chosen: list, found: str, objective: str = "minimax") -> None:
        try:
            path = solve(chosen, graph.steps, budget, Constraints(), objective=objective)
        except SolverError:  # none of this budget, or too many segments: the others are measured
            return
        schedule = path.to_schedule("path", "any", graph.sigmas)
        routes.append(Route(schedule.computed, schedule.rules, found))

    add(edges, "minimax")
    add(graph.edges(graph.geometric_mean()), "minimax of geometric means")
    add(graph.edges(graph.worst()), "minimax of worst samples")
    add(edges, "shortest path", "shortest")
    add(graph.edges(graph.mean() ** 2), "shortest path of squares", "shortest")
    for rule in graph.rules:
        add([edge for edge in edges if edge.rule == rule], f"minimax, {rule}")
    for rule in graph.rules:
        routes.append(Route(uniform(graph.steps, budget), (rule,) * budget, f"uniform, {rule}"))
    for schedule in others:
        if schedule.steps == graph.steps and schedule.budget == budget and set(schedule.rules) <= set(graph.rules):
            routes.append(Route(schedule.computed, schedule.rules, schedule.name))
    return list({route.key: route for route in reversed(routes)}.values())[::-1]


def most_candidates(rules: int, others: int) -> int:
    """How many routes ``candidates`` gives at most, of so many rules and other schedules."""
    return 5 + 2 * rules + others


def uniform(steps: int, budget: int) -> tuple[int, ...]:
    """``budget`` computed steps spaced evenly over a run."""
    return tuple(int(place) for place in np.floor(np.arange(budget) * steps / budget))


def neighbours(route: Route, steps: int, rules: Sequence[Rule]) -> Iterator[Route]:
    """Routes of the same budget that differ in one step or one rule, the likelier ones first."""
    computed, own = route.computed, route.rules
    ends = (*computed[1:], steps)
    for distance in (1, -1, 2, -2):
        for place in range(1, len(computed)):
            step = computed[place] + distance
            if computed[place - 1] < step < ends[place]:
                yield Route((*computed[:place], step, *computed[place + 1 :]), own, "polished")
    for place, (step, end) in enumerate(zip(computed, ends, strict=True)):
        if end - step > 1:
            for rule in rules:
                if rule != own[place]:
                    yield Route(computed, (*own[:place], rule, *own[place + 1 :]), "polished")
    longest = sorted(range(len(computed)), key=lambda place: computed[place] - ends[place])[:3]
    for place in longest:
        middle = (computed[place] + ends[place]) // 2
        if middle in (computed[place], ends[place]):
            continue
        for removed in range(1, len(computed)):
            steps_left = [(step, rule) for index, (step, rule) in enumerate(zip(computed, own)) if index != removed]
            moved = sorted([*steps_left, (middle, own[place])], key=lambda pair: pair[0])
            if len({step for step, _ in moved}) == len(computed):
                yield Route(tuple(step for step, _ in moved), tuple(rule for _, rule in moved), "polished")
