"""Names for what a step asks of the model, the same at every step; what two evaluations of a step share names nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable


class Names:
    """Tells the batches of conds of a call apart, and the chunks that the model is evaluated on, each for one cond.

    A name that two of one call come by is void for the rest of the run: whichever of them is missing at another step,
    the other one would be given its values.
    """

    def __init__(self) -> None:
        self._models: list[object] = []
        self._void: set[Hashable] = set()
        self._batch = 0
        self._batches: set[Hashable] = set()
        self._owners: dict[Hashable, int] = {}
        self._evaluated: Counter[Hashable] = Counter()

    def begin_call(self) -> None:
        """Forget what the call before this one asked for."""
        self._batch = 0
        self._batches.clear()
        self._owners.clear()

    def model(self, model: object) -> int:
        """A number for ``model``: guiders may ask several of them."""
        for number, known in enumerate(self._models):
            if known is model:
                return number
        self._models.append(model)
        return len(self._models) - 1

    def batch(self, name: Hashable) -> int:
        """The place within the call of the batch that now begins, by this name."""
        self._batch += 1
        self._evaluated.clear()
        if name in self._batches:
            self._void.add(name)
        self._batches.add(name)
        return self._batch

    def claim(self, chunk: Hashable) -> None:
        """The present batch evaluates this chunk."""
        if self._owners.setdefault(chunk, self._batch) != self._batch:
            self._void.add(chunk)

    def chunk(self, chunk: Hashable) -> tuple[Hashable, int]:
        """A name for this chunk, which the present batch evaluates.

        A function around the model that evaluates it many times on one cond, as tiling nodes do, does so in one order.
        """
        self.claim(chunk)
        name = chunk, self._evaluated[chunk]
        self._evaluated[chunk] += 1
        return name

    def is_void(self, name: Hashable) -> bool:
        """Whether two evaluations of one call came by this name of a batch or a chunk."""
        return name in self._void
