"""Which run a worker makes next. Pure: it is told of answers and losses, by real workers and by the simulation alike.

Samples are handed out whole, since a replay needs the sample's reference trajectory, which stays in the worker that made
it. A worker that finds no sample left joins the one that would take longest, if making that reference again is worth it.
The edges of a sample are drawn one by one by all who hold it, so a slow worker takes few of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

JOIN = 1.2
"""A worker joins a sample whose replays would take the others this many times as long as making its reference again."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a worker is asked for: the ``full`` run of a sample, one ``replay``, a whole ``path``; or the ``products`` of a
    segment of a path that is being fitted, and its ``finish``.

    ``item``: of a full run whether the sample had none before, of a replay the edge, of a path its computed steps and rules, of
    products the computed steps, the weights so far and the segment's place, of a finish steps and weights. ``steps``: how
    many steps it computes, as far as is known before.
    """

    kind: str
    place: int
    item: Hashable
    steps: int


class Shares(Protocol):
    """Hands out runs."""

    def next(self, worker: int) -> Run | None:
        """What this worker is to do now; None for nothing."""

    def done(self, worker: int, run: Run, seconds: float) -> None:
        """A worker has made a run in so many seconds."""

    def lost(self, worker: int, run: Run | None) -> None:
        """A worker is gone, with the run it was making."""


class Speeds:
    """The seconds that every worker takes for a step, from what it has made so far."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._steps: dict[int, int] = {}

    def note(self, worker: int, steps: int, seconds: float) -> None:
        """A worker has computed so many steps in so many seconds."""
        self._seconds[worker] = self._seconds.get(worker, 0.0) + seconds
        self._steps[worker] = self._steps.get(worker, 0) + steps

    def of(self, worker: int) -> float:
        """Seconds a step; of a worker that has made none, the mean of the others."""
        if self._steps.get(worker):
            return self._seconds[worker] / self._steps[worker]
        total = sum(self._steps.values())
        return sum(self._seconds.values()) / total if total else 1.0


@dataclass(slots=True)
class _Sample:
    """A sample that is not complete: edges nobody has, how many are being replayed, who has or makes its reference."""

    edges: deque[int]
    steps_left: int
    needs_reference: bool
    replaying: int = 0
    holders: set[int] = field(default_factory=set)

    @property
    def complete(self) -> bool:
        return not self.edges and not self.replaying and not self.needs_reference


class SampleShares:
    """Hands out references and replays.

    Args:
        steps: N.
        edges: the edges to replay of every sample, by its place.
        cost: the steps that replaying an edge computes, by edge.
        need_reference: the places of the samples that need a reference even if none of their edges is left.
        speeds: of the workers.
    """

    def __init__(
        self, steps: int, edges: Mapping[int, Sequence[int]], cost: Mapping[int, int] | Sequence[int],
        need_reference: Sequence[int], speeds: Speeds,
    ) -> None:
        self._steps, self._cost, self._speeds = steps, cost, speeds
        self._samples = {
            place: _Sample(deque(todo), sum(cost[edge] for edge in todo), place in need_reference)
            for place, todo in edges.items()
        }
        self._open = {place: sample for place, sample in self._samples.items() if not sample.complete}
        self._new = deque(self._open)
        self._held: dict[int, int] = {}

    @property
    def finished(self) -> bool:
        """Whether every sample is complete."""
        return not self._open

    @property
    def complete(self) -> int:
        """How many samples are complete."""
        return len(self._samples) - len(self._open)

    def next(self, worker: int) -> Run | None:
        """A replay of the sample that it holds, else the reference of a new one, else of one that is worth joining."""
        place = self._held.get(worker)
        if place is not None:
            sample = self._samples[place]
            if sample.edges:
                edge = sample.edges.popleft()
                sample.replaying += 1
                return Run("replay", place, edge, self._cost[edge])
            self._let_go(worker)
        place = self._new.popleft() if self._new else self._worth_joining(worker)
        if place is None:
            return None
        self._held[worker] = place
        sample = self._samples[place]
        sample.holders.add(worker)
        return Run("full", place, sample.needs_reference, self._steps)

    def done(self, worker: int, run: Run, seconds: float) -> None:
        """A reference or a replay is made."""
        self._speeds.note(worker, run.steps, seconds)
        sample = self._samples[run.place]
        if run.kind == "full":
            sample.needs_reference = False
        else:
            sample.replaying -= 1
            sample.steps_left -= run.steps
        if sample.complete:
            self._open.pop(run.place, None)

    def lost(self, worker: int, run: Run | None) -> None:
        """What the worker was replaying is to be replayed by another one."""
        if run is not None and run.kind == "replay":
            sample = self._samples[run.place]
            sample.replaying -= 1
            sample.edges.appendleft(run.item)
        self._let_go(worker)

    def _let_go(self, worker: int) -> None:
        place = self._held.pop(worker, None)
        if place is None:
            return
        sample = self._samples[place]
        sample.holders.discard(worker)
        if not sample.holders and (sample.edges or sample.needs_reference):
            self._new.appendleft(place)

    def _worth_joining(self, worker: int) -> int | None:
        longest, found = JOIN * self._steps * self._speeds.of(worker), None
        for place, sample in self._open.items():
            if sample.edges and (left := self._seconds_left(sample)) > longest:
                longest, found = left, place
        return found

    def _seconds_left(self, sample: _Sample) -> float:
        """How long those who hold a sample have still to replay."""
        return sample.steps_left / sum(1 / max(self._speeds.of(holder), 1e-9) for holder in sample.holders)


class PathShares:
    """Hands out whole paths, in the order in which their errors are asked for.

    A worker rather takes a sample whose full run it has made before: another one costs it N steps more.

    Args:
        steps: N.
        speeds: of the workers.
    """

    def __init__(self, steps: int, speeds: Speeds) -> None:
        self._steps, self._speeds = steps, speeds
        self._wanted: deque[Run] = deque()
        self._begun: set[Run] = set()
        self._known: dict[int, set[int]] = {}

    def want(self, runs: Sequence[Run]) -> None:
        """Put these in place of what was wanted and not begun."""
        self._wanted = deque(run for run in runs if run not in self._begun)

    def knows(self, worker: int, place: int) -> None:
        """A worker has the full run of a sample."""
        self._known.setdefault(worker, set()).add(place)

    def next(self, worker: int) -> Run | None:
        """The first path that is wanted, or one soon after it for which the worker has the full run."""
        if not self._wanted:
            return None
        places = len({run.place for run in self._wanted})
        known = self._known.get(worker, set())
        near = list(self._wanted)[: 2 * places]
        run = next((run for run in near if run.place in known), near[0])
        self._wanted.remove(run)
        self._begun.add(run)
        return run

    def done(self, worker: int, run: Run, seconds: float) -> None:
        """A path is measured."""
        self._begun.discard(run)
        extra = 0 if run.place in self._known.get(worker, ()) else self._steps
        self._speeds.note(worker, run.steps + extra, seconds)
        self.knows(worker, run.place)

    def lost(self, worker: int, run: Run | None) -> None:
        """The path is wanted again, first of all."""
        self._known.pop(worker, None)
        if run is not None:
            self._begun.discard(run)
            self._wanted.appendleft(run)


class WalkShares:
    """Hands out what is asked of every sample at once; a sample stays with the worker that has its full run.

    Args:
        there: whether a worker is still there.
    """

    def __init__(self, there: Callable[[int], bool]) -> None:
        self._there = there
        self._wanted: deque[Run] = deque()
        self._with: dict[int, int] = {}

    def want(self, runs: Sequence[Run]) -> None:
        """These are wanted now."""
        self._wanted = deque(runs)

    def knows(self, worker: int, place: int) -> None:
        """A worker has the full run of a sample."""
        self._with[place] = worker

    def next(self, worker: int) -> Run | None:
        """What is wanted of a sample that this worker has, or else of one that no worker has."""
        own = [run for run in self._wanted if self._with.get(run.place) == worker]
        free = [run for run in self._wanted if not self._there(self._with.get(run.place, -1))]
        for run in (*own, *free):
            self._wanted.remove(run)
            self._with[run.place] = worker
            return run
        return None

    def done(self, worker: int, run: Run, seconds: float) -> None:
        """Nothing: every sample has one worker."""

    def lost(self, worker: int, run: Run | None) -> None:
        """What the worker was asked for is wanted again."""
        if run is not None:
            self._wanted.appendleft(run)
