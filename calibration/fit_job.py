"""A calibration from full runs alone, mode ``short``: one full run a sample, and one accelerated run a sample and budget.

The errors of all segments follow from the full runs; the minimax path of every budget gets weights that are fitted in
closed loop. Everything is written down at once. Started again with the same settings a calibration goes on where it was:
only a full run, or one step of every sample on a path that is being fitted, is made twice.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np
import torch

from ..cache.placement import Placement
from ..cache.plan import Call
from ..cache.run import SamplingRun
from ..cache.trajectory import Trajectory
from ..schedules import OUTPUT_FITTED, Rule
from .estimate import replayed_edges
from .fit_folder import Fit, FitFolder, FullRun
from .graph import ErrorGraph
from .job import Job
from .job_folder import JobError, sample_id
from .latents import LATENT_DISTANCES
from .outcome import Outcome, Route, uniform
from .problem import InfeasibleError
from .references.closed_loop import PAST, fit, half_slope
from .references.reference import Recorder, Reference
from .references.response import NoResponseError
from .references.segment_errors import segment_errors
from .references.walk import Walk
from .replay import ReplayError, finite, full_schedule
from .segments import all_segments
from .settings import Cost
from .solver import solve

EARLY = 1 / 5
"""The share of a run in which segments count for more than their error: there the picture is decided."""

EARLY_WEIGHT = 3.0
"""How many times more they count at its beginning. An error there is amplified by much more in some samples than in most,
and the few of a calibration need not show it."""


class FitJob(Job):
    """One calibration from full runs.

    Args:
        arguments: those of Job; without judges and others.

    Raises:
        JobError: as Job, and for a sampler whose latents do not follow from the model's answers in a known way.
    """

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)
        distance = named.get("distance")
        self._distance = distance or LATENT_DISTANCES[self.settings.metric]
        self.folder = FitFolder(self.folder.path, self._identity(), 0, self.folder.name)
        try:
            self._arrivals = self._samplings[0].segments()
        except NoResponseError as error:
            raise JobError(f"This sampler cannot be fitted, {error}: choose another mode, or another sampler.") from None
        self._runs: Sequence[FullRun] = ()
        self._fitted: ErrorGraph | None = None
        self._stage, self._since = "", 0.0

    def cost(self) -> Cost:
        """What the whole calibration asks of the model when nothing of it is there yet."""
        count = len(self._samplings)
        return Cost(
            steps=self._steps, references=count * self._steps, replays=0, paths=count * sum(set(self.settings.budgets))
        )

    # Full runs

    def _measure_all(self) -> list[FullRun]:
        """The full runs of all samples."""
        return [self._full(place) for place in range(len(self._samplings))]

    def _full(self, place: int) -> FullRun:
        """The full run of one sample, made if it is not known."""
        sampling = self._samplings[place]
        stage = f"sample {place + 1} of {len(self._samplings)}"
        known = self.folder.full_run(sampling.sample, sampling.conds)
        if known is None:
            begin = time.perf_counter()
            known = self._record(place)
            self.folder.save_full_run(known)
            self._timed(time.perf_counter() - begin, self._steps)
        else:
            shape = (self._arrivals.kinds, self._arrivals.calls)
            if known.derivatives.shape[:2] != shape:
                raise JobError(
                    f"The full run of sample {place + 1} in {self.folder.path.name!r} has {known.derivatives.shape[:2]} "
                    f"answers, this sampler gives {shape}: give the calibration another name."
                )
            self._done += self._steps
        # One computed step before each segment is enough to be shown.
        rows = self._segments[replayed_edges(self._segments, self._steps, self.settings.rules, "exact", tails=True)]
        errors = self._local([known], rows, self.settings.rules)[0]
        self._report(stage, *(
            (start, end, error, self.settings.rules[kind])
            for (_, start, end, kind), error in zip(rows.tolist(), errors.tolist(), strict=True)
        ))
        return known

    def _record(self, place: int) -> FullRun:
        sampling = self._samplings[place]
        recorder = Recorder(self._arrivals.kinds, sampling.mask)

        def observe(call: Call | None, x: torch.Tensor) -> None:
            if call is None:
                raise ReplayError("The sampler's calls cannot be told to its steps: calibrate with another sampler.")

        final = sampling.run(
            lambda sigmas: SamplingRun(
                full_schedule(self._steps), sigmas, Placement("auto"), observe=observe, answered=recorder.answered
            ),
            self._on_preview,
        )
        return FullRun(sampling.sample, sampling.conds, finite(final, sampling).numpy(), recorder.derivatives())

    def _local(self, runs: Sequence[FullRun], rows: np.ndarray, rules: Sequence[Rule]) -> np.ndarray:
        """By how much latents are off after segments alone, [samples, edges]."""
        grams = [Reference(self._arrivals, run.derivatives).gram() for run in runs]
        return segment_errors(self._arrivals, grams, rows, rules)

    # The graph and its paths

    def _graph(self, measured: Sequence[FullRun]) -> ErrorGraph:
        """The error graph of the fixed rules."""
        self._runs = measured
        self._fitted = self._graph_of((OUTPUT_FITTED,))
        return self._graph_of(self.settings.rules)

    def _graph_of(self, rules: tuple[Rule, ...]) -> ErrorGraph:
        """The errors of all segments under these rules, of all samples."""
        settings = self.settings
        rows = all_segments(self._steps, settings.longest, rules)
        runs = sorted({run.sample: run for run in self._runs}.values(), key=lambda run: (run.sample.seed, run.sample.prompt))
        return ErrorGraph(
            family=settings.family, model=self._measured_model(), sigmas=self._sigmas, mode=settings.mode, metric="l2",
            rules=rules, samples=tuple(run.sample for run in runs), segments=rows, errors=self._local(runs, rows, rules),
            setup=dict(settings.setup),
        )

    def _decide(self, graph: ErrorGraph, budget: int) -> Outcome:
        """The minimax path of a budget with its weights, and what they come to on the samples."""
        self._done = self._done_before(budget)
        self._stage = f"path with {budget} computed steps"
        edges = [
            edge._replace(error=edge.error * early_weight(edge.start, self._steps)) for edge in self._fitted.edges()
        ]
        try:
            computed, found = solve(edges, self._steps, budget).computed, "minimax"
        except InfeasibleError:  # its segments are too short for this budget
            computed, found = uniform(self._steps, budget), "uniform"
        fitted = self._fit(computed)
        route = Route(computed, (OUTPUT_FITTED,) * budget, f"{found}, fitted", fitted.weights)
        return Outcome(route, tuple(fitted.errors.values()))

    def _done_before(self, budget: int) -> int:
        larger = sum(other for other in set(self.settings.budgets) if other > budget)
        return len(self._samplings) * (self._steps + larger)

    def _fit(self, computed: Sequence[int]) -> Fit:
        """The weights of a path, fitted on all samples in lockstep."""
        key = self.folder.fit_key(computed, self._runs)
        known = self.folder.fit(key)
        if known is not None:
            return known
        self._since = time.perf_counter()
        walks = [
            Walk(
                sampling, Reference(self._arrivals, run.derivatives, sampling.mask), computed,
                self.folder.walk(key, run.sample, run.conds),
                lambda known, step, run=run: self._walked(key, run, known, step), self._on_preview,
            )
            for sampling, run in zip(self._samplings, self._runs, strict=True)
        ]
        weights: list[tuple[float, ...]] = []
        for place, (start, end) in enumerate(zip(computed, (*computed[1:], self._steps), strict=True)):
            if end - start == 1:
                weights.append(())
                continue
            products = reduce(add, (walk.products(place, tuple(weights)) for walk in walks))
            weights.append(fit(products, half_slope(self._sigmas, computed[place::-1][:PAST], end)))
        errors = {
            sample_id(run.sample, run.conds): self._distance(
                finite(walk.finish(tuple(weights)), sampling), torch.from_numpy(run.final)
            )
            for walk, sampling, run in zip(walks, self._samplings, self._runs, strict=True)
        }
        found = Fit(tuple(weights), errors)
        self.folder.save_fit(key, found)
        return found

    def _walked(self, key: str, run: FullRun, known: Trajectory, step: int) -> None:
        """A step of a walk is computed: keep it, and tell it."""
        self.folder.save_walk(key, run.sample, run.conds, known, step)
        now = time.perf_counter()
        self._timed(now - self._since, 1)
        self._since = now
        self._report(self._stage)


def early_weight(start: int, steps: int) -> float:
    """How many times its error a segment counts that starts at this step of a run of N."""
    return 1 + (EARLY_WEIGHT - 1) * max(0.0, 1 - start / (EARLY * steps))

