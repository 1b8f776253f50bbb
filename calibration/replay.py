"""Replays of one sample: its reference trajectory, what a segment does to it, what a whole path does to it.

A replay runs the real sampler again from the same noise: steps up to i recall the reference, i+1 .. j-1 reuse, and
from j on the model computes (arXiv 2511.00090, section 3.2). What a segment does to the latent at its own end costs no
model call with output rules; only what the rest of the trajectory makes of it does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..cache.placement import Placement
from ..cache.plan import Call
from ..cache.run import SamplingRun
from ..cache.steps import Action, segment_actions
from ..cache.trajectory import Trajectory
from ..schedules import Rule, Schedule
from .deltas import Deltas, segment_schedule
from .latents import Distance, flat
from .sampling import Callback, Sampling

SKETCH = 32
"""How many values of a final latent are kept to recognise it."""


class ReplayError(RuntimeError):
    """A sample cannot be measured: its model gives no finite latent, or its sampler has no steps to tell apart."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The full run of a sample: what it computed, its latents x_0 .. x_N (flat, on the CPU), and its cost."""

    trajectory: Trajectory
    latents: tuple[torch.Tensor, ...]
    calls: int
    seconds: float


class Replays:
    """Everything that is measured of one sample.

    Args:
        sampling: the sample.
        rules: the rules to be replayed; with a residual among them the reference keeps residuals.
        distance: the error between final latents.
    """

    def __init__(self, sampling: Sampling, rules: Sequence[Rule], distance: Distance) -> None:
        self.sampling = sampling
        self.steps = len(sampling.sigmas) - 1
        self._residuals = any(rule.target == "residual" for rule in rules)
        self._distance = distance
        self._reference: Reference | None = None
        self._final: torch.Tensor | None = None

    def reference(self, callback: Callback | None = None) -> Reference:
        """The full run; made once, then remembered until ``forget``.

        Raises:
            ReplayError: a latent is not finite, or the sampler's calls cannot be told to its steps.
        """
        if self._reference is None:
            self._reference = self._record(callback)
            self._final = self._reference.latents[self.steps]
        return self._reference

    def final(self, callback: Callback | None = None) -> torch.Tensor:
        """The final latent of the full run, flat; remembered for good."""
        if self._final is None:
            every = full_schedule(self.steps)
            final = self.sampling.run(lambda sigmas: SamplingRun(every, sigmas, Placement("auto")), callback)
            self._final = finite(final, self.sampling)
        return self._final

    def forget(self) -> None:
        """Let go of the reference trajectory; its final latent stays."""
        self._reference = None

    def sketch(self) -> list[float]:
        """A few values of the full run's final latent, to recognise it by."""
        final = self.reference().latents[self.steps]
        return final[torch.linspace(0, len(final) - 1, min(SKETCH, len(final))).long()].tolist()

    def segment_deltas(self, segments: np.ndarray, rules: Sequence[Rule]) -> np.ndarray:
        """The L1 distance at the end of every segment, [edges]; ``segments`` are [edges, 4], as ErrorGraph has them."""
        return Deltas(self.sampling, self.reference()).of_segments(segments, rules)

    def replay(self, before: int, start: int, end: int, rule: Rule, callback: Callback | None = None) -> float:
        """The error in the final latent when one segment is reused and every step from its end on is computed (eq. 4)."""
        schedule = segment_schedule(self.steps, before, start, end, rule)
        return self._error(self._run(schedule, segment_actions(self.steps, start, end), None, callback))

    def path(self, schedule: Schedule, callback: Callback | None = None) -> float:
        """The error in the final latent of a whole run by ``schedule``."""
        self.final(callback)
        return self._error(self.sampling.run(lambda sigmas: SamplingRun(schedule, sigmas, Placement("auto")), callback))

    def _error(self, final: torch.Tensor) -> float:
        return self._distance(finite(final, self.sampling), self.final())

    def _record(self, callback: Callback | None) -> Reference:
        trajectory = Trajectory(self._residuals)
        latents: dict[int, torch.Tensor] = {}

        def observe(call: Call | None, x: torch.Tensor) -> None:
            if call is None:
                raise ReplayError(
                    f"The calls of this sampler cannot be told to its {self.steps} steps, it chooses its own: calibrate "
                    "with another sampler, such as euler or dpmpp_2m."
                )
            if call.stage == 0:
                latents[call.step] = flat(x)

        schedule = full_schedule(self.steps)
        begin = time.perf_counter()
        final = self.sampling.run(
            lambda sigmas: SamplingRun(schedule, sigmas, Placement("auto"), record=trajectory, observe=observe), callback
        )
        seconds = time.perf_counter() - begin
        latents[self.steps] = finite(final, self.sampling)
        # A sampler that is followed by its sigmas alone may end before the last of them.
        ordered = tuple(latents.get(step, final) for step in range(self.steps + 1))
        return Reference(trajectory, ordered, self.sampling.report.calls, seconds)

    def _run(
        self,
        schedule: Schedule,
        actions: Sequence[Action],
        observe: Callable[[Call | None, torch.Tensor], None] | None,
        callback: Callback | None = None,
    ) -> torch.Tensor:
        recall = self.reference().trajectory
        return self.sampling.run(
            lambda sigmas: SamplingRun(schedule, sigmas, Placement("auto"), actions, recall, observe=observe), callback
        )


def full_schedule(steps: int) -> Schedule:
    """The schedule that computes every step."""
    return Schedule("full", "any", steps, tuple(range(steps)), (Rule("output", "hold"),) * steps, "custom")


def finite(final: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """The final latent of a run; ReplayError where it is not finite."""
    if not torch.isfinite(final).all():
        raise ReplayError(
            f"The model gave a latent that is not finite (prompt {sampling.sample.prompt[:60]!r}, seed "
            f"{sampling.sample.seed}): check its precision and its prompt. What was measured before is kept."
        )
    return final
