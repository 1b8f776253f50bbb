"""The workers of a calibration, as it sees them: hired, given runs, replaced when they are lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..job_error import JobError, OtherPictureError
from ..replay import ReplayError
from .channel import Channel
from .shares import Run, Shares, Speeds

logger = logging.getLogger("LeMiCa")

STRIKES = 3
"""When as many workers times this are lost and no run was made in between, it is of no use to hire more."""

PATIENCE = 300.0
"""How long to wait for a cluster that is gone or not there yet, in seconds."""

PREVIEW_GAP = 0.5
"""How often a worker is asked for a preview, in seconds."""


@dataclass(frozen=True, slots=True)
class Order:
    """What workers are for, in plain values; see ``Station`` for ``calibration``.

    ``address``: of a Ray cluster, ``auto`` for the one of this machine, ``local`` to start one here. ``workers``: how many,
    0 for one a GPU. ``home``: ComfyUI's folder, its arguments, the host, for those on this machine. ``python``: the one to
    speak Ray with.
    """

    address: str
    workers: int
    python: str
    home: Mapping[str, object]
    calibration: Mapping[str, object]


Answered = Callable[[int, Run, Mapping[str, object]], None]
"""Of a worker's number, its run, and the answer: ``value``, ``seconds``, ``computed``."""


@dataclass(slots=True)
class Worker:
    """One worker: what it is doing, and what came of it so far.

    ``shares`` and ``on_answer`` are those of its last run: between two runs it may still hold a sample of theirs.
    """

    number: int
    seated: bool = False
    pid: int | None = None
    host: str = ""
    run: Run | None = None
    shares: Shares | None = None
    on_answer: Answered | None = None
    call: int = -1


@dataclass(slots=True)
class Account:
    """What a crew has done: runs, payload bytes of them, seconds that workers worked and that they were there."""

    runs: int = 0
    bytes: int = 0
    busy: float = 0.0
    there: float = 0.0
    computed: int = 0
    lost: int = 0
    restarts: int = 0

    @property
    def idle(self) -> float:
        """The share of their time in which workers had nothing to do."""
        return 1 - self.busy / self.there if self.there else 0.0


@dataclass(slots=True)
class Crew:
    """Workers for one calibration.

    Args:
        order: what they are for.
        check: is called often while they work; what it raises ends the calibration.
        on_preview: is given previews, as JPEG.
    """

    order: Order
    check: Callable[[], None] = lambda: None
    on_preview: Callable[[bytes], None] = lambda image: None
    speeds: Speeds = field(default_factory=Speeds)
    account: Account = field(default_factory=Account)
    workers: dict[int, Worker] = field(default_factory=dict)
    _channel: Channel | None = None
    _size: int = 0
    _numbers: int = 0
    _calls: int = 0
    _losses: int = 0
    _gone: list[str] = field(default_factory=list)
    _next_glance: float = 0.0
    _glancing: tuple[int, int] | None = None

    @property
    def active(self) -> int:
        """How many workers are ready to work, one at least."""
        return max(1, sum(worker.seated for worker in self.workers.values()))

    def run(self, shares: Shares, finished: Callable[[], bool], on_answer: Answered) -> None:
        """Have runs made until it is finished; ``on_answer`` is told of each in this thread, of the last ones even later.

        Raises:
            JobError: no worker is left, or the cluster does not come back.
            ReplayError: a sample cannot be measured.
        """
        while not finished():
            self.check()
            if self._channel is None:
                self._join()
            for worker in list(self.workers.values()):
                if worker.seated and worker.run is None and (run := shares.next(worker.number)) is not None:
                    worker.run, worker.shares, worker.on_answer = run, shares, on_answer
                    worker.call = self._call(worker.number, "run", run.kind, run.place, run.item)
            self._glance()
            for kind, *rest in self._channel.receive(0.1):
                if kind == "gone":
                    self._cluster_lost()
                    break
                self._heard(kind, rest)

    def close(self) -> None:
        """End all workers, and the cluster if it was started for them."""
        for worker in self.workers.values():
            self._leaves(worker)
        self.workers.clear()
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    # Workers

    def _join(self) -> None:
        """Join the cluster, or start one, and hire; wait for one that is not there."""
        end = time.monotonic() + PATIENCE
        pause = 1.0
        while True:
            self._channel = Channel(self.order.python, self.order.address, self.order.workers)
            kind, *rest = self._channel.first(self.check)
            if kind == "ready":
                break
            self._channel.close()
            self._channel = None
            text = rest[0] if rest else "its process ended"
            if "Install Ray" in text or not self._size or time.monotonic() > end:
                raise JobError(f"Ray at {self.order.address!r} cannot be reached: {text}")
            logger.warning("LeMiCa: Ray at %s is gone, trying again: %s", self.order.address, text.partition("\n")[0])
            deadline = time.monotonic() + pause
            pause = min(2 * pause, 10.0)
            while time.monotonic() < deadline:
                self.check()
                time.sleep(0.1)
        (found,) = rest
        cpu = found["gpus"] == 0
        size = self.order.workers or found["gpus"]
        if not size:
            raise JobError("Ray sees no GPU: give a number of workers, each of which takes one CPU core.")
        self._size = size
        self._channel.send("home", dict(self.order.home) | {"cpu": cpu})
        logger.info("LeMiCa: %d workers on Ray %s (%s)", size, found["version"], "one CPU core each" if cpu else "one GPU each")
        for _ in range(size - len(self._gone)):
            self._hire()

    def _hire(self) -> None:
        number = self._numbers
        self._numbers += 1
        self.workers[number] = Worker(number)
        self._channel.send("hire", number)
        self.workers[number].call = self._call(number, "open", dict(self.order.calibration))

    def _call(self, worker: int, method: str, *arguments: object) -> int:
        self._calls += 1
        self._channel.send("call", worker, self._calls, method, arguments)
        return self._calls

    def _heard(self, kind: str, rest: list) -> None:
        worker = self.workers.get(rest[0])
        if worker is None:
            return
        if kind == "lost":
            self._lost(worker, rest[1])
            return
        call, value = rest[1], rest[2]
        if self._glancing == (worker.number, call):
            self._glancing = None
            if kind == "answer" and value is not None:
                self.account.bytes += rest[3]
                self.on_preview(value)
            return
        if call != worker.call:
            return
        if kind == "error":
            self._retire(worker, value.strip().splitlines()[-1])
        elif not worker.seated:
            self._seated(worker, value)
        else:
            self._answered(worker, value, rest[3])

    def _seated(self, worker: Worker, told: Mapping[str, object]) -> None:
        if "refused" in told:
            self._retire(worker, told["refused"])
            return
        worker.seated, worker.pid, worker.host = True, told["pid"], told["host"]
        logger.info("LeMiCa: worker %d is ready on %s, %s", worker.number, worker.host, told["device"])
        self.account.there -= time.monotonic()

    def _answered(self, worker: Worker, answer: Mapping[str, object], size: int) -> None:
        run, shares = worker.run, worker.shares
        self.account.runs += 1
        self.account.bytes += size
        if "failed" in answer:
            if answer["failed"] == "sample":
                raise ReplayError(answer["message"])
            self._retire(worker, f"it ran out of memory ({answer['message']})")
            return
        self.account.busy += answer["seconds"]
        self.account.computed += answer["computed"]
        try:
            worker.on_answer(worker.number, run, answer)
        except OtherPictureError as error:
            self._retire(worker, str(error))
            return
        worker.run = None
        self._losses = 0
        shares.done(worker.number, run, answer["seconds"])

    def _leaves(self, worker: Worker) -> None:
        if worker.seated:
            self.account.there += time.monotonic()
            worker.seated = False

    def _lost(self, worker: Worker, reason: str) -> None:
        """A worker was ended from outside: another one takes its place."""
        self.account.lost += 1
        self._losses += 1
        where = f" on {worker.host}" if worker.host else ""
        if self._losses >= STRIKES * self._size:
            self._retire(worker, f"{self._losses} were lost and no run was made in between, the last one so: {reason}")
            return
        logger.warning("LeMiCa: worker %d%s is lost, another one takes its place: %s", worker.number, where, reason)
        self._remove(worker)
        self._hire()

    def _retire(self, worker: Worker, reason: str) -> None:
        """A worker cannot work: the others go on without it."""
        where = f" on {worker.host}" if worker.host else ""
        text = f"worker {worker.number}{where} cannot go on: {reason}"
        logger.error("LeMiCa: %s", text)
        self._gone.append(text)
        self._remove(worker)
        if not self.workers:
            raise JobError(f"No worker is left, what was measured is kept. {'. '.join(self._gone)}.")

    def _remove(self, worker: Worker) -> None:
        if worker.shares is not None:
            worker.shares.lost(worker.number, worker.run)
        self._leaves(worker)
        del self.workers[worker.number]
        if self._glancing is not None and self._glancing[0] == worker.number:
            self._glancing = None
        self._channel.send("fire", worker.number)

    def _cluster_lost(self) -> None:
        """The process that speaks Ray is gone, and all workers with it."""
        logger.warning("LeMiCa: the Ray cluster is gone; what was measured is kept")
        self.account.restarts += 1
        self.account.lost += len(self.workers)
        for worker in self.workers.values():
            if worker.shares is not None:
                worker.shares.lost(worker.number, worker.run)
            self._leaves(worker)
        self.workers.clear()
        self._glancing = None
        self._channel.close()
        self._channel = None

    def _glance(self) -> None:
        """Ask the worker that has been busy longest for a preview."""
        if self._glancing is not None or time.monotonic() < self._next_glance:
            return
        busy = [worker for worker in self.workers.values() if worker.run is not None]
        if not busy:
            return
        worker = min(busy, key=lambda one: one.number)
        self._next_glance = time.monotonic() + PREVIEW_GAP
        self._glancing = worker.number, self._call(worker.number, "glance")
