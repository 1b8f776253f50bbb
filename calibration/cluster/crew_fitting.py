"""Weights of paths, fitted by a crew: samples walk in their workers, and only inner products and errors travel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..fitting import Fitting
from ..references.closed_loop import Products
from ..references.walk import Weights
from .crew import Crew
from .shares import Run, WalkShares


class CrewFitting(Fitting):
    """A Fitting whose walks are made by workers. A walk that is lost with its worker begins anew in another one.

    Args:
        arguments: those of Fitting.
        crew: the workers.
        shares: which of them has which sample.
    """

    def __init__(self, *arguments: object, crew: Crew, shares: WalkShares) -> None:
        super().__init__(*arguments)
        self._crew, self._shares = crew, shares
        self._computed: tuple[int, ...] = ()

    def _begin(self, key: str, computed: Sequence[int]) -> None:
        self._computed = tuple(computed)

    def _products(self, place: int, weights: Weights) -> list[Products]:
        return [Products(*found) for found in self._ask("products", (self._computed, weights, place))]

    def _errors(self, weights: Weights) -> list[float]:
        return self._ask("finish", (self._computed, weights))

    def _ask(self, kind: str, item: tuple) -> list:
        """What every sample answers, in their order."""
        found: dict[int, object] = {}

        def answered(worker: int, run: Run, answer: Mapping[str, object]) -> None:
            found[run.place] = answer["value"]
            self._on_step(answer["seconds"])

        self._shares.want([Run(kind, place, item, 1) for place in range(len(self._full))])
        self._crew.run(self._shares, lambda: len(found) == len(self._full), answered)
        return [found[place] for place in range(len(self._full))]
