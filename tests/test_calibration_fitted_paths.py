"""The paths that are worth fitting, against brute force; and the start of a run, which they may be told to protect."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lemica.calibration import all_segments
from lemica.calibration.fitted_paths import EARLY, EARLY_WEIGHT, FittedPaths, early_weights
from lemica.calibration.graph import ErrorGraph
from lemica.calibration.outcome import Route, neighbours, uniform
from lemica.calibration.sample import Sample
from lemica.schedules import OUTPUT_FITTED, ModelIdentity, nominal_sigmas

STEPS = 7
VIEWS = {
    "minimax, fitted": lambda errors: errors.mean(axis=0),
    "minimax of geometric means, fitted": lambda errors: np.exp(np.log(errors).mean(axis=0)),
    "minimax of worst samples, fitted": lambda errors: errors.max(axis=0),
}
"""What the errors of the samples are made to."""


def graph_of(seed: int, longest: int = STEPS, steps: int = STEPS, samples: int = 3) -> ErrorGraph:
    segments = all_segments(steps, longest, (OUTPUT_FITTED,))
    errors = np.random.default_rng(seed).lognormal(sigma=1.5, size=(samples, len(segments)))
    return ErrorGraph(
        family="demo", model=ModelIdentity("WAN21", "WanModel"), sigmas=nominal_sigmas(3.0, steps), mode="short",
        metric="l2", rules=(OUTPUT_FITTED,), samples=tuple(Sample("a cat", seed) for seed in range(samples)),
        segments=segments, errors=errors,
    )


def errors_along(graph: ErrorGraph, values: np.ndarray, computed: tuple[int, ...], safe: bool) -> list[tuple[int, float]]:
    """Start and error of every segment of a path; an early start counts more if it is to be protected."""
    known = {tuple(row[:3]): value for row, value in zip(graph.segments.tolist(), values.tolist(), strict=True)}
    found = []
    for before, start, end in zip((-1, *computed[:-1]), computed, (*computed[1:], graph.steps), strict=True):
        error = 0.0 if end == start + 1 else known.get((before, start, end), np.inf)
        early = max(1 - start / (0.2 * graph.steps), 0.0) if safe else 0.0
        found.append((start, error * (1 + 2 * early)))
    return found


def every_path(steps: int, budget: int) -> list[tuple[int, ...]]:
    return [(0, *rest) for rest in itertools.combinations(range(1, steps), budget - 1)]


@given(st.integers(0, 2**32), st.integers(1, STEPS), st.integers(2, STEPS), st.booleans())
@settings(max_examples=150, deadline=None)
def test_candidates_are_the_paths_whose_worst_segments_err_least(seed, budget, longest, safe):
    graph, wanted = graph_of(seed, longest), {}
    for name, values_of in VIEWS.items():
        costs = {
            computed: sorted((error for _, error in errors_along(graph, values_of(graph.errors), computed, safe)), reverse=True)
            for computed in every_path(STEPS, budget)
        }
        best = min(costs, key=lambda computed: (costs[computed], computed))
        if np.isfinite(costs[best][0]):
            wanted.setdefault(best, name)
    if not wanted:
        wanted = {uniform(STEPS, budget): "uniform, fitted"}
    routes = FittedPaths(graph, safe).candidates(budget)
    assert {route.computed: route.found for route in routes} == wanted and len(routes) == len(wanted)
    assert all(route.rules == (OUTPUT_FITTED,) * budget and not route.weights for route in routes)


@pytest.mark.xfail(strict=True, reason="Where the mean and the worst sample agree on a path, it comes after the other one.")
def test_the_minimax_of_the_mean_comes_first_since_mode_short_fits_no_other():
    for seed in range(50):
        assert FittedPaths(graph_of(seed), safe=True).candidates(3)[0].found == "minimax, fitted"


def test_of_one_sample_there_is_one_candidate():
    assert [route.found for route in FittedPaths(graph_of(3, samples=1), safe=True).candidates(3)] == ["minimax, fitted"]


@pytest.mark.parametrize("budget", [1, 2, 3])
def test_where_segments_are_too_short_for_a_budget_uniform_spacing_is_left(budget):
    paths = FittedPaths(graph_of(1, longest=2), safe=True)
    (route,) = paths.candidates(budget)
    assert route == Route(uniform(STEPS, budget), (OUTPUT_FITTED,) * budget, "uniform, fitted")
    assert paths.keeps_start(route, route)
    assert paths.candidates(4)[0].found == "minimax, fitted"


def test_where_the_graph_is_too_large_to_be_solved_uniform_spacing_is_left():
    (route,) = FittedPaths(graph_of(1, longest=56, steps=160, samples=1), safe=True).candidates(6)
    assert (route.computed, route.found) == (uniform(160, 6), "uniform, fitted")


@given(st.integers(0, 2**32), st.integers(2, 6), st.integers(2, 12))
@settings(max_examples=80, deadline=None)
def test_a_path_keeps_the_start_whose_early_segments_err_no_more_than_the_worst_one_of_the_other(seed, budget, longest):
    steps = 12
    graph = graph_of(seed, longest, steps)
    paths, unsafe = FittedPaths(graph, safe=True), FittedPaths(graph, safe=False)
    first = paths.candidates(budget)[0]

    def along(route: Route) -> list[tuple[int, float]]:
        return errors_along(graph, graph.errors.mean(axis=0), route.computed, safe=True)

    bound = max(error for _, error in along(first)) * (1 + 1e-12)
    others = [
        Route(computed, first.rules) for computed in every_path(steps, budget)[::7]
    ] + list(neighbours(first, steps, (OUTPUT_FITTED,)))
    for route in others:
        assert paths.keeps_start(route, first) == all(error <= bound for start, error in along(route) if start < 0.2 * steps)
        assert unsafe.keeps_start(route, first)
    assert paths.keeps_start(first, first)


def test_a_later_segment_may_err_more_and_an_earlier_one_may_not():
    graph = graph_of(1, steps=10, samples=1)
    graph = replace(graph, errors=(graph.segments[:, 2] - graph.segments[:, 1]).astype(float)[None])
    paths = FittedPaths(graph, safe=True)
    even = Route((0, 2, 4, 6, 8), (OUTPUT_FITTED,) * 5)
    assert paths.keeps_start(Route((0, 2, 3, 4, 5), even.rules), even), "five steps at the end count once, those of 0, 2 thrice"
    assert not paths.keeps_start(Route((0, 3, 5, 7, 9), even.rules), even)
    assert FittedPaths(graph, safe=False).keeps_start(Route((0, 3, 5, 7, 9), even.rules), even)


@pytest.mark.parametrize("steps", [2, 10, 50])
def test_errors_at_the_start_count_thrice_and_after_a_fifth_of_the_run_once(steps):
    weights = early_weights(np.arange(steps), steps)
    assert weights[0] == EARLY_WEIGHT == 3.0 and (np.diff(weights) <= 0).all()
    assert (weights[np.arange(steps) >= EARLY * steps] == 1.0).all() and EARLY == 0.2
    assert early_weights(np.array([5]), 50).tolist() == [2.0]
