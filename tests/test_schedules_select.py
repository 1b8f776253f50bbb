"""Which schedule a run gets."""

from dataclasses import replace
from pathlib import Path

import lemica.schedules
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lemica.schedules import (
    PRESETS,
    GridError,
    Library,
    Match,
    ModelIdentity,
    Rule,
    Schedule,
    ScheduleError,
    nominal_sigmas,
    preset_budget,
    select,
)
from test_schedules_schedule import HOLD

PACKAGED = Path(lemica.schedules.__file__).parent / "library"
IDENTITY = ModelIdentity("SDXL", "UNetModel", {"model_channels": 320}, "mine.safetensors")
LIBRARY = Library(PACKAGED)
UNKNOWN = Match(None, "", IDENTITY)
DEMO = ModelIdentity("WAN21", "WanModel", {}, "wan_tiny.safetensors")
GRID = nominal_sigmas(5.0, 50)


def family(key):
    return Match(next(family for family in LIBRARY.families() if family.key == key), "", IDENTITY)


def calibrated(name, steps, budget, **changes):
    fields = {
        "family": "wan2.1-t2v-1.3b",
        "computed": tuple(range(budget)),
        "rules": (Rule("output", "linear"),) * budget,
        "origin": "calibrated",
        "sigmas": nominal_sigmas(5.0, steps),
        "source": {"file": IDENTITY.file, "patches": "", "measured": {"mean": 0.1, "worst": 0.2}},
    }
    return Schedule(name=name, steps=steps, **{**fields, **changes})


@pytest.mark.parametrize(
    ("key", "steps", "budgets"),
    [
        ("wan2.1-t2v-1.3b", 50, [25, 20, 17, 14]),
        ("wan2.1-t2v-1.3b", 30, [15, 12, 10, 8]),
        ("qwen-image", 50, [25, 17, 10, 7]),
        ("flux.2-dev", 50, [26, 20, 15, 11]),
        ("z-image-turbo", 9, [7, 6, 5, 4]),
        ("cogvideox", 50, [27, 22, 16, 11]),
        ("hunyuanvideo", 50, [30, 23, 18, 14]),
        ("lemica-demo", 30, [18, 13, 10, 8]),
        ("flux.1-dev", 4, [2, 2, 2, 2]),
    ],
)
def test_preset_budgets(key, steps, budgets):
    assert [preset_budget(family(key), preset, steps) for preset in PRESETS] == budgets


def test_published_list_as_it_is():
    selection = select(LIBRARY, family("wan2.1-t2v-1.3b"), GRID, preset="fast")
    assert selection.schedule == LIBRARY.get("wan2.1-t2v-1.3b/b17")
    assert selection.note == "wan2.1-t2v-1.3b/b17, published, 17 of 50 steps"


def test_published_list_without_sigmas_gets_the_runs():
    selection = select(LIBRARY, family("flux.1-dev"), GRID, preset="ultra")
    assert selection.schedule.computed == LIBRARY.get("flux.1-dev/b10").computed
    assert (selection.schedule.origin, selection.schedule.sigmas) == ("published", GRID)


def test_nearest_list_is_resampled():
    selection = select(LIBRARY, family("flux.1-dev"), nominal_sigmas(3.0, 20), budget=6)
    assert selection.schedule.source["resampled_from"] == "flux.1-dev/b15"
    assert (selection.schedule.budget, selection.schedule.origin) == (6, "resampled")
    assert "flux.1-dev/b15, published for 15 of 50 steps, resampled to 6 of 20 steps" in selection.note


def test_ultra_of_three_lists_takes_fast_further_down():
    schedule = select(LIBRARY, family("qwen-image"), GRID, preset="ultra").schedule
    assert (schedule.budget, schedule.source["resampled_from"]) == (7, "qwen-image/b10")


def test_family_without_lists_is_estimated():
    selection = select(LIBRARY, family("wan2.2-14b"), GRID, preset="slow")
    assert selection.schedule.origin == "estimated"
    assert {str(rule) for rule in selection.schedule.rules} == {"output half"}
    assert selection.note == (
        "no schedule for Wan 2.2 14B: estimated from published lists until this model is calibrated"
    )


def test_model_of_no_family_is_estimated_by_its_class():
    selection = select(LIBRARY, UNKNOWN, GRID)
    assert (selection.schedule.budget, selection.schedule.family) == (23, IDENTITY.key)
    assert selection.note.startswith("no schedule for SDXL: estimated")


def test_calibrated_comes_before_published(tmp_path):
    library = Library(PACKAGED, tmp_path)
    library.save(calibrated("mine/b17", 50, 17))
    library.save(calibrated("mine/b10", 50, 10))
    library.save(calibrated("mine/custom", 50, 18, origin="custom"))
    match = family("wan2.1-t2v-1.3b")
    assert select(library, match, GRID, preset="fast").schedule.name == "mine/b17"
    assert select(library, match, GRID, budget=18).schedule.source["resampled_from"] == "mine/b17"
    assert select(library, match, GRID, budget=11).schedule.source["resampled_from"] == "mine/b10"
    assert select(library, family("wan2.1-t2v-14b"), GRID, preset="fast").schedule.name == "wan2.1-t2v-14b/b17"


def test_nearest_calibrated_by_steps_grid_and_file(tmp_path):
    library = Library(PACKAGED, tmp_path)
    library.save(calibrated("n20", 20, 8))
    library.save(calibrated("n50", 50, 20))
    library.save(calibrated("n50 shifted", 50, 20, sigmas=nominal_sigmas(12.0, 50)))
    match = family("wan2.1-t2v-1.3b")
    assert select(library, match, GRID, budget=20).schedule.name == "n50"
    assert select(library, match, nominal_sigmas(12.0, 50), budget=20).schedule.name == "n50 shifted"
    assert select(library, match, nominal_sigmas(5.0, 25), budget=10).schedule.source["resampled_from"] == "n20"
    library.save(calibrated("theirs", 30, 12, source={"file": "other.safetensors"}))
    library.save(calibrated("ours", 40, 30, source={"file": "mine.safetensors"}))
    assert select(library, match, nominal_sigmas(5.0, 30), budget=12).schedule.source["resampled_from"] != "theirs"


def test_calibrated_schedule_of_an_unknown_model_is_found(tmp_path):
    library = Library(PACKAGED, tmp_path)
    library.save(calibrated("sdxl", 50, 20, family=IDENTITY.key))
    assert select(library, UNKNOWN, GRID, budget=20).schedule.name == "sdxl"


def test_named_schedule():
    match = family("flux.1-dev")
    selection = select(LIBRARY, match, GRID, name="flux.1-dev/b15", preset="slow")
    assert selection.schedule.computed == LIBRARY.get("flux.1-dev/b15").computed
    assert select(LIBRARY, match, nominal_sigmas(3.0, 20), name="flux.1-dev/b15").schedule.budget == 6
    assert select(LIBRARY, match, GRID, name="flux.1-dev/b15", budget=12).schedule.budget == 12
    assert "made for qwen-image" in select(LIBRARY, match, GRID, name="qwen-image/b10").note
    with pytest.raises(ScheduleError, match="did you mean"):
        select(LIBRARY, match, GRID, name="flux.1-dev/b16")


def test_rule_override_is_said():
    rule = Rule("output", "linear")
    selection = select(LIBRARY, family("flux.1-dev"), GRID, preset="fast", rule=rule)
    assert set(selection.schedule.rules) == {rule}
    assert selection.schedule.source["rules_replaced_by"] == "output linear"
    assert "replaced by output linear" in selection.note
    same = select(LIBRARY, family("flux.1-dev"), GRID, preset="fast", rule=HOLD)
    assert "replaced" not in same.note


@pytest.mark.parametrize("budget", [0, 51, -1, 3.0, True])
def test_wrong_budget_is_refused(budget):
    with pytest.raises(ScheduleError, match="1 to 50"):
        select(LIBRARY, UNKNOWN, GRID, budget=budget)


def test_wrong_preset_is_refused():
    with pytest.raises(ScheduleError, match="slow, medium, fast, ultra"):
        select(LIBRARY, UNKNOWN, GRID, preset="turbo")


@pytest.mark.parametrize("grid", [(), (1.0,), (1.0, 1.0, 0.0), (0.0, 0.5, 1.0), (1.0, float("nan"), 0.0)])
def test_grid_that_cannot_be_cached(grid):
    with pytest.raises(GridError):
        select(LIBRARY, UNKNOWN, grid)


def test_one_step_computes():
    selection = select(LIBRARY, family("flux.1-dev"), (1.0, 0.0), preset="fast")
    assert selection.schedule.computed == (0,)
    assert "one step" in selection.note


@given(
    st.sampled_from([family.key for family in LIBRARY.families()]),
    st.sampled_from(PRESETS),
    st.floats(1, 12),
    st.integers(2, 60),
    st.data(),
)
def test_every_run_gets_a_schedule_of_its_own_size(key, preset, shift, steps, data):
    grid = nominal_sigmas(shift, steps)
    start = data.draw(st.integers(0, steps - 2))
    schedule = select(LIBRARY, family(key), grid[start:], preset=preset).schedule
    assert schedule.steps == steps - start
    assert schedule.budget == preset_budget(family(key), preset, schedule.steps)


def test_a_packaged_calibration_for_this_very_run_comes_before_a_resampled_one_of_the_users(tmp_path):
    library = Library(PACKAGED, tmp_path)
    packaged = library.get("lemica-demo/30b13")
    demo = {"family": "lemica-demo", "source": {"file": DEMO.file, "measured": {"mean": 0.1, "worst": 0.2}}}
    library.save(calibrated("mine/20b9", 20, 9, **demo))
    match = replace(family("lemica-demo"), identity=DEMO)
    assert select(library, match, packaged.sigmas, preset="medium").schedule.name == "lemica-demo fitted/30b13"
    assert select(library, match, packaged.sigmas, budget=12).schedule.source["resampled_from"] == "mine/20b9"
    library.save(calibrated("mine/30b13", 30, 13, **demo, sigmas=packaged.sigmas))
    assert select(library, match, packaged.sigmas, preset="medium").schedule.name == "mine/30b13"


@pytest.mark.parametrize(("steps", "preset"), [(20, "medium"), (30, "ultra"), (50, "fast")])
def test_weights_serve_the_steps_that_they_were_fitted_for_and_fixed_rules_all_others(steps, preset):
    match = replace(family("lemica-demo"), identity=DEMO)
    fitted = [one for one in LIBRARY.schedules() if one.family == "lemica-demo" and one.steps == steps and one.weights]
    here = select(LIBRARY, match, fitted[0].sigmas, preset=preset).schedule
    assert here in fitted and here.budget == preset_budget(match, preset, steps)
    for grid in (nominal_sigmas(5.0, steps + 1), nominal_sigmas(4.0, steps)):
        assert not LIBRARY.get(select(LIBRARY, match, grid, preset=preset).schedule.source["resampled_from"]).weights
    other = select(LIBRARY, replace(match, identity=replace(DEMO, file="other")), fitted[0].sigmas, preset=preset).schedule
    assert (other.name, other.origin) == (here.name.replace(" fitted", ""), "borrowed")


def saved_as(preset, name, steps=30, budget=11, when=1.0, **source):
    given = {"file": IDENTITY.file, "preset": preset, "saved": when, "predicted": {"worst": 0.1}, **source}
    return calibrated(name, steps, budget, family="lemica-demo", origin="predicted", source=given)


def test_what_the_user_saved_as_a_preset_comes_first_with_its_own_budget(tmp_path):
    library = Library(PACKAGED, tmp_path)
    grid = nominal_sigmas(5.0, 30)
    library.save(saved_as("fast", "mine/fast"))
    library.save(calibrated("mine/30b10", 30, 10, family="lemica-demo"))
    match = family("lemica-demo")
    selection = select(library, match, grid, preset="fast")
    assert selection.schedule.name == "mine/fast" and selection.note.startswith("saved as fast: mine/fast, predicted")
    assert select(library, match, grid, preset="slow").schedule.name != "mine/fast"
    assert select(library, match, grid, budget=10).schedule.name == "mine/30b10"
    assert select(library, match, nominal_sigmas(5.0, 60), preset="fast").schedule.budget == 22
    assert select(library, match, grid, preset="fast", rule=HOLD).schedule.computed == selection.schedule.computed


def test_of_several_saved_presets_the_newest_of_the_nearest_steps_and_none_of_another_file(tmp_path):
    library = Library(PACKAGED, tmp_path)
    grid = nominal_sigmas(5.0, 30)
    for schedule in (
        saved_as("fast", "a", when=3.0), saved_as("fast", "b", when=5.0), saved_as("fast", "c", when=4.0),
        saved_as("fast", "d", steps=40, when=9.0), saved_as("fast", "e", when=9.0, file="other.safetensors"),
    ):
        library.save(schedule)
    assert select(library, family("lemica-demo"), grid, preset="fast").schedule.name == "b"


def test_a_preset_of_one_computed_step_stays_one(tmp_path):
    library = Library(PACKAGED, tmp_path)
    library.save(saved_as("ultra", "one", budget=1))
    assert select(library, family("lemica-demo"), nominal_sigmas(5.0, 30), preset="ultra").schedule.name == "one"
