"""Several at once: two tabs of one page, two jobs, two ComfyUI servers on one user directory."""

from __future__ import annotations

import json
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
from calibration_prompts import Watched, calibrate, demo_models, solve, watch
from filelock import FileLock
from route_requests import Answer, files, get, make_graph, post, schedule, upload, user_folder


@pytest.fixture
def user(server) -> Iterator[Path]:
    """The pack's folder in the user's directory."""
    yield from user_folder(server)


@pytest.fixture(scope="module")
def second(comfyui, server, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """Another ComfyUI server on the same user directory."""
    from lemica.workflows.server import Server

    with Server(comfyui, tmp_path_factory.mktemp("second") / "output", user=server.user) as running:
        yield running


def at_once(*works: Callable[[], object]) -> list:
    """What all of these return when they begin together; the first error of one."""
    results: list = [None] * len(works)
    start = threading.Barrier(len(works))

    def work(place: int) -> None:
        start.wait()
        try:
            results[place] = works[place]()
        except BaseException as error:
            results[place] = error

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def tab(server, seed: int, requests: int) -> list[Answer]:
    """Solve, save, rename, merge, import, delete and list, as somebody who is in a hurry."""
    draw = Random(seed)
    names = ["one", "two", "three"]
    answers = []
    for _ in range(requests):
        kind, name, other = draw.choice(["schedule", "calibration"]), draw.choice(names), draw.choice(names)
        content = json.dumps({"schema": 1, "name": name, **schedule()}).encode()
        answers.append(draw.choice([
            lambda: post(server, "solve", {"calibration": "measured", "budget": draw.randrange(1, 7), "curve": True}),
            lambda: post(server, "save", {"schedule": schedule(source={"seed": seed}), "name": name, "replace": seed % 2 == 0}),
            lambda: post(server, "save", {"calibration": "measured", "budget": 3, "name": name}),
            lambda: post(server, "rename", {"kind": kind, "old": name, "new": other}),
            lambda: post(server, "merge", {"first": "measured", "second": "more", "name": name}),
            lambda: post(server, "delete", {"kind": kind, "name": name}),
            lambda: get(server, "export", kind=kind, name=name),
            lambda: get(server, "library"),
            lambda: upload(server, "x.json", content),
        ])())
    return answers


def check_whole(server, user: Path) -> None:
    """Every file can be read, names stand for one thing each, nothing is left half way."""
    shown = get(server, "library").json
    assert shown["problems"] == []
    names = [one["name"] for kind in ("schedules", "calibrations") for one in shown[kind]]
    assert len(names) == len(set(names))
    assert not [path for path in files(user) if path.endswith(".tmp") or ".import-" in path]


def test_tabs_that_change_everything_at_once(server, second, user):
    from lemica.calibration import Sample
    from lemica.calibration.store import Calibrations

    Calibrations(user / "calibrations").save("more", make_graph(samples=(Sample("a cat", 1), Sample("a bird", 9))))
    answers = at_once(*(lambda place=place: tab((server, second)[place % 2], place, 25) for place in range(4)))
    statuses = {answer.status for some in answers for answer in some}
    assert statuses <= {200, 400, 404, 409}, [a.content for some in answers for a in some if a.status >= 500]
    check_whole(server, user)
    check_whole(second, user)
    assert get(server, "library").json["schedules"] == get(second, "library").json["schedules"]


def test_a_new_name_is_given_to_one_of_all_who_ask(server, second, user):
    for number in range(5):
        body = {"schedule": schedule(), "name": f"wanted {number}"}
        answers = at_once(*(lambda place=place: post((server, second)[place % 2], "save", body) for place in range(6)))
        assert sorted(answer.status for answer in answers) == [200] + [409] * 5


def test_an_import_at_the_same_time_gets_a_name_of_its_own(server, second, user):
    def sent(place: int, number: int) -> Answer:
        content = json.dumps({"schema": 1, "name": "same", **schedule(source={"number": number})}).encode()
        return upload((server, second)[place % 2], "x.json", content)

    answers = at_once(*(lambda place=place: sent(place, place) for place in range(6)))
    expected = ["same", *(f"same ({number})" for number in range(2, 7))]
    assert sorted(answer.json["name"] for answer in answers) == expected
    again = at_once(*(lambda place=place: sent(place, 7) for place in range(6)))
    assert {answer.json["name"] for answer in again} == {"same (7)"}, "the same content gets one name"
    assert sorted(answer.json["existed"] for answer in again) == [False] + [True] * 5


def test_a_list_that_is_read_while_things_come_and_go_is_always_one(server, user):
    """Of 300 reads every one is answered."""
    from lemica.calibration import Sample
    from lemica.calibration.store import Calibrations

    Calibrations(user / "calibrations").save("more", make_graph(samples=(Sample("a cat", 1), Sample("a bird", 9))))
    stop = threading.Event()

    def change(name: str) -> None:
        while not stop.is_set():
            post(server, "merge", {"first": "measured", "second": "more", "name": name})
            post(server, "delete", {"kind": "calibration", "name": name})

    def look() -> set[int]:
        return {get(server, "library").status for _ in range(150)}

    changing = [threading.Thread(target=change, args=(name,)) for name in ("one", "two")]
    for thread in changing:
        thread.start()
    try:
        assert at_once(look, look) == [{200}, {200}]
    finally:
        stop.set()
        for thread in changing:
            thread.join()


def test_what_one_server_changes_the_other_shows(server, second, user):
    assert post(second, "delete", {"kind": "schedule", "name": "mine"}).status == 200
    assert post(server, "delete", {"kind": "schedule", "name": "mine"}).status == 404
    assert post(server, "rename", {"kind": "calibration", "old": "measured", "new": "known"}).status == 200
    assert get(second, "calibration", name="known").status == 200
    assert get(second, "calibration", name="measured").status == 404


@pytest.fixture
def clean(server) -> Iterator[None]:
    yield
    shutil.rmtree(server.user / "lemica", ignore_errors=True)


DEADLINE = 60
BLOCKED = 3
"""How long what waits for a lock is watched doing nothing, in seconds."""


def test_what_a_node_saves_between_the_check_and_the_write_of_a_rename_is_not_overwritten(comfy, tmp_path, monkeypatch):
    """The rename has found its new name free when the node saves under that name."""
    import folder_paths
    from lemica.nodes import library as stores
    from lemica.nodes import route_changes
    from lemica.nodes.route_answer import Body
    from lemica.nodes.solve import LeMiCaSolve
    from lemica.schedules import Library, Schedule

    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(tmp_path))
    monkeypatch.setattr(folder_paths, "get_temp_directory", lambda: str(tmp_path))
    stores.calibrations().save("measured", make_graph())
    stores.library().save(Schedule.from_json({"schema": 1, "name": "old", **schedule()}))
    checked, moved, errors = threading.Event(), threading.Event(), []

    class Told:
        """A lock that tells when somebody has to wait for it."""

        def __init__(self) -> None:
            self._lock = threading.Lock()

        def __enter__(self) -> None:
            if not self._lock.acquire(blocking=False):
                moved.set()
                self._lock.acquire()

        def __exit__(self, *raised: object) -> None:
            self._lock.release()

    def node() -> None:
        try:
            checked.wait(DEADLINE)
            LeMiCaSolve.execute("measured", "custom", 3, "minimax", "best per segment", False, "new", True)
        except BaseException as error:
            errors.append(error)
        moved.set()

    plain, here = Library.save, threading.current_thread()

    def save(library: Library, schedule: Schedule) -> Path:
        """The rename's waits before it writes, until the node has saved or has to wait itself."""
        if threading.current_thread() is here:
            checked.set()
            assert moved.wait(DEADLINE)
        return plain(library, schedule)

    monkeypatch.setattr(stores, "_CHANGING", Told())
    monkeypatch.setattr(Library, "save", save)
    saving = threading.Thread(target=node)
    saving.start()
    route_changes.rename(Body(json.dumps({"kind": "schedule", "old": "old", "new": "new"}).encode()))
    saving.join(DEADLINE)
    assert not errors and not saving.is_alive()
    (left,) = stores.library().own()
    assert left.name == "new" and left.source.get("calibration") == "measured", "the later of both is there"


def job(server, name: str, unread: str) -> Watched:
    return watch(server, {"model": demo_models(server)[0], "calibrate": calibrate(name=name, negative_prompt=unread)})


def test_two_jobs_are_queued_on_one_server_and_both_come_to_their_end(server, clean):
    from lemica.calibration.store import Calibrations

    one, other = at_once(*(lambda name=name: job(server, name, uuid.uuid4().hex) for name in ("first", "other")))
    assert not one.error and not other.error
    calibrations = Calibrations(server.user / "lemica" / "calibrations")
    assert sorted(calibrations.names()) == ["first", "other"]
    assert np.array_equal(calibrations.get("first").errors, calibrations.get("other").errors)
    assert get(server, "jobs").json == {"running": []} and get(server, "library").json["jobs"] == []


def test_what_nodes_save_waits_for_a_change_of_another_process(server, clean):
    """The lock of the user directory is held here, as by another ComfyUI."""
    from lemica.calibration.store import Calibrations

    nodes = {"model": demo_models(server)[0], "calibrate": calibrate(name="waits", negative_prompt=uuid.uuid4().hex)}
    root = server.user / "lemica"
    root.mkdir(parents=True, exist_ok=True)
    for prompt in (nodes, {"solve": solve(calibration="waits", name="solved")}):
        with FileLock(root / ".lock"):
            before = files(root / "schedules"), Calibrations(root / "calibrations").names()
            results: list[Watched] = []
            running = threading.Thread(target=lambda prompt=prompt: results.append(watch(server, prompt)))
            running.start()
            if "calibrate" in prompt:  # measured, and about to be saved
                wait_for(lambda: any(path.endswith("finished.json") for path in files(root)))
            running.join(BLOCKED)
            assert running.is_alive()
            assert (files(root / "schedules"), Calibrations(root / "calibrations").names()) == before
        running.join(DEADLINE)
        (watched,) = results
        assert not watched.error and len(files(root / "schedules")) > len(before[0])


def wait_for(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not reached():
        assert time.monotonic() < end, "it is never reached"
        time.sleep(0.02)


def test_one_job_on_two_servers_is_measured_by_one_of_them(server, second, clean):
    from lemica.calibration.store import Calibrations

    unread = uuid.uuid4().hex
    watched = at_once(lambda: job(server, "both", unread), lambda: job(second, "both", unread))
    errors = [one.error for one in watched if one.error]
    assert len(errors) <= 1 and all("being measured by another run" in error for error in errors)
    assert Calibrations(server.user / "lemica" / "calibrations").names() == ["both"]
    assert get(second, "library").json["problems"] == []
    assert not job(second, "both", uuid.uuid4().hex).error
