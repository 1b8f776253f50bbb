"""What a crew makes of the messages of its workers, whatever comes of them in one batch; no Ray is asked."""

from __future__ import annotations

import time
from collections import Counter, deque
from random import Random
from types import ModuleType

import pytest
from lemica.calibration.cluster.shares import PathShares, Run, SampleShares, Speeds, WalkShares

STEPS = 6
DEADLINE = 20.0
"""In seconds; what is tested here takes a part of one."""

ANSWERS = {
    "open": {"pid": 1, "host": "here", "device": "cpu"}, "run": {"value": 0.5, "seconds": 0.1, "computed": 1}, "glance": None
}


class Workers:
    """Stands for the process that speaks Ray: keeps the calls of every worker, and answers or loses them when told to.

    Args:
        script: what the next messages are, as a list; is given this.
    """

    def __init__(self, script) -> None:
        self._script = script
        self.calls: dict[int, deque[tuple[int, str]]] = {}
        self.dead: set[int] = set()

    def first(self, check) -> tuple:
        return "ready", {"gpus": 0, "cpus": 4, "version": "none"}

    def send(self, kind: str, *rest) -> None:
        if kind == "hire":
            self.calls[rest[0]] = deque()
        elif kind == "fire":
            self.calls.pop(rest[0], None)
        elif kind == "call" and rest[0] in self.calls:
            self.calls[rest[0]].append((rest[1], rest[2]))

    def receive(self, seconds: float) -> list[tuple]:
        return self._script(self)

    def answer(self, worker: int, method: str | None = None) -> tuple:
        """The answer to the oldest call of a worker, or to the oldest one of this method."""
        found = next(one for one in self.calls[worker] if method in (None, one[1]))
        self.calls[worker].remove(found)
        return "answer", worker, found[0], ANSWERS[found[1]], 8

    def lose(self, worker: int) -> list[tuple]:
        """Its loss, once for every call that it has not answered, as Ray tells it."""
        self.dead.add(worker)
        return [("lost", worker, "it died") for _ in range(len(self.calls[worker]))]

    def close(self) -> None:
        self.calls.clear()


@pytest.fixture
def a_crew(comfy: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """Makes a crew of workers that follow a script; it does not outlive the deadline."""
    from lemica.calibration.cluster import crew

    monkeypatch.setattr(crew, "PREVIEW_GAP", 0.0)
    monkeypatch.setattr(crew, "STRIKES", 1000)
    end = time.monotonic() + DEADLINE

    def check() -> None:
        assert time.monotonic() < end, "the calibration never ends"

    def make(script, workers: int = 2) -> crew.Crew:
        monkeypatch.setattr(crew, "Channel", lambda *arguments: Workers(script))
        return crew.Crew(crew.Order("local", workers, "python", {}, {}), check)

    return make


def samples(edges: dict[int, list[int]]) -> SampleShares:
    return SampleShares(STEPS, edges, dict.fromkeys(range(100), 1), list(edges), Speeds())


def test_a_worker_that_answers_and_dies_with_a_preview_pending_leaves_its_sample_to_others(a_crew):
    """Both in one batch: the answer comes before the loss, which only the preview tells."""
    died = []

    def script(there: Workers) -> list[tuple]:
        told = []
        for worker, calls in list(there.calls.items()):
            methods = [method for _, method in calls]
            if not died and worker == 0 and made["replay"] and "run" in methods and "glance" in methods:
                died.append(worker)
                told += [there.answer(worker, "run"), *there.lose(worker)]
            elif methods and worker not in there.dead and (died or worker != 0 or "run" not in methods or not made["replay"]):
                told.append(there.answer(worker))
        return told

    made: Counter = Counter()
    crew = a_crew(script, workers=1)
    shares = samples({0: [0, 1, 2, 3]})
    edges = []

    def answered(worker: int, run: Run, answer) -> None:
        made[run.kind] += 1
        if run.kind == "replay":
            edges.append(run.item)

    crew.run(shares, lambda: shares.finished, answered)
    assert died and crew.account.lost == 1
    assert sorted(edges) == [0, 1, 2, 3] and made["full"] == 2


@pytest.mark.parametrize("seed", range(40))
def test_every_edge_is_replayed_once_whatever_comes_in_one_batch(a_crew, seed):
    draw = Random(seed)

    def script(there: Workers) -> list[tuple]:
        told: list[tuple] = []
        if draw.random() < 0.02:
            return [("gone",)]
        for worker in draw.sample(sorted(there.calls), len(there.calls)):
            for _ in range(draw.randrange(len(there.calls[worker]) + 1)):
                if worker not in there.dead:
                    told.append(there.answer(worker))
            if there.calls[worker] and draw.random() < 0.08:
                told += there.lose(worker)
        return told

    crew = a_crew(script, workers=draw.randrange(1, 4))
    edges = {place: list(range(draw.randrange(8))) for place in range(draw.randrange(1, 4))}
    shares, made = samples(edges), Counter()
    crew.run(shares, lambda: shares.finished, lambda worker, run, answer: made.update([(run.kind, run.place, run.item)]))
    replays = {key: count for key, count in made.items() if key[0] == "replay"}
    assert replays == {("replay", place, edge): 1 for place, todo in edges.items() for edge in todo}


@pytest.mark.parametrize("seed", range(40))
def test_every_question_is_answered_by_every_sample_whatever_comes_in_one_batch(a_crew, seed):
    """A sample changes its worker only when that one is gone."""
    draw = Random(seed)

    def script(there: Workers) -> list[tuple]:
        told: list[tuple] = []
        if draw.random() < 0.02:
            return [("gone",)]
        for worker in draw.sample(sorted(there.calls), len(there.calls)):
            for _ in range(draw.randrange(len(there.calls[worker]) + 1)):
                if worker not in there.dead:
                    told.append(there.answer(worker))
            if there.calls[worker] and draw.random() < 0.08:
                told += there.lose(worker)
        return told

    crew = a_crew(script, workers=draw.randrange(1, 4))
    shares, places, owner = WalkShares(lambda worker: worker in crew.workers), draw.randrange(1, 5), {}
    for question in range(6):
        found: Counter = Counter()

        def answered(worker: int, run: Run, answer, question=question, found=found) -> None:
            assert run.item == question
            assert owner.get(run.place, worker) == worker or owner[run.place] not in crew.workers
            owner[run.place] = worker
            found.update([run.place])

        shares.want([Run("products", place, question, 1) for place in range(places)])
        crew.run(shares, lambda found=found: len(found) == places, answered)
        assert found == Counter(range(places))


def test_a_run_that_ends_after_its_samples_is_told_to_those_who_asked_for_it(a_crew):
    """A slow worker that joined a sample is still at its reference when others have replayed the rest, and paths begin."""

    def script(there: Workers) -> list[tuple]:
        slow = crew.workers[1].run is not None and not told["path"]
        return [there.answer(worker) for worker, calls in there.calls.items() if calls and not (slow and worker == 1)]

    told: Counter = Counter()
    crew = a_crew(script)
    crew.speeds.note(0, 1, 1.0)
    shares = SampleShares(STEPS, {0: list(range(20))}, dict.fromkeys(range(20), 3), [0], crew.speeds)
    crew.run(shares, lambda: shares.finished, lambda worker, run, answer: told.update([run.kind]))
    assert crew.workers[1].run.kind == "full", "it has joined, and is not done"

    paths = PathShares(STEPS, crew.speeds)
    wanted = [Run("path", place, ((0, 3), ("output hold", "output hold")), 2) for place in range(4)]
    paths.want(wanted)

    def measured(worker: int, run: Run, answer) -> None:
        assert run in wanted
        told.update([run.kind])

    crew.run(paths, lambda: told["path"] == 4 and told["full"] == 2, measured)
