"""A sample on its way along a path whose weights are being fitted: it computes a step, tells what the fit needs, goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from ...cache.placement import Placement
from ...cache.plan import Call
from ...cache.run import SamplingRun
from ...cache.steps import Action
from ...cache.trajectory import Trajectory
from ...schedules import OUTPUT_FITTED, Rule, Schedule
from ..full_run import check_same
from .closed_loop import PAST, Deviations, Products
from .reference import Reference

if TYPE_CHECKING:
    from ..sampling import Callback, Sampling

Weights = tuple[tuple[float, ...], ...]
"""Of the segments of a path from the first one on; () of one that reuses nothing."""


class _Enough(Exception):
    """Ends a run whose rest is of no interest."""


def walked(steps: int, computed: Sequence[int], weights: Sequence[tuple[float, ...]], name: str = "path") -> Schedule:
    """The schedule of a path; segments that have no weights yet are held, and rules that reuse nothing say so as well."""
    ends = (*computed[1:], steps)
    own = [tuple(weights[place]) if place < len(weights) else () for place in range(len(computed))]
    fitted = [bool(w) or end - start == 1 for w, start, end in zip(own, computed, ends, strict=True)]
    rules = tuple(OUTPUT_FITTED if one else Rule("output", "hold") for one in fitted)
    return Schedule(name, "any", steps, tuple(computed), rules, "custom", weights=tuple(own))


class Walk:
    """One sample, one path.

    Args:
        sampling: the sample.
        reference: its full run, with the derivatives.
        computed: the computed steps of the path.
        known: what an earlier walk along this path computed, to be recalled.
        on_computed: is told what is known now, after every step that was computed.
        callback: of the sampler's runs.
    """

    def __init__(
        self, sampling: Sampling, reference: Reference, computed: Sequence[int], known: Trajectory | None = None,
        on_computed: Callable[[Trajectory, int], None] = lambda known, step: None, callback: Callback | None = None,
    ) -> None:
        self._sampling, self._reference, self._callback = sampling, reference, callback
        self._computed = tuple(computed)
        self._steps = len(sampling.sigmas) - 1
        self._ends = (*self._computed[1:], self._steps)
        self.trajectory = Trajectory() if known is None else known
        self._on_computed = on_computed
        self._deviations = Deviations(reference.segments, reference.derivatives)

    def products(self, place: int, weights: Weights) -> Products:
        """What this sample tells of the segment with this place, after those before it were given weights."""
        start, end = self._computed[place], self._ends[place]
        self._run(weights, start)
        return self._deviations.products(self._computed[place::-1][:PAST], end)

    def finish(self, weights: Weights) -> torch.Tensor:
        """The final latent, flat, on the CPU."""
        return self._run(weights, self._steps)

    def _run(self, weights: Weights, last: int) -> torch.Tensor | None:
        """Sample to the end of step ``last``; what is known is recalled, other computed steps compute."""
        known = self.trajectory.steps
        computed = set(self._computed)
        actions = [
            Action.REUSE if step not in computed else Action.RECALL if step in known else Action.COMPUTE
            for step in range(self._steps)
        ]
        recorder = self._reference.recorder()
        answers = 0

        def answered(call: Call, x: torch.Tensor, given: Sequence[torch.Tensor]) -> None:
            nonlocal answers
            if answers >= self._deviations.known:
                derivatives = recorder.derivatives_of(call, x, given)
                if not answers:  # up to here it is the full run
                    check_same(derivatives, self._reference.derivatives[:, 0], self._sampling.sample)
                self._deviations.answered(derivatives)
            answers += 1

        def observe(call: Call | None, x: torch.Tensor) -> None:
            if call is not None and call.stage == 0:
                if call.step and call.step - 1 in computed and call.step - 1 not in known:
                    self._on_computed(self.trajectory, call.step - 1)
                if call.step > last:
                    raise _Enough

        schedule = walked(self._steps, self._computed, weights)
        try:
            final = self._sampling.run(
                lambda sigmas: SamplingRun(
                    schedule, sigmas, Placement("auto"), actions, self.trajectory, record=self.trajectory,
                    observe=observe, answered=answered,
                ),
                self._callback,
            )
        except _Enough:
            return None
        if self._steps - 1 in computed and self._steps - 1 not in known:
            self._on_computed(self.trajectory, self._steps - 1)
        return final
