"""The paths that are worth fitting, against brute force; and the start of a run, which they may be told to protect."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lemica.calibration import all_segments
from lemica.calibration.fitted_paths import LATE, FittedPaths
from lemica.calibration.graph import ErrorGraph
from lemica.calibration.outcome import Route, neighbours, uniform
from lemica.calibration.sample import Sample
from lemica.schedules import OUTPUT_FITTED, ModelIdentity, nominal_sigmas

STEPS = 7


def graph_of(seed: int, longest: int = STEPS, steps: int = STEPS, samples: int = 3) -> ErrorGraph:
    segments = all_segments(steps, longest, (OUTPUT_FITTED,))
    errors = np.random.default_rng(seed).lognormal(sigma=1.5, size=(samples, len(segments)))
    return ErrorGraph(
        family="demo", model=ModelIdentity("WAN21", "WanModel"), sigmas=nominal_sigmas(3.0, steps), mode="short",
        metric="l2", rules=(OUTPUT_FITTED,), samples=tuple(Sample("a cat", seed) for seed in range(samples)),
        segments=segments, errors=errors,
    )


def errors_along(
    graph: ErrorGraph, computed: tuple[int, ...], safe: bool, late: tuple[float, float] = (1.0, 1.0)
) -> list[tuple[int, float]]:
    """Start and error of every segment of a path; an early start counts more if it is to be protected, a late one besides."""
    means, (weight, share) = graph.errors.mean(axis=0), late
    known = {tuple(row[:3]): value for row, value in zip(graph.segments.tolist(), means.tolist(), strict=True)}
    found = []
    for before, start, end in zip((-1, *computed[:-1]), computed, (*computed[1:], graph.steps), strict=True):
        error = 0.0 if end == start + 1 else known.get((before, start, end), np.inf)
        early = max(1 - start / (0.2 * graph.steps), 0.0) if safe else 0.0
        end_counts = max(1 - (1 - start / graph.steps) / share, 0.0) * (weight - 1)
        found.append((start, error * (1 + 2 * early + end_counts)))
    return found


def every_path(steps: int, budget: int) -> list[tuple[int, ...]]:
    return [(0, *rest) for rest in itertools.combinations(range(1, steps), budget - 1)]


@given(st.integers(0, 2**32), st.integers(1, STEPS), st.integers(2, STEPS), st.booleans())
@settings(max_examples=150, deadline=None)
def test_candidates_are_the_paths_whose_worst_segments_err_least(seed, budget, longest, safe):
    graph, wanted = graph_of(seed, longest), []
    for late in LATE:
        costs = {
            computed: sorted((error for _, error in errors_along(graph, computed, safe, late)), reverse=True)
            for computed in every_path(STEPS, budget)
        }
        if wanted and safe:
            most = max(error for _, error in errors_along(graph, wanted[0], safe)) * (1 + 1e-12)
            costs = {
                computed: cost for computed, cost in costs.items()
                if all(error <= most for start, error in errors_along(graph, computed, safe) if start < 0.2 * STEPS)
            }
        best = min(costs, key=lambda computed: (costs[computed], computed))
        if np.isfinite(costs[best][0]) and best not in wanted:
            wanted.append(best)
    name = "minimax, fitted" if wanted else "uniform, fitted"
    routes = FittedPaths(graph, safe).candidates(budget)
    assert [route.computed for route in routes] == (wanted or [uniform(STEPS, budget)])
    assert {route.found for route in routes} == {name}
    assert all(route.rules == (OUTPUT_FITTED,) * budget and not route.weights for route in routes)


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
        return errors_along(graph, route.computed, safe=True)

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
