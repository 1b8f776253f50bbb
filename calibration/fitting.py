"""The weights of a path, fitted on all samples of a calibration and written down on the way."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import reduce
from operator import add

from ..cache.trajectory import Trajectory
from .job_folder import Fit, JobFolder, Measured, sample_id
from .references.closed_loop import PAST, fit, half_slope
from .replay import Replays
from .sampling import Callback


class Fitting:
    """Fits paths on the samples of one calibration.

    Args:
        folder: keeps fits, and what walks that were interrupted had computed.
        replays: of the samples.
        measured: what is kept of their full runs.
        on_step: is told of every step that was computed, with its seconds.
        callback: of the sampler's runs.
    """

    def __init__(
        self, folder: JobFolder, replays: Sequence[Replays], measured: Sequence[Measured], on_step: Callable[[float], None],
        callback: Callback | None,
    ) -> None:
        self._folder, self._replays, self._measured = folder, replays, measured
        self._on_step, self._callback = on_step, callback
        self._sigmas = replays[0].sampling.sigmas
        ids = [sample_id(one.sample, one.conds) for one in measured]
        self._samples = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]

    def fit(self, computed: Sequence[int]) -> Fit:
        """The weights of the path with these computed steps, and the errors of the samples with them."""
        key = f"{','.join(map(str, computed))}|{self._samples}"
        known = self._folder.fit(key)
        if known is not None:
            return known
        self._since = time.perf_counter()
        walks = [
            replays.walk(
                one.derivatives, computed, self._folder.walk(key, one.sample, one.conds),
                lambda known, step, one=one: self._stepped(key, one, known, step), self._callback,
            )
            for replays, one in zip(self._replays, self._measured, strict=True)
        ]
        weights: list[tuple[float, ...]] = []
        steps = len(self._sigmas) - 1
        for place, (start, end) in enumerate(zip(computed, (*computed[1:], steps), strict=True)):
            if end - start == 1:
                weights.append(())
                continue
            products = reduce(add, (walk.products(place, weights) for walk in walks))
            weights.append(fit(products, half_slope(self._sigmas, computed[place::-1][:PAST], end)))
        errors = {
            sample_id(one.sample, one.conds): replays.error_of(walk.finish(weights))
            for walk, replays, one in zip(walks, self._replays, self._measured, strict=True)
        }
        found = Fit(tuple(weights), errors)
        self._folder.save_fit(key, found)
        return found

    def _stepped(self, key: str, one: Measured, known: Trajectory, step: int) -> None:
        self._folder.save_walk(key, one.sample, one.conds, known, step)
        now = time.perf_counter()
        self._on_step(now - self._since)
        self._since = now
