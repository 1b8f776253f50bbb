"""The runs of one sample: the full run, runs in which a single segment is reused, runs of whole paths, walks.

A replay runs the real sampler again from the same noise: steps up to i recall the full run, i+1 .. j-1 reuse, and from j
on the model computes (arXiv 2511.00090, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..cache.placement import Placement
from ..cache.plan import Call
from ..cache.run import SamplingRun
from ..cache.steps import segment_actions
from ..cache.trajectory import Trajectory
from ..schedules import Rule, Schedule
from .full_run import FullRun
from .latents import Distance
from .references.arrival import Segments
from .references.reference import Recorder, Reference, gram
from .references.response import NoResponseError
from .references.walk import Walk
from .sampling import Callback, Sampling


class ReplayError(RuntimeError):
    """A sample cannot be measured; the message names it."""


class Replays:
    """Everything that is run of one sample.

    Args:
        sampling: the sample.
        segments: of its sampler; None for one that has no response.
        distance: the error between final latents.
        rules: those to be replayed, none where there are no replays; with a residual among them the full run keeps
            residuals.
    """

    def __init__(
        self, sampling: Sampling, segments: Segments | None, distance: Distance, rules: Sequence[Rule] = ()
    ) -> None:
        self.sampling = sampling
        self.steps = len(sampling.sigmas) - 1
        self._segments, self._distance = segments, distance
        self._replayed = bool(rules)
        self._residuals = any(rule.target == "residual" for rule in rules)
        self._full: FullRun | None = None
        self._trajectory: Trajectory | None = None
        self._final: torch.Tensor | None = None

    def full(self, callback: Callback | None = None) -> FullRun:
        """The full run; made once, then remembered until ``forget``.

        Raises:
            ReplayError: a latent is not finite, or the sampler's calls cannot be told to its steps.
        """
        if self._full is None:
            self._full = self._record(callback)
            self._final = torch.from_numpy(self._full.final)
        return self._full

    def final(self, callback: Callback | None = None) -> torch.Tensor:
        """The final latent of the full run, flat; remembered for good."""
        if self._final is None:
            every = full_schedule(self.steps)
            final = self.sampling.run(lambda sigmas: SamplingRun(every, sigmas, Placement("auto")), callback)
            self._final = finite(final, self.sampling)
        return self._final

    def recall(self, final: np.ndarray) -> None:
        """Take the full run's final latent from an earlier job."""
        self._final = torch.from_numpy(final)

    def forget(self) -> None:
        """Let go of the full run; its final latent stays."""
        self._full = self._trajectory = None

    def replay(self, before: int, start: int, end: int, rule: Rule, callback: Callback | None = None) -> float:
        """The error in the final latent when one segment is reused and every step from its end on is computed (eq. 4)."""
        self.full(callback)
        schedule, recall = segment_schedule(self.steps, before, start, end, rule), self._trajectory
        actions = segment_actions(self.steps, start, end)
        return self.error_of(
            self.sampling.run(lambda sigmas: SamplingRun(schedule, sigmas, Placement("auto"), actions, recall), callback)
        )

    def path(self, schedule: Schedule, callback: Callback | None = None) -> float:
        """The error in the final latent of a whole run by ``schedule``."""
        self.final(callback)
        return self.error_of(self.sampling.run(lambda sigmas: SamplingRun(schedule, sigmas, Placement("auto")), callback))

    def walk(
        self, full: FullRun, computed: Sequence[int], known: Trajectory | None = None,
        on_computed: Callable[[Trajectory, int], None] = lambda known, step: None, callback: Callback | None = None,
    ) -> Walk:
        """The sample on its way along a path, from what is kept of its full run."""
        reference = Reference(self._segments, full.derivatives, self.sampling.mask)
        return Walk(self.sampling, reference, computed, known, on_computed, callback)

    def error_of(self, final: torch.Tensor) -> float:
        """The error of another run's final latent."""
        return self._distance(finite(final, self.sampling), self.final())

    def _record(self, callback: Callback | None) -> FullRun:
        trajectory = Trajectory(self._residuals) if self._replayed else None
        recorder = None if self._segments is None else Recorder(self._segments.response, self.sampling.mask)

        def observe(call: Call | None, x: torch.Tensor) -> None:
            if call is None:
                raise ReplayError(
                    f"The calls of this sampler cannot be told to its {self.steps} steps, it chooses its own: calibrate "
                    "with another sampler, such as euler or dpmpp_2m."
                )

        every = full_schedule(self.steps)
        final = self.sampling.run(
            lambda sigmas: SamplingRun(
                every, sigmas, Placement("auto"), record=trajectory, observe=observe,
                answered=None if recorder is None else recorder.answered,
            ),
            callback,
        )
        self._trajectory = trajectory
        derivatives = np.empty((0, 0, 1), dtype=np.float32) if recorder is None else recorder.derivatives()
        final = finite(final, self.sampling).numpy()
        return FullRun(self.sampling.sample, self.sampling.conds, final, derivatives, gram(derivatives))


def arrivals_of(sampling: Sampling) -> Segments | None:
    """How segments arrive under a sample's sampler; None where its latents do not follow from the model's answers."""
    try:
        return sampling.segments()
    except NoResponseError:
        return None


def segment_schedule(steps: int, before: int, start: int, end: int, rule: Rule) -> Schedule:
    """The schedule whose rules act on the segment: computed before it at ``before`` only, and from its end on."""
    computed = tuple(sorted({0, max(before, 0), start, *range(end, steps)}))
    return Schedule("segment", "any", steps, computed, (rule,) * len(computed), "custom")


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
