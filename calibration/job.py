"""A calibration from its first model call to its schedules: full runs, then whole paths.

Modes ``short`` and ``normal`` read the errors of all segments off the full runs, and fit the weights of the paths that
follow from them; ``exact`` replays every segment, as the paper does, and measures paths of fixed rules. Everything is
written down at once. Started again with the same settings a calibration goes on where it was: only a full run, a replay, or
one step of every sample on a path that is being fitted, is made twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..schedules import DENOISED, OUTPUT_FITTED, ModelIdentity, Rule, Schedule
from .cost import cost_of, fits_of, tries_of
from .estimate import errors_of, replay_calls, replayed_edges
from .fit_folder import FitFolder
from .fitted_paths import FittedPaths
from .fitting import Fitting
from .full_run import FullRun, Measured, check_same, sketch_of
from .graph import ErrorGraph
from .job_error import JobError, told_what_is_kept
from .job_folder import folder_name
from .latents import LATENT_DISTANCES, Distance
from .outcome import Contest, Outcome, Route, candidates, sample_by_sample, surely_better
from .references.arrival import Segments
from .references.response import NoResponseError
from .references.segment_errors import segment_errors
from .replay import Replays
from .result import Result
from .sampling import Callback, Sampling
from .segments import all_segments
from .settings import Cell, Cost, Progress, Settings, duration

__all__ = ["Cell", "Cost", "Job", "Progress", "Result", "Settings", "duration"]


@dataclass(slots=True)
class Pending:
    """A sample, and which of its edges are still to be replayed; ``measured`` is None until its full run was made."""

    place: int
    stage: str
    measured: Measured | None
    todo: list[int]
    needs_whole: bool

    @property
    def complete(self) -> bool:
        """Whether nothing is left to measure."""
        return self.measured is not None and not self.todo and self.measured.full.whole >= self.needs_whole


class Job:
    """One calibration.

    Args:
        root: the directory of calibrations.
        name: what the user calls it; one folder of ``root`` belongs to it.
        samplings: the samples, on one grid.
        settings: what to measure.
        judges: further samples on which only whole paths are measured, at a small part of the cost.
        distance: the error between final latents; by default the metric of ``settings`` on the latents.
        others: schedules from elsewhere to be measured beside the solver's, in mode exact.
        on_progress: is told of every replay and path.
        on_preview: the callback of the sampler's runs that compute.

    Raises:
        JobError: settings that do not fit, no samples, samples on different grids, or a sampler that cannot be fitted.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        samplings: Sequence[Sampling],
        settings: Settings,
        *,
        judges: Sequence[Sampling] = (),
        distance: Distance | None = None,
        others: Sequence[Schedule] = (),
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_preview: Callback | None = None,
    ) -> None:
        if not samplings:
            raise JobError("There is nothing to sample: give one prompt or more.")
        self._sigmas = samplings[0].sigmas
        if any(sampling.sigmas != self._sigmas for sampling in (*samplings, *judges)):
            raise JobError("The samples have different sigmas: calibrate one grid at a time.")
        self._steps = len(self._sigmas) - 1
        settings.check(self._steps)
        self.settings = settings
        self._samplings = samplings
        self._judged = [*samplings, *judges]
        self._arrivals = self._sampler_segments()
        self._segments = all_segments(self._steps, settings.longest, settings.rules)
        self._wanted = np.empty(0, dtype=np.int64) if settings.fits else replayed_edges(self._segments)
        self._replays = [
            Replays(
                sampling, self._arrivals, distance or LATENT_DISTANCES[settings.metric],
                () if settings.fits else settings.rules,
            )
            for sampling in self._judged
        ]
        self.folder = FitFolder(root / folder_name(name), self._identity(), len(self._segments), name)
        self._others = others
        self._on_progress, self._on_preview = on_progress, on_preview
        self._done = 0
        self._measured_seconds, self._measured_steps = 0.0, 0

    def _sampler_segments(self) -> Segments | None:
        try:
            return self._samplings[0].segments()
        except NoResponseError as error:
            if not self.settings.fits:
                return None
            raise JobError(
                f"This sampler cannot be fitted, {error}: take another one, such as euler or dpmpp_2m, or set effort to exact "
                "where it has steps of its own."
            ) from None

    @property
    def _needs_whole(self) -> bool:
        """Whether the full runs have to be here, and not on other machines."""
        return self.settings.fits

    def cost(self) -> Cost:
        """What the whole calibration asks of the model when nothing of it is there yet."""
        return cost_of(
            self.settings, self._steps, len(self._samplings), len(self._judged) - len(self._samplings),
            replay_calls(self._segments, self._steps, self._wanted), self._others,
        )

    @told_what_is_kept()
    def run(self) -> Result:
        """Measure what is not measured yet, solve, run the candidates, polish the best.

        Raises:
            JobError: the folder is taken, or holds another calibration, or the model gives other pictures than before.
            ReplayError: a sample cannot be measured.
            OSError: the disk refuses; what was measured before is kept.
        """
        self.folder.open()
        before = self._computed()
        try:
            measured = self._measure_all()
            graph = self._graph(measured)
            decide = self._fitter(measured) if self.settings.fits else partial(self._decide, graph)
            outcomes = {budget: decide(budget) for budget in sorted(set(self.settings.budgets), reverse=True)}
            samples = [[sampling.sample.seed, sampling.sample.prompt] for sampling in self._judged]
            self.folder.finish({**self.settings.effort, "samples": samples})
            noise = self._arrivals is not None and self._arrivals.response.noise
            return Result(graph, outcomes, self._computed() - before, self.settings.metric, noise)
        finally:
            self.folder.close()
            for replays in self._replays:
                replays.forget()

    def _computed(self) -> int:
        """How many steps all runs so far have computed."""
        return sum(sampling.computed for sampling in self._judged)

    # Samples

    def _measure_all(self) -> list[Measured]:
        """Everything that the graph needs of all samples."""
        return [self._measure(place) for place in range(len(self._samplings))]

    def _measure(self, place: int) -> Measured:
        """Everything that the graph needs of one sample, measured in this process."""
        pending, replays = self._open(place), self._replays[place]
        if not pending.complete:
            begin = time.perf_counter()
            self._begun(pending, replays.full(self._on_preview))
            self._timed(time.perf_counter() - begin, self._steps)
            self._report(pending.stage, *self._first_cells(pending.measured))
            for edge in list(pending.todo):
                before, start, end, kind = self._segments[edge].tolist()
                begin = time.perf_counter()
                error = replays.replay(before, start, end, self.settings.rules[kind], self._on_preview)
                self._replayed(pending, edge, error, time.perf_counter() - begin)
            replays.forget()
        if pending.measured.full.whole:
            replays.recall(pending.measured.full.final)
        return pending.measured

    def _open(self, place: int) -> Pending:
        """A sample with what the folder knows of it; that much is done."""
        sampling = self._samplings[place]
        measured = self.folder.load(sampling.sample, sampling.conds)
        if measured is not None:
            self._check_answers(place, measured.full)
        todo = self._wanted if measured is None else self._wanted[np.isnan(measured.replayed[self._wanted])]
        stage = f"sample {place + 1} of {len(self._samplings)}"
        pending = Pending(place, stage, measured, todo.tolist(), self._needs_whole)
        known = np.setdiff1d(self._wanted, todo)
        self._done += replay_calls(self._segments, self._steps, known)
        if pending.complete:
            self._done += self._steps
            self._report(pending.stage, *self._first_cells(measured))
        self._report(pending.stage, *(self._cell(measured, edge) for edge in known.tolist()))
        return pending

    def _check_answers(self, place: int, full: FullRun) -> None:
        """JobError unless a full run that was kept is one of this sampler."""
        answers = (0, 0) if self._arrivals is None else (self._arrivals.kinds, self._arrivals.calls)
        if full.derivatives.shape[:2] != answers:
            raise JobError(
                f"The full run of sample {place + 1} in {self.folder.path.name!r} has {full.derivatives.shape[:2]} answers, "
                f"this sampler gives {answers}: give the calibration another name."
            )

    def _begun(self, pending: Pending, full: FullRun) -> None:
        """The full run of a sample is made: keep it, if it was not begun before.

        Raises:
            OtherPictureError: it ends elsewhere than the one that the sample was begun with.
        """
        known = pending.measured
        if known is None:
            pending.measured = Measured(full, np.full(len(self._segments), np.nan))
            self.folder.save(full)
            return
        check_same(sketch_of(full.final), sketch_of(known.full.final), full.sample)
        if full.whole and not known.full.whole:  # another machine made it, and had what was missing
            known.full = full
            self.folder.save(full)

    def _replayed(self, pending: Pending, edge: int, error: float, seconds: float) -> None:
        """Write down what a replay gave, and tell it."""
        pending.measured.replayed[edge] = error
        self.folder.save_replayed(pending.measured)
        pending.todo.remove(edge)
        self._timed(seconds, self._steps - int(self._segments[edge, 2]))
        self._report(pending.stage, self._cell(pending.measured, edge))

    def _cell(self, measured: Measured, edge: int) -> Cell:
        """What a replay tells."""
        _, start, end, kind = self._segments[edge].tolist()
        return start, end, float(measured.replayed[edge]), self.settings.rules[kind]

    def _first_cells(self, measured: Measured) -> list[Cell]:
        """What a full run tells where nothing is replayed, for one computed step before each segment."""
        if not self.settings.fits:
            return []
        rows = self._segments[replayed_edges(self._segments)]
        errors = self._local([measured], rows)[0]
        return [
            (start, end, error, self.settings.rules[kind])
            for (_, start, end, kind), error in zip(rows.tolist(), errors.tolist(), strict=True)
        ]

    def _local(self, measured: Sequence[Measured], rows: np.ndarray, rules: Sequence[Rule] | None = None) -> np.ndarray:
        """By how much latents are off after segments alone, [samples, edges], from the full runs."""
        grams = [one.full.gram for one in measured]
        return segment_errors(self._arrivals, grams, rows, self.settings.rules if rules is None else rules)

    def _graph(self, measured: Sequence[Measured]) -> ErrorGraph:
        """The error graph of all samples, those of earlier runs with the same settings included."""
        settings, rows = self.settings, self._segments
        known = {} if settings.fits else {(one.full.sample, one.full.conds): one for one in self.folder.load_all()}
        known |= {(one.full.sample, one.full.conds): one for one in measured}
        whole = [one for one in known.values() if not np.isnan(one.replayed[self._wanted]).any()]
        unique = sorted(
            {one.full.sample: one for one in whole}.values(), key=lambda one: (one.full.sample.seed, one.full.sample.prompt)
        )
        local = None if self._arrivals is None else self._local(unique, rows)
        errors = local if settings.fits else np.stack([
            errors_of(rows, settings.rules, one.replayed, None if local is None else local[place])
            for place, one in enumerate(unique)
        ])
        return self._graph_of(unique, rows, settings.rules, errors)

    def _graph_of(
        self, samples: Sequence[Measured], rows: np.ndarray, rules: tuple[Rule, ...], errors: np.ndarray
    ) -> ErrorGraph:
        settings = self.settings
        return ErrorGraph(
            family=settings.family, model=self._measured_model(), sigmas=self._sigmas, mode=settings.mode,
            metric="l2" if settings.fits else settings.metric, rules=rules, samples=tuple(one.full.sample for one in samples),
            segments=rows, errors=errors, setup=dict(settings.setup),
        )

    def _measured_model(self) -> ModelIdentity:
        """The model of the folder's measurements; where older ones are among them, its patches are not known."""
        model = self.settings.model
        return replace(model, patches=None) if self.folder.unknown_patches else model

    # Whole paths, fitted

    def _fitter(self, measured: Sequence[Measured]) -> Callable[[int], Outcome]:
        """Decides on the best path of a budget, by the outcome of fits."""
        settings = self.settings
        rows = all_segments(self._steps, settings.longest, (OUTPUT_FITTED,))
        graph = self._graph_of(measured, rows, (OUTPUT_FITTED,), self._local(measured, rows, (OUTPUT_FITTED,)))
        paths = FittedPaths(graph, settings.safe)
        attempts = fits_of(settings, self._steps, len(measured), len(self._judged) - len(measured))
        stage = ""

        def stepped(seconds: float) -> None:
            self._timed(seconds, 1)
            self._report(stage)

        fitting = self._fitting(measured, stepped)

        def attempt(route: Route, best: Outcome | None, _: float) -> Outcome | None:
            fit = fitting.fit(route.computed)
            fitted = replace(route, weights=fit.weights)
            judged = [self._path_error(fitted, place) for place in range(len(measured), len(self._judged))]
            errors = (*fit.errors.values(), *judged)
            return Outcome(fitted, errors) if best is None or surely_better(errors, best.errors) else None

        def decide(budget: int) -> Outcome:
            nonlocal stage
            stage = f"paths with {budget} computed steps"
            self._done = self._done_before(budget)
            contest = Contest(attempt, self._steps)
            best = contest.best(paths.candidates(budget)[: attempts[budget]])
            first = best.route
            return contest.polish(
                best, attempts[budget] - contest.tried, (), lambda route: paths.keeps_start(route, first)
            )

        return decide

    def _fitting(self, measured: Sequence[Measured], on_step: Callable[[float], None]) -> Fitting:
        """What fits the weights of paths on these samples."""
        full = [one.full for one in measured]
        return Fitting(self.folder, self._replays[: len(measured)], full, on_step, self._on_preview)

    # Whole paths of fixed rules

    def _decide(self, graph: ErrorGraph, budget: int) -> Outcome:
        """The best route of a budget, by measured outcome."""
        routes = candidates(graph, budget, self._others)
        stage = f"paths with {budget} computed steps"
        total = tries_of(self.settings, budget, self._others)
        self._done = self._done_before(budget)

        def measure(route: Route, place: int) -> float:
            error = self._path_error(route, place)
            share = min(contest.tried / total, 1.0)
            self._done = self._done_before(budget) + int(share * total * budget * len(self._judged))
            self._report(stage)
            return error

        contest = Contest(sample_by_sample(measure, len(self._judged)), self._steps, self._expect)
        return contest.polish(contest.best(routes), self.settings.tries, graph.rules)

    def _expect(self, routes: Sequence[Route]) -> None:
        """Which routes are likely to be measured next; of no use where one is measured at a time."""

    def _path_error(self, route: Route, place: int) -> float:
        """The error of a route on a sample, measured if it is not known."""
        error = self._known_error(route, place)
        return self._measure_path(route, place) if error is None else error

    def _known_error(self, route: Route, place: int) -> float | None:
        sampling = self._judged[place]
        return self.folder.path_error(route.key, sampling.sample, sampling.conds)

    def _measure_path(self, route: Route, place: int) -> float:
        """The error of a route on a sample, measured and written down."""
        begin, sampling = time.perf_counter(), self._judged[place]
        error = self._replays[place].path(route.schedule(self._steps), self._on_preview)
        self._timed(time.perf_counter() - begin, len(route.computed))
        self.folder.save_path_error(route.key, sampling.sample, sampling.conds, error)
        return error

    def _done_before(self, budget: int) -> int:
        cost = self.cost()
        return cost.references + cost.replays + sum(steps for other, steps in cost.paths.items() if other > budget)

    # Accounts

    def _workers(self) -> int:
        """How many runs are made at a time."""
        return 1

    def _timed(self, seconds: float, steps: int, done: int | None = None) -> None:
        """So many steps took so long; ``done``: how many of them the calibration asked for, all if not given."""
        self._measured_seconds += seconds
        self._measured_steps += steps
        self._done += steps if done is None else done

    def _report(self, stage: str, *cells: Cell) -> None:
        cost = self.cost()
        done = min(self._done, cost.computed)
        left = None
        if self._measured_steps:
            left = (cost.computed - done) * self._measured_seconds / self._measured_steps / self._workers()
        self._on_progress(Progress(stage, done, cost.computed, left, cost, cells))

    def _identity(self) -> dict[str, object]:
        settings, model = self.settings, self.settings.model
        return {
            "family": settings.family,
            "model_class": model.model_class,
            "diffusion_model": model.diffusion_model,
            "config": dict(sorted(model.config.items())),
            "file": model.file,
            "patches": model.patches,
            "metric": settings.metric,
            "rules": [str(rule) for rule in settings.rules],
            "longest": settings.longest,
            "sigmas": list(self._sigmas),
            "latent": list(self._samplings[0].shape),
            "setup": dict(settings.setup),
            **({"carries": DENOISED} if self._arrivals is not None and self._arrivals.response.noise else {}),
        }
