"""The weights of a path, fitted on all samples of a calibration and written down on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import reduce
from operator import add

from ..cache.trajectory import Trajectory
from .fit_folder import Fit, FitFolder
from .full_run import FullRun
from .job_folder import sample_id
from .references.closed_loop import Products, fit, prior_of
from .references.walk import Walk, Weights
from .replay import Replays
from .sampling import Callback


class Fitting:
    """Fits paths on the samples of one calibration.

    Args:
        folder: keeps fits, and what walks that were interrupted had computed.
        replays: of the samples.
        full: their full runs.
        on_step: is told of every step that was computed, with its seconds.
        callback: of the sampler's runs.
    """

    def __init__(
        self, folder: FitFolder, replays: Sequence[Replays], full: Sequence[FullRun], on_step: Callable[[float], None],
        callback: Callback | None,
    ) -> None:
        self._folder, self._replays, self._full = folder, replays, full
        self._on_step, self._callback = on_step, callback
        self._sigmas = replays[0].sampling.sigmas
        self._walks: list[Walk] = []
        self._since = 0.0

    def fit(self, computed: Sequence[int]) -> Fit:
        """The weights of the path with these computed steps, and the errors of the samples with them."""
        key = self._folder.fit_key(computed, self._full)
        known = self._folder.fit(key)
        if known is not None:
            return known
        self._begin(key, computed)
        weights: list[tuple[float, ...]] = []
        steps = len(self._sigmas) - 1
        for place, (start, end) in enumerate(zip(computed, (*computed[1:], steps), strict=True)):
            if end - start == 1:
                weights.append(())
                continue
            products = reduce(add, self._products(place, tuple(weights)))
            weights.append(fit(products, prior_of(self._sigmas, computed, place)))
        ids = [sample_id(full.sample, full.conds) for full in self._full]
        found = Fit(tuple(weights), dict(zip(ids, self._errors(tuple(weights)), strict=True)))
        self._folder.save_fit(key, found)
        return found

    # In this process; a crew has ways of its own

    def _begin(self, key: str, computed: Sequence[int]) -> None:
        """All samples set out on a path, from where an interrupted fit of it stopped."""
        self._since = time.perf_counter()
        self._walks = [
            replays.walk(
                full, computed, self._folder.walk(key, full.sample, full.conds),
                lambda known, step, full=full: self._stepped(key, full, known, step), self._callback,
            )
            for replays, full in zip(self._replays, self._full, strict=True)
        ]

    def _products(self, place: int, weights: Weights) -> list[Products]:
        """What every sample tells of the segment with this place, after those before it were given weights."""
        return [walk.products(place, weights) for walk in self._walks]

    def _errors(self, weights: Weights) -> list[float]:
        """The errors of the whole path, sample by sample."""
        return [
            replays.error_of(walk.finish(weights)) for walk, replays in zip(self._walks, self._replays, strict=True)
        ]

    def _stepped(self, key: str, full: FullRun, known: Trajectory, step: int) -> None:
        self._folder.save_walk(key, full.sample, full.conds, known, step)
        now = time.perf_counter()
        self._on_step(now - self._since)
        self._since = now
