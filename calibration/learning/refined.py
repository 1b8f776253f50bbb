"""What an accelerated run told that was made after a full one, from the same noise: enough to fit the weights of its path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...schedules.schedule import check_computed
from ..references.closed_loop import PAST, Products, Told
from ..segments import GraphError


@dataclass(frozen=True, eq=False, slots=True)
class Refined:
    """Of one path; valid by construction, a wrong field raises GraphError, or ScheduleError where it is no path.

    Args:
        steps: N.
        computed: the computed steps.
        told: of every segment, None for one that reuses nothing.
        error: the root mean square by which the final latent was off.
    """

    steps: int
    computed: tuple[int, ...]
    told: Told
    error: float

    def __post_init__(self) -> None:
        computed = self.computed
        check_computed(computed, self.steps)
        if not np.isfinite(self.error) or self.error < 0 or len(self.told) != len(computed):
            raise GraphError("a path was not measured as a whole.")
        ends = (*computed[1:], self.steps)
        for place, (start, end, one) in enumerate(zip(computed, ends, self.told, strict=True)):
            if (one is None) != (end - start == 1):
                raise GraphError(f"of its segment from step {start} on too little or too much is told.")
            if one is not None and (one.right.shape != (past(place),) or one.normal.shape != (past(place),) * 2):
                raise GraphError(f"of its segment from step {start} on products are missing.")
            if one is not None and not all(np.isfinite(values).all() for values in (one.normal, one.right, one.square)):
                raise GraphError("its products are not all finite.")

    def tensors(self) -> dict[str, np.ndarray]:
        """The numbers as a file keeps them: [B, PAST + 2, PAST], a row of products for each of the last computed steps, then
        one of those with the deviation, and one that begins with its square; 0 where there is nothing."""
        rows = np.zeros((len(self.computed), PAST + 2, PAST))
        for row, place, one in zip(rows, range(len(rows)), self.told, strict=True):
            if one is not None:
                many = past(place)
                row[:many, :many], row[PAST, :many], row[PAST + 1, 0] = one.normal, one.right, one.square
        return {name_of(len(self.computed)): rows}

    @classmethod
    def read(cls, steps: int, path: Mapping[str, object], tensors: Mapping[str, np.ndarray]) -> Refined:
        """From JSON-plain data and the tensors of a file.

        Raises:
            GraphError, ScheduleError, TypeError, ValueError, KeyError: they hold none.
        """
        computed, error = tuple(path["computed"]), float(path["error"])
        rows = tensors[name_of(len(computed))]
        if path.keys() != {"computed", "error"} or rows.dtype != np.float64 or rows.shape != (len(computed), PAST + 2, PAST):
            raise GraphError("what was fitted lacks fields, or has others.")
        ends = (*computed[1:], steps)
        told = tuple(
            None if end - start == 1 else Products(row[: past(place), : past(place)], row[PAST, : past(place)], row[-1, 0])
            for place, (row, start, end) in enumerate(zip(rows, computed, ends, strict=True))
        )
        return cls(steps, computed, told, error)


def past(place: int) -> int:
    """How many computed steps the segment with this place looks back on."""
    return min(place + 1, PAST)


def name_of(budget: int) -> str:
    """What the tensor of the path with this budget is called."""
    return f"refined_{budget}"
