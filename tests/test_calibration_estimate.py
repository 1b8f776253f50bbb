"""Which segments are replayed, and the errors of all of them from gains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lemica.calibration import GraphError, all_segments
from lemica.calibration.estimate import QUICK_ENDS, errors_of, replay_calls, replayed_edges
from lemica.schedules import Rule

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
def test_exact_replays_every_segment_and_rule_once(grid):
    steps, _, rules, segments = grid
    chosen = segments[replayed_edges(segments, steps, rules, "exact")]
    wanted = {tuple(row[1:]) for row in segments.tolist() if row[2] < steps}
    assert sorted(tuple(row[1:]) for row in chosen.tolist()) == sorted(wanted)


@given(grids(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_standard_replays_every_end_once_per_target_and_quick_a_few_of_them(grid, tails):
    steps, _, rules, segments = grid
    standard = segments[replayed_edges(segments, steps, rules, "standard", tails)]
    ends = {end for end in segments[:, 2].tolist() if tails or end < steps}
    targets = {rule.target for rule in rules}
    assert sorted((row[2], rules[row[3]].target) for row in standard.tolist()) == sorted(
        (end, target) for end in ends for target in targets
    )
    quick = segments[replayed_edges(segments, steps, rules, "quick", tails)]
    assert len(set(quick[:, 2].tolist())) == min(len(ends), QUICK_ENDS)
    assert {tuple(row) for row in quick.tolist()} <= {tuple(row) for row in segments.tolist()}


def test_the_calls_of_replays_are_the_steps_from_each_end_on():
    segments = all_segments(5, 3, (HOLD,))
    replays = replayed_edges(segments, 5, (HOLD,), "exact")
    assert replay_calls(segments, 5, replays) == sum(5 - end for end in segments[:, 2].tolist() if end < 5)


def test_an_unknown_mode_is_refused():
    with pytest.raises(GraphError, match="'fast'.*quick"):
        replayed_edges(all_segments(4, 2, (HOLD,)), 4, (HOLD,), "fast")


@given(grids(), st.sampled_from(["quick", "standard", "exact"]), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_errors_that_are_gain_times_delta_are_found_in_every_mode_that_measures_the_gains(grid, mode, random):
    """With gains that depend on the end alone; quick needs them to be log-linear as well."""
    steps, _, rules, segments = grid
    deltas = np.array([random.uniform(0.1, 2.0) for _ in segments])
    rate = random.uniform(-0.3, 0.3)
    gains = np.exp(rate * (steps - np.arange(steps + 1)))
    if mode != "quick":
        gains[:-1] *= np.array([random.uniform(0.5, 2.0) for _ in range(steps)])
    true = gains[segments[:, 2]] * deltas
    replayed = np.full(len(segments), np.nan)
    chosen = replayed_edges(segments, steps, rules, mode)
    replayed[chosen] = true[chosen]
    found = errors_of(segments, steps, rules, deltas, replayed)
    inside = np.isin(segments[:, 2], [*segments[chosen, 2].tolist(), steps]) if mode != "quick" else _between(segments, chosen)
    tails = segments[:, 2] == steps
    assert np.allclose(found[inside | tails], true[inside | tails])


def _between(segments: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The segments whose ends lie between the replayed ones; beyond them the gain is held."""
    ends = segments[chosen, 2]
    if not len(ends):
        return np.zeros(len(segments), dtype=bool)
    return (segments[:, 2] >= ends.min()) & (segments[:, 2] <= ends.max())


def test_a_replayed_error_stands_and_a_tail_is_its_delta():
    segments = all_segments(4, 4, (HOLD,))
    deltas = np.arange(1.0, len(segments) + 1)
    replayed = np.full(len(segments), np.nan)
    replayed[0] = 7.5
    found = errors_of(segments, 4, (HOLD,), deltas, replayed)
    assert found[0] == 7.5
    tails = segments[:, 2] == 4
    assert np.array_equal(found[tails], deltas[tails])


def test_reuse_that_changes_nothing_costs_nothing_and_an_end_without_any_gain_says_nothing():
    segments = all_segments(4, 2, (HOLD,))
    unknown = np.full(len(segments), np.nan)
    found = errors_of(segments, 4, (HOLD,), np.array([0.0, 1.0, 1.0]), unknown)
    assert found[0] == 0.0 and np.isnan(found[1]) and found[2] == 1.0


def test_the_segments_own_gain_goes_before_that_of_its_end():
    segments = all_segments(6, 3, (LINEAR,))
    deltas = np.ones(len(segments))
    replayed = np.full(len(segments), np.nan)
    rows = {tuple(row): place for place, row in enumerate(segments.tolist())}
    replayed[rows[2, 3, 5, 0]] = 3.0
    replayed[rows[0, 2, 5, 0]] = 5.0
    found = errors_of(segments, 6, (LINEAR,), deltas, replayed)
    assert found[rows[1, 3, 5, 0]] == 3.0 and found[rows[1, 2, 5, 0]] == 5.0
