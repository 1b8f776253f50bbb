"""Paths through an error graph: which steps compute, and what each segment between them costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..schedules.schedule import Rule, Schedule

_HOLD = Rule("output", "hold")


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
        """The predicted schedule of this path; its source is ``source`` with the predicted worst and total error.

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
            origin="predicted",
            sigmas=sigmas,
            source={**(source or {}), "predicted": {"worst": self.worst, "total": self.total}},
        )
