"""Much of everything, in small: many runs, many requests, a large library. `load.py` is the command for long load."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import ModuleType

import pytest
from lemica.calibration import Sample
from route_requests import get, make_graph, post, user_folder

ROOT = Path(__file__).resolve().parent.parent


def test_many_runs_with_changing_presets_sizes_and_models_keep_nothing(comfy: ModuleType):
    import load

    done = load.repeated(load.sampling(), 30)
    assert done.tensors[1] <= done.tensors[0]
    assert done.grown < 64 << 20
    assert done.slower < 2


@pytest.fixture
def user(server):
    yield from user_folder(server)


def test_many_requests_to_solve_from_several_clients(server, user):
    import load
    from lemica.calibration.store import Calibrations

    Calibrations(user / "calibrations").save("measured", make_graph(20, 10))
    assert len(load.solving(server.url, 200, 4).seconds) == 200


def test_a_library_of_1500_schedules_is_listed_in_a_third_of_a_second(comfy: ModuleType, tmp_path, monkeypatch):
    """In the time of this process: that of the clock depends on what else the machine does."""
    import folder_paths
    import load
    from lemica.nodes.apply import choices
    from lemica.nodes.library import library
    from lemica.nodes.route_views import show_library

    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(tmp_path))
    load.fill(tmp_path / "lemica" / "schedules", 1500)
    library().own()
    begin = time.process_time()
    shown = show_library({})
    choices()
    assert time.process_time() - begin < 0.33
    assert sum(one["own"] for one in shown["schedules"]) == 1500 and shown["problems"] == []


def test_a_plan_with_a_large_library_takes_no_longer_than_the_list(comfy: ModuleType, tmp_path):
    import load
    from lemica.schedules import Library, Match, ModelIdentity, nominal_sigmas, select

    load.fill(tmp_path, 1000)
    library = Library(ROOT / "schedules" / "library", tmp_path)
    family = next(family for family in library.families() if family.key == "lemica-demo")
    library.own()
    begin = time.process_time()
    select(library, Match(family, "", ModelIdentity("any", "any")), nominal_sigmas(5.0, 20))
    assert time.process_time() - begin < 0.33


def test_a_graph_that_would_take_the_whole_memory_is_refused_at_once():
    from lemica.calibration import GraphError, SolverError, all_segments
    from lemica.calibration.solutions import solutions
    from lemica.schedules import Rule

    begin = time.process_time()
    with pytest.raises(GraphError, match="a graph takes"):
        all_segments(10_000, 10_000, [Rule("output", "linear")])
    with pytest.raises(SolverError, match="too large to be solved"):
        solutions(make_graph(8000, 2))
    with pytest.raises(SolverError, match="too large to be solved"):
        solutions(make_graph(120, 60, ("output linear",)))
    assert time.process_time() - begin < 20


def test_a_plan_of_a_very_long_run_is_made_soon_with_its_calibration_or_without_it(comfy: ModuleType, tmp_path):
    from lemica.calibration.choose import choose
    from lemica.calibration.store import Calibrations
    from lemica.schedules import Library, Match, ModelIdentity, nominal_sigmas

    calibrations = Calibrations(tmp_path)
    calibrations.save("measured", make_graph(50, 20))
    library = Library(ROOT / "schedules" / "library")
    family = next(family for family in library.families() if family.key == "lemica-demo")
    match = Match(family, "", ModelIdentity("any", "any"))
    begin = time.process_time()
    for budget, told in ((2, "calibration measured does not fit"), (1500, "interpolated to 2500 steps")):
        selection = choose(library, calibrations, match, nominal_sigmas(3.0, 2500), budget=budget)
        assert told in selection.note and selection.schedule.budget == budget
    assert time.process_time() - begin < 30


SLOPES = ("output hold", "output half", "output linear")


@pytest.fixture
def ref(user):
    """A calibration of 20 steps with slopes, and one without."""
    from lemica.calibration.store import Calibrations

    Calibrations(user / "calibrations").save("ref", make_graph(20, 10, SLOPES))
    Calibrations(user / "calibrations").save("plain", make_graph(20, 10))


@pytest.mark.parametrize("steps", [1000, 4000, 10_000])
def test_a_plan_of_any_length_takes_little_memory_and_tells_why(server, ref, steps):
    """What is too large to be interpolated and solved is known before any of it is made."""
    import load

    pid = server.process._process.pid
    before = load.resident(pid, "VmHWM")
    planned = post(server, "plan", {"family": "lemica-demo", "steps": steps, "schedule": "ref"}).json
    assert load.resident(pid, "VmHWM") - before < 128 << 20
    assert planned["note"].startswith("calibration ref does not fit: ") and "too large to be solved" in planned["note"]
    assert planned["steps"] == steps and planned["origin"] == "resampled"


def test_no_plan_holds_up_the_list(server, ref):
    """Four plans that take long are asked for first; the list comes before half of them are made."""
    planned: list[int] = []

    def plan(budget: int) -> None:
        body = {"family": "lemica-demo", "steps": 1000, "preset": "custom", "budget": budget, "schedule": "plain"}
        planned.append(post(server, "plan", body).status)

    threads = [threading.Thread(target=plan, args=(budget,)) for budget in (480, 500, 520, 540)]
    for thread in threads:
        thread.start()
    done = []
    while not planned:
        assert get(server, "library").status == 200
        done.append(len(planned))
    for thread in threads:
        thread.join()
    assert planned == [200] * 4
    assert len(done) > 2 and max(done) < 3


def test_more_requests_than_can_wait_are_turned_away_at_once(comfy: ModuleType):
    """Each pool has room for so many; the rest is told that it is too much, and does not wait."""
    import asyncio

    from lemica.nodes.route_answer import BusyError, Workers

    async def crowd() -> tuple[list[int], int]:
        workers, go = Workers("test", threads=1, waiting=2), threading.Event()
        asked = [workers.do(lambda place=place: go.wait() and place) for place in range(3)]
        refused = 0
        for _ in range(5):
            try:
                workers.do(int)
            except BusyError:
                refused += 1
        go.set()
        return await asyncio.gather(*asked, workers_after(workers)), refused

    async def workers_after(workers: Workers) -> int:
        while True:
            try:
                return await workers.do(lambda: 7)
            except BusyError:
                await asyncio.sleep(0)

    assert asyncio.run(crowd()) == ([0, 1, 2, 7], 5)


def test_a_table_with_holes_is_refused_before_it_is_made(tmp_path):
    """Two segments at the two ends of a long run would be interpolated in a table of all that lies between them."""
    import numpy as np
    from lemica.calibration import GraphError
    from lemica.calibration.regrid import regrid
    from lemica.schedules import nominal_sigmas

    rows = np.array([[0, 1, 3000, 0], [2998, 2999, 3001, 0], [-1, 0, 2, 0]], np.int32)
    graph = make_graph(5000, 2, ("output linear",), segments=rows, errors=np.ones((2, 3)))
    with pytest.raises(GraphError, match="too far apart"):
        regrid(graph, nominal_sigmas(5.0, 30))
    many = make_graph(30, 10)
    many = make_graph(
        30, 10, samples=tuple(Sample(f"prompt {number}", number) for number in range(2000)),
        errors=np.ones((2000, len(many.segments))),
    )
    with pytest.raises(GraphError, match="too many to be interpolated"):
        regrid(many, nominal_sigmas(5.0, 200))


@pytest.mark.parametrize("errors", [1e308, 1.7e308, 8e307])
def test_errors_that_cannot_be_added_up_are_told(server, user, errors):
    import numpy as np
    from lemica.calibration.store import Calibrations

    graph = make_graph().take([0])
    huge = make_graph(samples=graph.samples, errors=np.full_like(graph.errors, errors))
    Calibrations(user / "calibrations").save("huge", huge)
    planned = post(server, "plan", {"family": "lemica-demo", "steps": 6, "schedule": "huge", "sigmas": list(huge.sigmas)})
    assert planned.status == 200 and "too large to be added up" in planned.json["note"]
    for answer in (
        post(server, "solve", {"calibration": "huge", "budget": 3}), get(server, "calibration", name="huge"),
        post(server, "save", {"calibration": "huge", "budget": 3, "name": "new"}),
    ):
        assert answer.status == 400 and "too large to be added up" in answer.error


@pytest.mark.parametrize("order, status", [
    ({"steps": 1000, "longest": 1000, "mode": "exact", "rules": "output and residual"}, 400),
    ({"steps": 1000, "longest": 100, "mode": "exact", "rules": "output and residual"}, 200),
])
def test_the_cost_of_the_longest_calibration_is_told_soon(server, user, order, status):
    begin = time.monotonic()
    assert post(server, "cost", {"samples": 1, "tries": 0, **order}).status == status
    assert time.monotonic() - begin < 30
