"""Which segments are replayed in mode exact, and the errors of all others from those; what a calibration costs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lemica.calibration import all_segments
from lemica.calibration.cost import FEW, NORMAL_RUNS, cost_of, fits_of
from lemica.calibration.estimate import errors_of, replay_calls, replayed_edges
from lemica.calibration.settings import Settings
from lemica.schedules import ModelIdentity, Rule

HOLD, LINEAR = Rule("output", "hold"), Rule("output", "linear")
RESIDUAL = Rule("residual", "linear")
RULES = (HOLD, LINEAR, RESIDUAL)


@st.composite
def grids(draw):
    steps = draw(st.integers(2, 14))
    longest = draw(st.integers(2, steps))
    rules = tuple(draw(st.permutations(RULES))[: draw(st.integers(1, 3))])
    return steps, longest, rules, all_segments(steps, longest, rules)


@given(grids())
@settings(max_examples=60, deadline=None)
def test_every_segment_and_rule_is_replayed_once_after_a_step_as_far_before_as_it_is_long(grid):
    steps, _, rules, segments = grid
    chosen = segments[replayed_edges(segments)]
    assert sorted(tuple(row[1:]) for row in chosen.tolist()) == sorted({tuple(row[1:]) for row in segments.tolist()})
    assert all(before in (-1, max(2 * start - end, 0)) for before, start, end, _ in chosen.tolist())


def test_the_calls_of_replays_are_the_steps_from_each_end_on():
    segments = all_segments(5, 3, (HOLD,))
    assert replay_calls(segments, 5, replayed_edges(segments)) == sum(5 - end for end in segments[:, 2].tolist())


@given(grids(), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_errors_are_carried_over_to_other_steps_before_in_the_proportion_of_the_local_ones(grid, random):
    """What is amplified from a segment's end on does not depend on the step before it."""
    _, _, rules, segments = grid
    local = np.array([random.uniform(0.1, 2.0) for _ in segments])
    gains = {tuple(row[1:]): random.uniform(0.5, 2.0) for row in segments.tolist()}
    residual = np.array([rules[row[3]].target == "residual" for row in segments.tolist()])
    own = {tuple(segments[edge, 1:].tolist()): local[edge] for edge in replayed_edges(segments)}
    true = np.array([gains[tuple(row[1:])] for row in segments.tolist()]) * np.where(
        residual, [own[tuple(row[1:])] for row in segments.tolist()], local
    )
    replayed = np.full(len(segments), np.nan)
    chosen = replayed_edges(segments)
    replayed[chosen] = true[chosen]
    assert np.allclose(errors_of(segments, rules, replayed, local), true)
    held = errors_of(segments, rules, replayed, None)
    assert all(held[edge] == replayed[source] for edge, source in _sources(segments, chosen))


def _sources(segments: np.ndarray, chosen: np.ndarray) -> list[tuple[int, int]]:
    """Every edge, and the replayed one of its segment and rule."""
    own = {tuple(segments[edge, 1:].tolist()): edge for edge in chosen}
    return [(edge, own[tuple(row[1:])]) for edge, row in enumerate(segments.tolist())]


def test_what_nothing_was_replayed_for_says_nothing():
    segments = all_segments(4, 2, (HOLD,))
    replayed = np.array([0.5, np.nan, np.nan])
    assert np.array_equal(errors_of(segments, (HOLD,), replayed, np.ones(3)), replayed, equal_nan=True)


def make_settings(mode: str, budgets: tuple[int, ...]) -> Settings:
    model = ModelIdentity("A", "B")
    return Settings("any", model, mode, "l1", (HOLD, LINEAR), longest=5, budgets=budgets, tries=6)


@given(
    st.integers(2, 60), st.integers(1, 9), st.integers(0, 9), st.lists(st.integers(1, 60), min_size=1, max_size=5),
)
@settings(max_examples=100, deadline=None)
def test_short_fits_one_path_a_budget_and_normal_shares_what_is_left_of_its_runs(steps, samples, judges, budgets):
    budgets = tuple(min(budget, steps) for budget in budgets)
    short, normal = make_settings("short", budgets), make_settings("normal", budgets)
    assert fits_of(short, steps, samples, judges) == dict.fromkeys(sorted(set(budgets)), 1)
    fits = fits_of(normal, steps, samples, judges)
    assert all(count == 1 for budget, count in fits.items() if budget > FEW * steps)
    cost, once = (cost_of(one, steps, samples, judges, 0, ()) for one in (normal, short))
    every = samples + judges
    assert once.computed == every * (steps + sum(set(budgets)))
    assert cost.computed <= max(NORMAL_RUNS * steps, once.computed)
    low = [budget for budget in fits if budget <= FEW * steps]
    assert not low or cost.computed + every * sum(low) > min(NORMAL_RUNS * steps, cost.computed + 1)


@pytest.mark.parametrize("prompts, steps, budgets, most", [(5, 50, (25, 17, 10, 7), 12), (4, 20, (12, 9, 7, 6), 12)])
def test_the_shortest_calibration_of_the_workflows_costs_twelve_full_runs_at_most(prompts, steps, budgets, most):
    cost = cost_of(make_settings("short", budgets), steps, prompts, 0, 0, ())
    assert cost.computed <= most * steps
    assert cost.describe(90.0) == f"about {cost.computed / steps:.1f} full runs ({cost.computed} model steps), 2 min"
    assert cost.describe(3600.0, "left").endswith(", 60 min left")
