"""Several segments from one start in one sampler run, each in its own lane of the batch axis; for calibration.

Up to the start all lanes recall, from there on all reuse: one SamplingRun serves them. They differ in the computed step
before the start and in how far they follow the slope, so each lane reads what the run keeps in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import torch

from ..schedules import Rule, Schedule
from .placement import Placement
from .plan import Call
from .rules import History, Reuse
from .run import SamplingRun
from .slots import Slots
from .steps import segment_actions
from .trajectory import Trajectory


class Lane(NamedTuple):
    """One reuse of the start: its rule, and the computed step before the start, -1 where that does not matter."""

    before: int
    rule: Rule


class LanesError(RuntimeError):
    """These lanes do not go together in one run."""


class LaneHistory:
    """The histories of one slot, lane by lane."""

    def __init__(self, histories: Sequence[tuple[History, Reuse]]) -> None:
        self._histories = histories

    def fits(self, like: torch.Tensor, reuse: Reuse) -> bool:
        """Whether every lane has values for its part of ``like``, [lanes, ...]."""
        return len(like) == len(self._histories) and all(history.fits(like[:1], own) for history, own in self._histories)

    def at(self, sigma: float, reuse: Reuse, device: torch.device) -> torch.Tensor:
        """The values for a step at ``sigma``, [lanes, ...], each by its lane's own rule."""
        return torch.cat([history.at(sigma, own, device) for history, own in self._histories])


class LaneSlots:
    """What every lane keeps: what the start gave, and the step before it."""

    def __init__(self, start: int, lanes: Sequence[Lane], placement: Placement) -> None:
        self._start = start
        self._lanes = [(lane, Slots(2, placement)) for lane in lanes]

    def put(self, key: Hashable, step: int, sigma: float, value: torch.Tensor) -> None:
        """Keep ``value``, [1, ...], for the lanes that need what ``step`` gave."""
        for lane, slots in self._lanes:
            if step in (lane.before, self._start):
                slots.put(key, step, sigma, value)

    def find(self, key: Hashable, since: int) -> LaneHistory | None:
        """The lanes' histories under ``key``, if all have a value of step ``since`` or later."""
        found = [(slots.find(key, since), Reuse(lane.rule)) for lane, slots in self._lanes]
        return None if any(history is None for history, _ in found) else LaneHistory(found)

    def forget(self, before: int) -> None:
        """Nothing: a lane keeps two values a key."""

    def clear(self) -> None:
        """Let go of everything."""
        for _, slots in self._lanes:
            slots.clear()


class LaneRun(SamplingRun):
    """Recalls up to the start and reuses it to the end, in every lane by its own rule; never evaluates whole blocks.

    Args:
        start: the step that is reused.
        lanes: one a sample of the batch; their rules have one target.
        sigmas: the N + 1 sigmas of the run.
        recall: what a full run of one sample computed.
        observe: as for SamplingRun.

    Raises:
        LanesError: in the run, where a lane has nothing to reuse and would have to compute.
    """

    def __init__(
        self, start: int, lanes: Sequence[Lane], sigmas: Sequence[float], recall: Trajectory,
        observe: Callable[[Call | None, torch.Tensor], None],
    ) -> None:
        steps, computed = len(sigmas) - 1, tuple(sorted({0, start}))
        self._target = lanes[0].rule.target
        self._needed = frozenset([start, *(lane.before for lane in lanes)])
        schedule = Schedule("lanes", "any", steps, computed, (Rule(self._target, "hold"),) * len(computed), "custom")
        placement = Placement("auto")
        super().__init__(schedule, sigmas, placement, segment_actions(steps, start, steps), recall, observe=observe)
        self._slots = LaneSlots(start, lanes, placement)

    def missing(self) -> None:
        """LanesError: what a run of one segment computes here cannot be computed for some lanes alone."""
        raise LanesError("a lane has nothing cached that fits.")

    def give_up_residuals(self, why: str) -> bool:
        """LanesError: a run of one segment decides for itself."""
        raise LanesError(f"{why}.")

    def _keeps(self, target: str) -> bool:
        return target == self._target and self.call.step in self._needed

    def _recalled(self, x: torch.Tensor, active: tuple) -> list[torch.Tensor]:
        return [output.repeat(len(x), *[1] * (x.ndim - 1)) for output in super()._recalled(x[:1], active)]

    def _residual_key(self, name: Hashable, latent_shape: tuple[int, ...]) -> Hashable:
        return super()._residual_key(name, latent_shape[1:])
