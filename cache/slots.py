"""What a run keeps from the steps it computes: a history under every key, and the step of its newest value."""

from __future__ import annotations

from collections.abc import Hashable

import torch

from .placement import Placement
from .rules import History


class Slots:
    """The kept values of one run.

    Args:
        depth: how many values a history holds.
        placement: where they live.
    """

    def __init__(self, depth: int, placement: Placement) -> None:
        self._depth = depth
        self._placement = placement
        self._histories: dict[Hashable, tuple[int, History]] = {}

    def put(self, key: Hashable, step: int, sigma: float, value: torch.Tensor) -> None:
        """Keep ``value`` as what ``step`` gave at ``sigma``; older values of another shape or dtype are dropped."""
        _, history = self._histories.get(key, (step, None))
        if history is None or not history.holds(value):
            history = History(self._depth)
        history.put(step, sigma, self._placement.put(value))
        self._histories[key] = step, history

    def find(self, key: Hashable, since: int) -> History | None:
        """The history under ``key``, if its newest value is of step ``since`` or later."""
        step, history = self._histories.get(key, (-1, None))
        return history if step >= since else None

    def forget(self, before: int) -> None:
        """Let go of every history whose newest value is of a step before this one."""
        self._histories = {key: held for key, held in self._histories.items() if held[0] >= before}

    def clear(self) -> None:
        """Let go of everything."""
        self._histories.clear()
