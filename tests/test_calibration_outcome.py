"""The paths that a calibration measures, against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lemica.calibration.graph import ErrorGraph
from lemica.calibration.outcome import candidates, most_candidates, uniform
from lemica.calibration.sample import Sample
from lemica.calibration.segments import all_segments
from lemica.schedules import ModelIdentity, Rule, Schedule, nominal_sigmas

STEPS = 7
RULES = (Rule("output", "hold"), Rule("residual", "hold"))
VIEWS = {
    "minimax": (lambda errors: errors.mean(axis=0), lambda path: sorted(path, reverse=True)),
    "minimax of geometric means": (lambda errors: np.exp(np.log(errors).mean(axis=0)), lambda path: sorted(path, reverse=True)),
    "minimax of worst samples": (lambda errors: errors.max(axis=0), lambda path: sorted(path, reverse=True)),
    "shortest path": (lambda errors: errors.mean(axis=0), sum),
    "shortest path of squares": (lambda errors: errors.mean(axis=0), lambda path: sum(error**2 for error in path)),
}
"""What the errors of the samples are made to, and what a path has smallest."""


def graph_of(seed, longest=STEPS, steps=STEPS):
    segments = all_segments(steps, longest, RULES)
    errors = np.random.default_rng(seed).lognormal(sigma=1.5, size=(3, len(segments)))
    return ErrorGraph(
        family="demo", model=ModelIdentity("WAN21", "WanModel"), sigmas=nominal_sigmas(3.0, steps), mode="exact",
        metric="l1", rules=RULES, samples=tuple(Sample("a cat", seed) for seed in range(3)), segments=segments,
        errors=errors,
    )


def paths(budget):
    return [(0, *rest) for rest in itertools.combinations(range(1, STEPS), budget - 1)]


@given(st.integers(0, 2**32), st.integers(1, STEPS - 1))
def test_each_objective_has_its_best_path_among_the_candidates(seed, budget):
    graph = graph_of(seed)
    routes = candidates(graph, budget)
    for values_of, objective in VIEWS.values():
        best: dict[tuple[int, int], float] = {}
        for (_, start, end, _), value in zip(graph.segments.tolist(), values_of(graph.errors).tolist(), strict=True):
            best[start, end] = min(value, best.get((start, end), np.inf))

        def cost(computed, best=best, objective=objective):
            ends = (*computed[1:], STEPS)
            return objective([best.get(pair, 0.0) for pair in zip(computed, ends, strict=True)])

        wanted = min(paths(budget), key=cost)
        assert wanted in [route.computed for route in routes]


@given(st.integers(0, 2**32), st.integers(1, STEPS), st.integers(2, STEPS))
def test_candidates_fit_the_budget_and_no_two_are_the_same(seed, budget, longest):
    other = Schedule("other", "demo", STEPS, uniform(STEPS, budget), (RULES[1],) * budget, "published")
    others = [other, Schedule("more", "demo", STEPS, (0, 1), (RULES[0],) * 2, "published")]
    routes = candidates(graph_of(seed, longest), budget, others)
    assert {len(route.computed) for route in routes} == {budget}
    assert len({route.key for route in routes}) == len(routes) <= most_candidates(len(RULES), 2)
    assert {(uniform(STEPS, budget), (rule,) * budget) for rule in RULES} <= {(one.computed, one.rules) for one in routes}


def test_there_are_as_many_as_announced_where_all_differ():
    other = Schedule("other", "demo", 120, tuple(range(40)), (RULES[0],) * 40, "published")
    counts = {len(candidates(graph_of(seed, 10, steps=120), 40, [other])) for seed in range(3)}
    assert max(counts) == most_candidates(len(RULES), 1)


@pytest.mark.parametrize("longest", [2, STEPS])
def test_a_budget_without_a_path_has_uniform_spacing_left(longest):
    found = {route.found.split(",")[0] for route in candidates(graph_of(1, longest), 2)}
    assert found == {"uniform"} if longest == 2 else "minimax" in found
