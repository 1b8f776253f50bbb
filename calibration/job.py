"""A calibration from its first model call to its schedules: samples x segments, then whole paths.

It is written down after every replay. Started again with the same settings it goes on where it was: only the full run
of a sample that is not done, and at most one replay, are made twice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..schedules import ModelIdentity, Schedule
from .estimate import errors_of, replay_calls, replayed_edges
from .graph import ErrorGraph
from .job_folder import JobError, JobFolder, Measured, OtherPictureError, folder_name, told_what_is_kept
from .latents import LATENT_DISTANCES, Distance
from .outcome import Contest, Outcome, Route, candidates, most_candidates
from .replay import Replays
from .sampling import Callback, Sampling
from .segments import all_segments
from .settings import Cell, Cost, Progress, Settings, duration

__all__ = ["Cell", "Cost", "Job", "Progress", "Result", "Settings", "duration"]

SKETCH_TOLERANCE = 0.05
"""How far they may be off, as a share of their size: a GPU's rounding, not another model."""


@dataclass(frozen=True, slots=True)
class Result:
    """The error graph, per budget the outcome of its best route, and how many steps were computed for them this time."""

    graph: ErrorGraph
    outcomes: Mapping[int, Outcome]
    computed: int

    def schedules(self, name: str) -> list[Schedule]:
        """The schedules that were measured best, one a budget, named ``name/NbB``."""
        graph = self.graph
        return [
            Schedule(
                name=f"{name}/{graph.steps}b{budget}",
                family=graph.family,
                steps=graph.steps,
                computed=outcome.route.computed,
                rules=outcome.route.rules,
                origin="calibrated",
                sigmas=graph.sigmas,
                source={**graph.provenance(name), "path": outcome.route.found, "measured": outcome.figures},
            )
            for budget, outcome in sorted(self.outcomes.items(), reverse=True)
        ]


@dataclass(slots=True)
class Pending:
    """A sample, and which of its edges are still to be replayed; ``measured`` is None until its full run was made."""

    place: int
    stage: str
    measured: Measured | None
    todo: list[int]

    @property
    def needs_deltas(self) -> bool:
        """Whether the distances at the ends of segments are not known."""
        return self.measured is None or bool(np.isnan(self.measured.deltas).any())

    @property
    def complete(self) -> bool:
        """Whether nothing is left to measure."""
        return not self.todo and not self.needs_deltas


class Job:
    """One calibration.

    Args:
        root: the directory of calibrations.
        name: what the user calls it; one folder of ``root`` belongs to it.
        samplings: the samples, on one grid.
        settings: what to measure.
        judges: further samples on which only whole paths are measured, at a small part of the cost.
        distance: the error between final latents; by default the metric of ``settings`` on the latents.
        others: schedules from elsewhere to be measured beside the solver's.
        on_progress: is told of every replay and path.
        on_preview: the callback of the sampler's runs that compute.

    Raises:
        JobError: settings that do not fit, no samples, or samples on different grids.
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
        self._segments = all_segments(self._steps, settings.longest, settings.rules)
        self._latent_metric = distance is None
        self._replays = [
            Replays(sampling, settings.rules, distance or LATENT_DISTANCES[settings.metric]) for sampling in self._judged
        ]
        self._wanted = replayed_edges(
            self._segments, self._steps, settings.rules, settings.mode, tails=not self._latent_metric
        )
        self.folder = JobFolder(root / folder_name(name), self._identity(), len(self._segments))
        self._others = others
        self._on_progress, self._on_preview = on_progress, on_preview
        self._done = 0
        self._measured_seconds, self._measured_steps = 0.0, 0

    def cost(self) -> Cost:
        """What the whole calibration asks of the model when nothing of it is there yet."""
        count = len(self._samplings)
        return Cost(
            steps=self._steps,
            references=len(self._judged) * self._steps,
            replays=count * replay_calls(self._segments, self._steps, self._wanted),
            paths=len(self._judged) * sum(budget * self._tries(budget) for budget in set(self.settings.budgets)),
        )

    def _tries(self, budget: int) -> int:
        """How many paths are measured for a budget, at most."""
        others = sum(schedule.budget == budget for schedule in self._others)
        return most_candidates(len(self.settings.rules), others) + self.settings.tries

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
            graph = self._graph(self._measure_all())
            outcomes = {budget: self._decide(graph, budget) for budget in sorted(set(self.settings.budgets), reverse=True)}
            return Result(graph, outcomes, self._computed() - before)
        finally:
            self.folder.close()
            for replays in self._replays:
                replays.forget()

    def _computed(self) -> int:
        """How many steps all runs so far have computed."""
        return sum(sampling.computed for sampling in self._judged)

    # Segments

    def _measure_all(self) -> list[Measured]:
        """Everything that the graph needs of all samples."""
        return [self._measure(place) for place in range(len(self._samplings))]

    def _measure(self, place: int) -> Measured:
        """Everything that the graph needs of one sample, measured in this process."""
        pending, replays = self._open(place), self._replays[place]
        if pending.complete:
            return pending.measured
        reference = replays.reference(self._on_preview)
        self._begun(pending, replays.sketch(), lambda: replays.segment_deltas(self._segments, self.settings.rules))
        self._timed(reference.seconds, self._steps)
        for edge in list(pending.todo):
            before, start, end, kind = self._segments[edge].tolist()
            begin = time.perf_counter()
            error = replays.replay(before, start, end, self.settings.rules[kind], self._on_preview)
            self._replayed(pending, edge, error, time.perf_counter() - begin)
        replays.forget()
        return pending.measured

    def _open(self, place: int) -> Pending:
        """A sample with what the folder knows of it; that much is done."""
        sampling = self._samplings[place]
        measured = self.folder.load(sampling.sample, sampling.conds)
        todo = self._wanted if measured is None else self._wanted[np.isnan(measured.replayed[self._wanted])]
        pending = Pending(place, f"sample {place + 1} of {len(self._samplings)}", measured, todo.tolist())
        self._done += replay_calls(self._segments, self._steps, np.setdiff1d(self._wanted, todo))
        if pending.complete:
            self._done += self._steps
        known = [] if measured is None else np.setdiff1d(self._wanted, todo).tolist()
        self._report(pending.stage, *(cell for edge in known for cell in self._cells(measured, edge)))
        return pending

    def _begun(self, pending: Pending, sketch: Sequence[float], deltas: Callable[[], np.ndarray]) -> None:
        """The full run of a sample is made: keep its deltas if they are not known yet.

        Raises:
            OtherPictureError: it ends elsewhere than the one that the sample was begun with.
        """
        sampling = self._samplings[pending.place]
        if pending.measured is None:
            unknown = np.full(len(self._segments), np.nan)
            pending.measured = Measured(sampling.sample, sampling.conds, list(sketch), unknown.copy(), unknown)
        _check_same(sketch, pending.measured.sketch, sampling)
        if pending.needs_deltas:
            pending.measured.deltas[:] = deltas()
            self.folder.save(pending.measured)

    def _replayed(self, pending: Pending, edge: int, error: float, seconds: float) -> None:
        """Write down what a replay gave, and tell it."""
        pending.measured.replayed[edge] = error
        self.folder.save(pending.measured)
        pending.todo.remove(edge)
        self._timed(seconds, self._steps - int(self._segments[edge, 2]))
        self._report(pending.stage, *self._cells(pending.measured, edge))

    def _cells(self, measured: Measured, edge: int) -> list[Cell]:
        """What a replay tells: its error, and where it stands for others at its end, theirs, for the best step before."""
        _, start, end, kind = self._segments[edge].tolist()
        rules, error = self.settings.rules, float(measured.replayed[edge])
        delta = measured.deltas[edge]
        if self.settings.mode == "exact" or not delta > 0:
            return [(start, end, error, rules[kind])]
        kinds = [place for place, rule in enumerate(rules) if rule.target == rules[kind].target]
        best: dict[tuple[int, int], float] = {}
        for other in np.flatnonzero((self._segments[:, 2] == end) & np.isin(self._segments[:, 3], kinds)).tolist():
            key = int(self._segments[other, 1]), int(self._segments[other, 3])
            best[key] = min(float(measured.deltas[other] / delta * error), best.get(key, math.inf))
        return [(start, end, value, rules[kind]) for (start, kind), value in best.items()]

    def _graph(self, measured: Sequence[Measured]) -> ErrorGraph:
        """The error graph of all samples, those of earlier runs with the same settings included."""
        settings = self.settings
        known = {(one.sample, one.conds): one for one in self.folder.load_all()}
        known |= {(one.sample, one.conds): one for one in measured}
        full = [one for one in known.values() if not np.isnan(one.replayed[self._wanted]).any()]
        unique = sorted({one.sample: one for one in full}.values(), key=lambda one: (one.sample.seed, one.sample.prompt))
        # What another mode replayed beside is left out, so that a mode always gives the same graph.
        wanted = np.isin(np.arange(len(self._segments)), self._wanted)
        errors = [
            errors_of(
                self._segments, self._steps, settings.rules, one.deltas, np.where(wanted, one.replayed, np.nan),
                self._latent_metric,
            )
            for one in unique
        ]
        return ErrorGraph(
            family=settings.family, model=self._measured_model(), sigmas=self._sigmas, mode=settings.mode,
            metric=settings.metric, rules=settings.rules, samples=tuple(one.sample for one in unique), segments=self._segments,
            errors=np.stack(errors), setup=dict(settings.setup),
        )

    def _measured_model(self) -> ModelIdentity:
        """The model of the folder's measurements; where older ones are among them, its patches are not known."""
        model = self.settings.model
        return replace(model, patches=None) if self.folder.unknown_patches else model

    # Whole paths

    def _decide(self, graph: ErrorGraph, budget: int) -> Outcome:
        """The best route of a budget, by measured outcome."""
        routes = candidates(graph, budget, self._others)
        stage = f"paths with {budget} computed steps"
        total = self._tries(budget)
        self._done = self._done_before(budget)

        def measure(route: Route, place: int) -> float:
            sampling = self._judged[place]
            error = self.folder.path_error(route.key, sampling.sample, sampling.conds)
            if error is None:
                error = self._measure_path(route, place)
            share = min(contest.tried / total, 1.0)
            self._done = self._done_before(budget) + int(share * total * budget * len(self._judged))
            self._report(stage)
            return error

        contest = Contest(measure, len(self._judged), self._steps, self._expect)
        return contest.polish(contest.best(routes), self.settings.tries, graph.rules)

    def _expect(self, routes: Sequence[Route]) -> None:
        """Which routes are likely to be measured next; of no use where one is measured at a time."""

    def _measure_path(self, route: Route, place: int) -> float:
        """The error of a route on a sample, measured and written down."""
        begin, sampling = time.perf_counter(), self._judged[place]
        error = self._replays[place].path(route.schedule(self._steps), self._on_preview)
        self._timed(time.perf_counter() - begin, len(route.computed))
        self.folder.save_path_error(route.key, sampling.sample, sampling.conds, error)
        return error

    def _done_before(self, budget: int) -> int:
        cost = self.cost()
        larger = sum(other * self._tries(other) for other in set(self.settings.budgets) if other > budget)
        return cost.references + cost.replays + len(self._judged) * larger

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
        }


def _check_same(sketch: Sequence[float], known: Sequence[float], sampling: Sampling) -> None:
    """OtherPictureError unless the model gives what it gave when the sample was begun."""
    difference = np.abs(np.subtract(sketch, known)).mean() if len(sketch) == len(known) else np.inf
    if not difference <= SKETCH_TOLERANCE * np.abs(known).mean():
        raise OtherPictureError(
            f"For prompt {sampling.sample.prompt[:60]!r}, seed {sampling.sample.seed}, the model gives another picture than "
            "when this calibration was begun: a LoRA, the checkpoint or the code has changed. Give the calibration "
            "another name, or go back to what it was begun with."
        )
