"""Resampling to other grids and budgets, and the prior."""

import json
from pathlib import Path

import lemica.schedules
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lemica.schedules import (
    GridError,
    Library,
    Rule,
    ScheduleError,
    derive,
    estimate,
    nominal_sigmas,
    resample,
    same_grid,
)
from lemica.schedules.grid import place
from test_schedules_schedule import HOLD, make, schedules

LIBRARY = Path(lemica.schedules.__file__).parent / "library"
shifts = st.floats(0.5, 12)


@st.composite
def grids(draw):
    grid = nominal_sigmas(draw(shifts), draw(st.integers(1, 80)))
    start = draw(st.integers(0, len(grid) - 2))
    end = draw(st.integers(start + 2, len(grid)))
    return grid[start:end]


@given(schedules(), grids(), st.one_of(st.none(), st.integers(1, 90)))
def test_resampled_schedule_is_valid(schedule, grid, budget):
    result = resample(schedule, grid, budget)
    assert result.steps == len(grid) - 1
    assert result.computed[0] == 0
    kept = result.steps == schedule.steps and result.computed == schedule.computed and result.weights == schedule.weights
    assert set(result.rules) <= set(schedule.rules if kept else schedule.unfitted().rules)
    assert kept or not result.weights
    assert result.sigmas is not None and same_grid(result.sigmas, grid)
    if budget is not None:
        assert result.budget == min(budget, result.steps)
    if schedule.origin == "estimated":
        assert result.origin == "estimated"


@given(schedules(), shifts, st.integers(3, 80), st.integers(3, 80))
def test_last_step_stays_computed(schedule, shift, steps, budget):
    result = resample(schedule, nominal_sigmas(shift, steps), budget)
    if schedule.computed[-1] == schedule.steps - 1:
        assert result.computed[-1] == steps - 1


@given(schedules())
def test_same_grid_and_budget_is_the_schedule_itself(schedule):
    grid = schedule.sigmas or nominal_sigmas(3.0, schedule.steps)
    for budget in (None, schedule.budget):
        result = resample(schedule, grid, budget)
        assert (result.computed, result.rules, result.origin) == (schedule.computed, schedule.rules, schedule.origin)
        assert result is schedule or (schedule.sigmas is None and result.sigmas == grid)


@given(schedules(), st.integers(1, 80))
def test_full_grid_keeps_the_share_of_computed_steps(schedule, steps):
    result = resample(schedule, nominal_sigmas(4.0, steps))
    assert abs(result.budget - schedule.budget * steps / schedule.steps) <= 1


def test_rounding_of_a_scheduler_is_the_same_grid():
    grid = nominal_sigmas(5.0, 30)
    table = [nominal_sigmas(5.0, 1000)[1000 - (1000 - int(k * 1000 / 30))] for k in range(30)] + [0.0]
    assert same_grid(grid, table)
    assert not same_grid(grid, nominal_sigmas(8.0, 30))
    assert not same_grid(grid, grid[:-1])


def test_dense_part_stays_dense_in_sigma():
    sigmas = nominal_sigmas(1.0, 40)
    schedule = make(steps=40, computed=(*range(10), 20, 30), rules=(HOLD,) * 12, sigmas=sigmas)
    result = resample(schedule, nominal_sigmas(1.0, 20))
    assert result.budget == 6
    assert sum(step < 5 for step in result.computed) == 5


@pytest.mark.parametrize("shift", [0.5, 6.0])
def test_computed_steps_stay_where_they_were_in_sigma(shift):
    computed = (0, 6, 12, 18, 24, 30, 36)
    schedule = make(steps=40, computed=computed, rules=(HOLD,) * 7, sigmas=nominal_sigmas(1.0, 40))
    result = resample(schedule, nominal_sigmas(shift, 40), 7)
    for old, new in zip(computed, result.computed, strict=True):
        nearest = min(range(40), key=lambda k, old=old: abs(result.sigmas[k] - schedule.sigmas[old]))
        assert abs(new - nearest) <= 1


def test_rules_come_from_the_covering_segment():
    linear = Rule("output", "linear")
    schedule = make(steps=40, computed=(0, 20), rules=(HOLD, linear), sigmas=nominal_sigmas(1.0, 40))
    result = resample(schedule, nominal_sigmas(1.0, 20), 10)
    assert [rule == linear for rule in result.rules] == [step >= 10 for step in result.computed]


def test_part_of_a_grid_takes_the_density_there():
    sigmas = nominal_sigmas(1.0, 40)
    schedule = make(steps=40, computed=(*range(20), 30), rules=(HOLD,) * 21, sigmas=sigmas)
    assert resample(schedule, sigmas[:21]).computed == tuple(range(20))
    assert resample(schedule, sigmas[20:]).budget == 2
    assert resample(schedule, sigmas[20:]).source["resampled_from"] == "demo/b2"


def test_provenance_of_a_resampled_schedule():
    schedule = make(origin="published", source={"repo": "a/b"})
    once = resample(schedule, nominal_sigmas(1.0, 10))
    twice = resample(once, nominal_sigmas(1.0, 7), 3)
    for result in (once, twice):
        assert result.origin == "resampled"
        assert result.source == {"repo": "a/b", "resampled_from": "demo/b2", "origin": "published"}
    assert once.name != schedule.name != twice.name
    assert len(resample(make(name="x" * 120), nominal_sigmas(1.0, 9)).name) <= 120


@pytest.mark.parametrize("grid", [(1.0,), (), (1.0, 1.0), (0.0, 1.0), (1.0, float("nan")), (1.0, "0")])
def test_grid_that_cannot_be_cached_is_refused(grid):
    with pytest.raises(GridError):
        resample(make(), grid)


@pytest.mark.parametrize("budget", [0, -1, 2.0, True])
def test_wrong_budget_is_refused(budget):
    with pytest.raises(ScheduleError, match="budget"):
        resample(make(), nominal_sigmas(1.0, 4), budget)
    with pytest.raises(ScheduleError, match="budget"):
        estimate("demo", nominal_sigmas(1.0, 4), budget, HOLD)


def test_place_finds_the_nearest_free_steps():
    assert place([0, 10, 10.2, 10.4, 20], 30, keep_last=False) == (0, 9, 10, 11, 20)
    assert place([0, 0.1, 0.2, 0.3], 4, keep_last=True) == (0, 1, 2, 3)
    assert place([0, 5, 8.4], 10, keep_last=True) == (0, 5, 9)
    assert place([2, 5, 8.4], 10, keep_last=False) == (0, 5, 8)


@given(st.integers(1, 120), st.data())
def test_estimate_has_exactly_its_budget(steps, data):
    budget = data.draw(st.integers(1, steps))
    schedule = estimate("demo", nominal_sigmas(3.0, steps), budget, Rule("output", "half"))
    assert (schedule.budget, schedule.steps, schedule.origin) == (budget, steps, "estimated")
    assert budget < 3 or schedule.computed[-1] == steps - 1


def test_estimate_is_nearer_to_every_list_than_uniform_spacing():
    off = []
    for schedule in Library(LIBRARY).schedules():
        if schedule.origin != "published":
            continue
        guess = estimate("demo", nominal_sigmas(3.0, schedule.steps), schedule.budget, HOLD).computed
        uniform = [b * (schedule.steps - 1) / (schedule.budget - 1) for b in range(schedule.budget)]
        off.append([sum(abs(a - b) for a, b in zip(steps, schedule.computed)) for steps in (guess, uniform)])
    assert all(guess < uniform for guess, uniform in off)
    assert sum(guess for guess, _ in off) < 0.3 * sum(uniform for _, uniform in off)


def test_prior_is_what_the_library_derives():
    stored = json.loads((LIBRARY / "prior.json").read_text(encoding="utf-8"))
    assert derive(Library(LIBRARY).schedules()) == stored
    assert stored["lists"] == 39


def test_prior_needs_published_schedules():
    with pytest.raises(ScheduleError, match="published"):
        derive([make()])
