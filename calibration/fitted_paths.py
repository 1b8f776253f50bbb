"""The paths that are worth fitting, from the errors of fitted segments."""

from __future__ import annotations

import numpy as np

from ..schedules import OUTPUT_FITTED
from .graph import ErrorGraph
from .outcome import Route, uniform
from .problem import SolverError
from .solver import solve

EARLY = 0.2
"""The share of a run at whose beginning segments count for more than their error: there the picture is decided."""

EARLY_WEIGHT = 3.0
"""How many times more they count at its beginning. An error there is amplified by much more in some samples than in most,
and the few of a calibration need not show it."""

LATE = ((1.0, 0.2), (2.0, 0.1), (2.0, 0.2), (3.0, 0.3))
"""How many times more segments count at the very end, and from which share of the run before it on. An error there is not put
right by a later segment; how much that matters depends on the model. The first has the best worst samples; others are tried."""


class FittedPaths:
    """Chooses paths.

    Args:
        graph: of the errors of fitted segments.
        safe: whether the start of a run is protected.
    """

    def __init__(self, graph: ErrorGraph, safe: bool) -> None:
        self._graph, self._safe = graph, safe
        done, mean = graph.segments[:, 1] / graph.steps, graph.mean()
        early = (EARLY_WEIGHT - 1) * np.maximum(0.0, 1 - done / EARLY) if safe else 0.0
        self._ways = [
            mean * (1 + early + (weight - 1) * np.maximum(0.0, 1 - (1 - done) / share)) for weight, share in LATE
        ]
        self._errors = dict(zip(map(tuple, graph.segments[:, :3].tolist()), (mean * (1 + early)).tolist(), strict=True))

    def candidates(self, budget: int) -> list[Route]:
        """Lexicographic minimax of the mean errors, each with another weight of the end, the best guess first; where segments
        are too short for any path of this budget, or too many to be solved, uniform spacing alone."""
        rules, steps = (OUTPUT_FITTED,) * budget, self._graph.steps
        found: dict[Route, None] = {}
        for values in self._ways:
            edges = self._graph.edges(values)
            if found and self._safe:
                most = max(self._along(next(iter(found))))
                edges = [
                    edge for edge in edges
                    if edge.start >= EARLY * steps or self._errors[edge.before, edge.start, edge.end] <= most
                ]
            try:
                found[Route(solve(edges, steps, budget).computed, rules, "minimax, fitted")] = None
            except SolverError:
                if not found:
                    return [Route(uniform(steps, budget), rules, "uniform, fitted")]
        return list(found)

    def keeps_start(self, route: Route, like: Route) -> bool:
        """Whether, if the start is to be protected, no segment there errs more than the worst one of another path."""
        if not self._safe:
            return True
        early = [
            error for error, (start, _) in zip(self._along(route), route.segments(self._graph.steps), strict=True)
            if start < EARLY * self._graph.steps
        ]
        return max(early) <= max(self._along(like))

    def _along(self, route: Route) -> list[float]:
        """The errors of a path's segments; those that the graph does not have are infinite, those of one step nothing."""
        befores = (-1, *route.computed[:-1])
        return [
            0.0 if end - start == 1 else self._errors.get((before, start, end), np.inf)
            for before, (start, end) in zip(befores, route.segments(self._graph.steps), strict=True)
        ]
