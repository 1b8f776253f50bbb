"""The schedule of the best path through an error graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..schedules import Rule, Schedule
from ..schedules.schedule import MAX_NAME
from .graph import ErrorGraph
from .solver import solve


def solved(
    name: str, graph: ErrorGraph, budget: int, rule: Rule | None = None, *, values: np.ndarray | None = None,
    objective: str = "minimax",
) -> Schedule:
    """The lexicographic minimax schedule of a calibration; by another objective, or by other ``values``, one per edge.

    Raises:
        InfeasibleError: no path has this budget.
    """
    edges = [edge for edge in graph.edges(values) if rule in (None, edge.rule)]
    path = solve(edges, graph.steps, budget, objective=objective)
    suffix = f"/{graph.steps}b{budget}"
    called = f"{name[: MAX_NAME - len(suffix)].rstrip()}{suffix}"
    found = path.to_schedule(called, graph.family, graph.sigmas, graph.provenance(name))
    return replace(found, origin="learned") if graph.learned else found
