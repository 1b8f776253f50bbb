"""Much of everything, in small: many runs, many requests, a large library. `load.py` is the command for long load."""

from __future__ import annotations

import time
from pathlib import Path
from types import ModuleType

import pytest
from route_requests import make_graph, post, user_folder

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


@pytest.mark.parametrize("order, status", [
    ({"steps": 1000, "longest": 1000, "mode": "exact", "rules": "output and residual"}, 400),
    ({"steps": 1000, "longest": 100, "mode": "exact", "rules": "output and residual"}, 200),
])
def test_the_cost_of_the_longest_calibration_is_told_soon(server, user, order, status):
    begin = time.monotonic()
    assert post(server, "cost", {"samples": 1, "tries": 0, **order}).status == status
    assert time.monotonic() - begin < 30
