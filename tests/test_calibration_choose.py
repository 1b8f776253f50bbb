"""The schedule that a run gets from calibrations: its own grid's, another grid's, and what is told about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lemica.schedules
import pytest
from lemica.calibration.choose import choose, solved
from lemica.calibration.regrid import regrid
from lemica.calibration.store import Calibrations
from lemica.schedules import Library, Match, ModelIdentity, Rule, ScheduleError, nominal_sigmas
from test_calibration_regrid import HALF, HOLD, MODEL, graph_on
from test_schedules_select import calibrated

PACKAGED = Path(lemica.schedules.__file__).parent / "library"
GRID = nominal_sigmas(5.0, 30)
MATCH = Match(None, "", MODEL)


@pytest.fixture(scope="module")
def graph():
    return replace(graph_on(nominal_sigmas(5.0, 50), longest=12, rules=(HOLD, HALF), samples=2), family=MODEL.key)


@pytest.fixture
def calibrations(tmp_path, graph):
    found = Calibrations(tmp_path / "calibrations")
    found.save("fifty", graph)
    return found


def chosen(calibrations, sigmas, own=None, match=MATCH, **request):
    return choose(Library(PACKAGED, own), calibrations, match, sigmas, **request)


def test_another_grid_is_solved_on_the_interpolated_graph(calibrations, graph):
    selection = chosen(calibrations, GRID, budget=12)
    schedule = selection.schedule
    assert schedule.computed == solved("x", regrid(graph, GRID), 12).computed
    assert (schedule.origin, schedule.steps, schedule.budget) == ("resampled", 30, 12)
    assert schedule.sigmas == GRID
    assert (schedule.source["interpolated_from"], schedule.source["calibration"]) == (50, "fifty")
    assert selection.note.startswith(
        "solved on the error graph of calibration fifty (50 steps), interpolated to 30 steps, of which 12 compute"
    )
    assert chosen(calibrations, GRID, budget=12).schedule is not None


def test_its_own_grid_is_solved_as_it_was_measured(calibrations, graph):
    selection = chosen(calibrations, graph.sigmas, budget=20)
    assert (selection.schedule.origin, selection.schedule.name) == ("predicted", "fifty/50b20")
    assert selection.note == "solved from calibration fifty for 20 of 50 steps"


def test_the_nearest_calibration_is_taken_and_the_same_grid_before_all(calibrations, graph):
    calibrations.save("twenty-eight", replace(regrid(graph, nominal_sigmas(5.0, 28)), source={}))
    assert chosen(calibrations, GRID, budget=12).schedule.source["calibration"] == "twenty-eight"
    assert chosen(calibrations, nominal_sigmas(5.0, 45), budget=12).schedule.source["calibration"] == "fifty"
    calibrations.save("shifted", replace(regrid(graph, nominal_sigmas(3.0, 30)), source={}))
    calibrations.save("thirty", replace(regrid(graph, GRID), source={}))
    assert chosen(calibrations, GRID, budget=12).schedule.name == "thirty/30b12"


@pytest.mark.parametrize("first", [5, 20, 40])
def test_image_to_image_takes_its_part_of_the_graph(calibrations, graph, first):
    schedule = chosen(calibrations, graph.sigmas[first:], preset="fast").schedule
    assert (schedule.origin, schedule.source["interpolated_from"]) == ("resampled", 50)
    assert schedule.computed[0] == 0 and schedule.steps == 50 - first


def test_a_grid_beyond_the_calibration_falls_back_and_says_so(tmp_path, graph):
    calibrations = Calibrations(tmp_path)
    calibrations.save("half", replace(regrid(graph, graph.sigmas[25:]), source={}))
    selection = chosen(calibrations, GRID, budget=12)
    assert selection.schedule.origin == "estimated"
    assert "calibration half does not fit: it covers sigmas" in selection.note
    assert selection.note.endswith("until this model is calibrated")


def test_a_budget_that_no_path_has_falls_back_and_says_so(calibrations):
    selection = chosen(calibrations, GRID, budget=2)
    assert (selection.schedule.origin, selection.schedule.budget) == ("estimated", 2)
    assert "calibration fifty does not fit: No path computes exactly 2 of 30 steps" in selection.note


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 60, 100])
def test_any_step_count_gets_a_schedule(calibrations, steps):
    selection = chosen(calibrations, nominal_sigmas(5.0, steps), preset="fast")
    schedule = selection.schedule
    assert schedule.steps == steps and schedule.computed[0] == 0
    assert schedule.budget == max(round(0.35 * steps), min(2, steps))
    assert ("interpolated" in selection.note) == (steps > 8), selection.note
    assert ("calibration fifty does not fit" in selection.note) == (1 < steps <= 8), selection.note
    assert ("times faster, and visibly" in selection.note) == (2 < steps <= 8), selection.note


def test_a_measured_schedule_on_these_sigmas_comes_first(calibrations, tmp_path):
    own = tmp_path / "own"
    source = {"file": MODEL.file, "measured": {"mean": 0.1}}
    saved = calibrated("mine", 30, 12, family=MODEL.key, sigmas=GRID, source=source)
    Library(PACKAGED, own).save(saved)
    assert chosen(calibrations, GRID, own, budget=12).schedule.name == "mine"
    assert chosen(calibrations, GRID, own, budget=13).schedule.source["calibration"] == "fifty"
    assert chosen(calibrations, GRID, own, budget=13, name="mine").schedule.source["resampled_from"] == "mine"


def test_what_was_saved_as_a_preset_is_taken_as_it_is_and_its_share_elsewhere(calibrations, tmp_path):
    own = tmp_path / "own"
    source = {"file": MODEL.file, "preset": "fast", "scope": "all steps"}
    saved = calibrated("mine/fast", 30, 11, family=MODEL.key, sigmas=GRID, source=source, origin="predicted")
    Library(PACKAGED, own).save(saved)
    assert chosen(calibrations, GRID, own, preset="fast").schedule.name == "mine/fast"
    elsewhere = chosen(calibrations, nominal_sigmas(5.0, 50), own, preset="fast").schedule
    assert (elsewhere.budget, elsewhere.source["calibration"]) == (18, "fifty")
    assert chosen(calibrations, GRID, own, budget=11).schedule.name == "mine/fast"
    assert chosen(calibrations, GRID, own, budget=12).schedule.source["calibration"] == "fifty"


def test_a_calibration_of_another_file_is_only_solved_by_name(calibrations):
    other = Match(None, "", ModelIdentity(MODEL.model_class, MODEL.diffusion_model, MODEL.config, "other.safetensors"))
    assert chosen(calibrations, GRID, match=other, budget=12).schedule.origin == "estimated"
    assert chosen(calibrations, GRID, match=other, budget=12, name="fifty").schedule.budget == 12


def test_a_rule_has_to_be_measured(calibrations):
    assert set(chosen(calibrations, GRID, budget=12, rule=HALF).schedule.rules) == {HALF}
    linear = Rule("residual", "linear")
    selection = chosen(calibrations, GRID, budget=12, name="fifty", rule=linear)
    assert set(selection.schedule.rules) == {linear}
    assert "calibration fifty does not fit: it has not measured residual linear" in selection.note


def test_a_wrong_budget_is_refused_by_name_too(calibrations):
    with pytest.raises(ScheduleError, match="1 to 30"):
        chosen(calibrations, GRID, budget=31, name="fifty")


def test_long_names_fit(calibrations, graph):
    calibrations.save("x" * 120, graph)
    assert len(chosen(calibrations, GRID, budget=12, name="x" * 120).schedule.name) == 120
