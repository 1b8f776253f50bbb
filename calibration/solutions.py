"""Solved budgets of error graphs, kept for as long as somebody asks for them again."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ..schedules import Rule
from .graph import ErrorGraph
from .segments import GraphError
from .solver import Constraints, Edge, InfeasibleError, Path, solve, sweep


class Options(NamedTuple):
    """What a path has to keep to, and what it is to be best at; see `solver.solve`. ``rule`` None is every rule."""

    rule: Rule | None = None
    objective: str = "minimax"
    tail: bool = True
    fixed: tuple[int, ...] = ()
    reused: tuple[int, ...] = ()

    @property
    def constraints(self) -> Constraints:
        return Constraints(tail=self.tail, fixed=self.fixed, reused=self.reused)


@lru_cache(maxsize=24)
def solutions(graph: ErrorGraph, options: Options = Options()) -> dict[int, Path]:
    """The best path of every budget that has one; a graph is one while it is the same object.

    Raises:
        GraphError: the rule was not measured, or the errors are too large.
        SolverError: the options fit no run of the graph's steps, or leave no path.
    """
    return sweep(_edges(graph, options.rule), graph.steps, options.constraints, objective=options.objective)


def solution(graph: ErrorGraph, budget: int, options: Options = Options()) -> Path:
    """The best path of one budget; InfeasibleError where it has none, and what ``solutions`` raises."""
    try:
        return solutions(graph, options)[budget]
    except (KeyError, InfeasibleError):
        edges = _edges(graph, options.rule)
        return solve(edges, graph.steps, budget, options.constraints, objective=options.objective)


@lru_cache(maxsize=8)
def _edges(graph: ErrorGraph, rule: Rule | None) -> list[Edge]:
    edges = [edge for edge in graph.edges() if rule in (None, edge.rule)]
    if rule is not None and not edges:
        measured = ", ".join(map(str, graph.rules))
        raise GraphError(f"{rule} was not measured by this calibration: choose one of {measured}.")
    return edges
