"""What was measured of a solved path, beside what is predicted of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from lemica.calibration.job_folder import folder_name
from lemica.calibration.measured import Figures, figures_of
from lemica.calibration.outcome import Outcome, Route
from lemica.calibration.solver import solve
from lemica.schedules import Rule, Schedule
from route_requests import make_graph

BUDGET = 3


@pytest.fixture(scope="module")
def graph():
    return make_graph(rules=("output hold", "output linear"))


@pytest.fixture(scope="module")
def path(graph):
    return solve(graph.edges(), graph.steps, BUDGET)


def saved(graph, path, name="mine/6b3", **changed) -> Schedule:
    schedule = path.to_schedule(name, graph.family, graph.sigmas, graph.provenance("mine"))
    source = {**graph.provenance("mine"), "measured": {"mean": 0.087, "worst": 0.122}}
    return replace(schedule, **{"origin": "calibrated", "source": source, **changed})


def paths_json(root, path, errors) -> None:
    schedule = path.to_schedule("path", "any")
    folder = root / folder_name("mine")
    folder.mkdir(exist_ok=True)
    (folder / "paths.json").write_text(json.dumps({Route(schedule.computed, schedule.rules).key: errors}))


def test_what_was_saved_of_this_very_path_is_told(graph, path, tmp_path):
    assert figures_of(path, "mine", graph, [], tmp_path) is None
    assert figures_of(path, "mine", graph, [saved(graph, path)], tmp_path) == Figures(0.087, 0.122)
    unused = tuple(rule or Rule("residual", "half") for rule in path.rules)
    assert figures_of(path, "mine", graph, [saved(graph, path, rules=unused)], tmp_path).other == ""


def test_of_another_path_of_the_budget_its_name_is_told(graph, path, tmp_path):
    moved = saved(graph, path, computed=next(c for c in ((0, 1, 2), (0, 1, 3)) if c != path.computed))
    assert figures_of(path, "mine", graph, [moved], tmp_path) == Figures(0.087, 0.122, "mine/6b3")
    assert figures_of(path, "mine", graph, [moved, saved(graph, path, "same")], tmp_path).other == ""
    paths_json(tmp_path, path, {"one": 0.2, "two": 0.4})
    assert figures_of(path, "mine", graph, [moved], tmp_path) == Figures(pytest.approx(0.3), 0.4)


def test_what_the_job_measured_is_told_where_it_measured_every_sample(graph, path, tmp_path):
    paths_json(tmp_path, path, {"one": 0.2})
    assert figures_of(path, "mine", graph, [], tmp_path) is None
    paths_json(tmp_path, path, {"one": 0.2, "two": 0.4})
    assert figures_of(path, "mine", graph, [], tmp_path).worst == Outcome(Route((0,), ()), (0.2, 0.4)).figures["worst"]
    assert figures_of(path, "other", graph, [], tmp_path) is None
    for broken in ("[]", "{", '{"a": 1}'):
        (tmp_path / folder_name("mine") / "paths.json").write_text(broken)
        assert figures_of(path, "mine", graph, [], tmp_path) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"origin": "predicted"}, {"source": {"calibration": "other", "measured": {"mean": 0.1, "worst": 0.2}}},
        {"source": {"calibration": "mine", "measured": {"mean": "low"}}}, {"source": {"calibration": "mine"}},
        {"sigmas": (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.0)},
    ],
)
def test_what_does_not_belong_to_the_path_is_not_told(graph, path, tmp_path, changed):
    assert figures_of(path, "mine", graph, [saved(graph, path, **changed)], tmp_path) is None
