"""A calibration whose runs are made by a crew; it is written down here, as one in a single process is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..fitting import Fitting
from ..full_run import FullRun, Measured
from ..job import Job, Result
from ..outcome import Route
from .crew import Crew
from .crew_fitting import CrewFitting
from .shares import PathShares, Run, SampleShares, WalkShares


class CrewJob(Job):
    """A Job that has its runs made by workers.

    Args:
        crew: the workers; closed when the job ends.
        arguments: those of Job.
    """

    def __init__(self, *arguments: object, crew: Crew, **named: object) -> None:
        super().__init__(*arguments, **named)
        self._crew = crew
        self._paths = PathShares(self._steps, crew.speeds)
        self._walks = WalkShares(lambda worker: worker in crew.workers)
        self._expected: Sequence[Route] = ()
        self._wanted_paths: dict[Run, tuple[Route, int]] = {}

    def run(self) -> Result:
        """As Job, with the crew gone afterwards."""
        try:
            return super().run()
        finally:
            self._crew.close()

    def _measure_all(self) -> list[Measured]:
        crew, samples = self._crew, [self._open(place) for place in range(len(self._samplings))]
        cost = (self._steps - self._segments[:, 2].astype(int)).tolist()
        shares = SampleShares(
            self._steps, {one.place: one.todo for one in samples}, cost,
            [one.place for one in samples if one.measured is None], crew.speeds,
        )

        def answered(worker: int, run: Run, answer: Mapping[str, object]) -> None:
            pending = samples[run.place]
            pending.stage = f"{shares.complete} of {len(samples)} samples, {crew.active} workers"
            if run.kind == "replay":
                self._replayed(pending, run.item, answer["value"], answer["seconds"])
                return
            sampling, first = self._samplings[run.place], pending.measured is None
            self._begun(pending, FullRun(sampling.sample, sampling.conds, *answer["value"], whole=False))
            self._paths.knows(worker, run.place)
            self._walks.knows(worker, run.place)
            self._timed(answer["seconds"], self._steps, done=self._steps if first else 0)
            self._report(pending.stage, *(self._first_cells(pending.measured) if first else ()))

        if not shares.finished:
            self._report("workers are loading the model")
        crew.run(shares, lambda: shares.finished, answered)
        return [one.measured for one in samples]

    def _fitting(self, measured: Sequence[Measured], on_step: Callable[[float], None]) -> Fitting:
        return CrewFitting(
            self.folder, self._replays[: len(measured)], [one.full for one in measured], on_step, None,
            crew=self._crew, shares=self._walks,
        )

    @property
    def _needs_whole(self) -> bool:
        return False

    def _expect(self, routes: Sequence[Route]) -> None:
        self._expected = routes

    def _measure_path(self, route: Route, place: int) -> float:
        """The error of a route on a sample; idle workers measure what is likely to be asked for next."""
        self._paths.want(self._likely(route))

        def answered(worker: int, run: Run, answer: Mapping[str, object]) -> None:
            found, number = self._wanted_paths[run]
            sampling = self._judged[number]
            self.folder.save_path_error(found.key, sampling.sample, sampling.conds, answer["value"])
            self._timed(answer["seconds"], run.steps, done=0)

        self._crew.run(self._paths, lambda: self._known_error(route, place) is not None, answered)
        return self._known_error(route, place)

    def _likely(self, route: Route) -> list[Run]:
        """The runs of a route, and of so many after it that every worker has something to do."""
        wanted: list[Run] = []
        for other in (route, *self._expected):
            for place in range(len(self._judged)):
                if self._known_error(other, place) is None:
                    run = Run("path", place, (other.computed, tuple(map(str, other.rules))), len(other.computed))
                    self._wanted_paths[run] = other, place
                    wanted.append(run)
            if len(wanted) >= 2 * self._crew.active:
                break
        return wanted

    def _computed(self) -> int:
        return super()._computed() + self._crew.account.computed

    def _workers(self) -> int:
        return self._crew.active
