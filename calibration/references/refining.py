"""Weights fitted while one accelerated run is made: as in ``closed_loop``, but sample after sample instead of all in lockstep.

A segment's weights follow from what earlier samples told of it and from this one's own products. Each sample went along the
path by weights of its own time; on held-out samples of two models that ends within 2 dB of lockstep, above or below.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ...cache.placement import Placement
from ...cache.plan import Call
from ...cache.report import RunReport
from ...cache.run import SamplingRun
from ...schedules import Schedule, ScheduleError
from ..full_run import same
from .closed_loop import PAST, Deviations, Products, Told, fit, prior_of
from .reference import Reference
from .walk import walked

logger = logging.getLogger("LeMiCa")


class Refining:
    """One accelerated run from the noise of a full one.

    Args:
        reference: the full run, with its derivatives.
        sigmas: [N + 1].
        computed: the computed steps of the path.
        known: what earlier samples told of this path, if there are any.
        ended: is given this after a run that went by its schedule.
    """

    def __init__(
        self, reference: Reference, sigmas: Sequence[float], computed: Sequence[int], known: Told | None,
        ended: Callable[[Refining], None],
    ) -> None:
        self.computed = tuple(computed)
        self._reference, self._sigmas, self._ended = reference, tuple(sigmas), ended
        self._steps = len(sigmas) - 1
        self._known = known
        self._deviations = Deviations(reference.segments, reference.derivatives)
        self._recorder = reference.recorder()
        self._told: dict[int, Products] = {}
        ends = (*self.computed[1:], self._steps)
        self._opened = {
            start + 1: place for place, (start, end) in enumerate(zip(self.computed, ends, strict=True)) if end - start > 1
        }
        self._weights = [
            prior_of(sigmas, self.computed, place) if start + 1 in self._opened else ()
            for place, start in enumerate(self.computed)
        ]

    def run(self) -> SamplingRun:
        """The state of the run, for the sampler."""
        self._run = SamplingRun(
            self._schedule(), self._sigmas, Placement("auto"), observe=self._observe, answered=self._answered,
            ended=self._end,
        )
        return self._run

    @property
    def told(self) -> Told:
        """What this run tells of the segments."""
        return tuple(self._told.get(place) for place in range(len(self.computed)))

    @property
    def error(self) -> float:
        """The root mean square by which the final latent is off."""
        return float(np.sqrt(np.square(self._deviations.latent(self._deviations.known), dtype=np.float64).mean()))

    def _schedule(self) -> Schedule:
        return walked(self._steps, self.computed, self._weights, "refining")

    def _observe(self, call: Call | None, x: torch.Tensor) -> None:
        """Where a segment begins to reuse, all is known that its weights follow from."""
        if call is None or call.stage or call.step not in self._opened or self._opened[call.step] in self._told:
            return
        place = self._opened[call.step]
        past = self.computed[place::-1][:PAST]
        own = self._deviations.products(past, (*self.computed, self._steps)[place + 1])
        self._told[place] = own
        products = own if self._known is None else own + self._known[place]
        before = self._weights[place]
        try:
            self._weights[place] = fit(products, prior_of(self._sigmas, self.computed, place))
            self._run.follow(self._schedule())
        except (ScheduleError, np.linalg.LinAlgError) as error:  # what no model gives that draws a picture
            self._weights[place] = before
            self._run.remark(f"no weights can be fitted from step {call.step} on: {error}")

    def _answered(self, call: Call, x: torch.Tensor, answers: Sequence[torch.Tensor]) -> None:
        derivatives = self._recorder.derivatives_of(call, x, answers)
        first = not self._deviations.known
        if first and not same(derivatives, self._reference.derivatives[:, 0]):
            self._run.remark("a second run from the same noise begins otherwise than the first")
        self._deviations.answered(derivatives)

    def _end(self, report: RunReport) -> None:
        whole = len(report.computed) == len(self.computed) and self._deviations.known == self._reference.segments.calls
        if whole and not report.doubts:
            self._ended(self)
        else:
            logger.warning("Nothing was fitted to this picture: %s", "; ".join(report.doubts) or "its run was not as planned")
