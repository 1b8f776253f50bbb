"""Error graphs on other grids, against a model whose errors are known on every grid."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lemica.calibration import ErrorGraph, GraphError, Sample, all_segments, solve, sweep
from lemica.calibration.regrid import STRETCH, regrid
from lemica.schedules import GridError, ModelIdentity, Rule, nominal_sigmas
from scipy.stats import spearmanr

HOLD, HALF, LINEAR = RULES = tuple(Rule("output", order) for order in ("hold", "half", "linear"))
MODEL = ModelIdentity("WAN21", "WanModel", {"dim": 128}, "wan.safetensors")
SAMPLES = 3
LONGEST = 10


@cache
def velocity(sigma, sample):
    """A smooth curve in 40 dimensions that bends most near both ends, [40]."""
    draw = np.random.default_rng(sample)
    one, two, phase = draw.normal(size=(3, 40))
    return one * np.exp(-6 * sigma) + two * np.sin(2.5 * sigma + phase) + 0.3 * one * np.exp(-20 * (1 - sigma))


def graph_on(sigmas, longest=LONGEST, rules=RULES, samples=SAMPLES):
    """The true error graph of that curve: L1 at the segment's end, times a gain that falls from 2 to 1."""
    steps = len(sigmas) - 1
    segments = all_segments(steps, longest, rules)
    errors = np.empty((samples, len(segments)))
    widths, offsets = np.diff(sigmas)[:, None], np.asarray(sigmas)[:, None]
    curves = [np.stack([velocity(sigma, sample) for sigma in sigmas]) for sample in range(samples)]
    passes = {}
    for edge, (h, i, j, place) in enumerate(segments.tolist()):
        passes.setdefault((h, i, place), []).append((edge, j))
    for sample, ((h, i, place), ends) in itertools.product(range(samples), passes.items()):
        v = curves[sample]
        slope = rules[place].slope * (v[i] - v[h]) / (sigmas[i] - sigmas[h]) if h >= 0 else 0.0
        reused = slice(i + 1, ends[-1][1])
        off = np.cumsum(widths[reused] * (v[i] + slope * (offsets[reused] - sigmas[i]) - v[reused]), axis=0)
        for edge, j in ends:
            errors[sample, edge] = np.abs(off[j - i - 2]).mean() * (1 + sigmas[j])
    names = tuple(Sample(f"prompt {sample}", sample) for sample in range(samples))
    return ErrorGraph("demo", MODEL, tuple(sigmas), "normal", "l1", rules, names, segments, errors, {"cfg": 4.0})


@pytest.fixture(scope="module")
def graph():
    return graph_on(nominal_sigmas(5.0, 50))


def rows_of(graph):
    return {tuple(row): place for place, row in enumerate(graph.segments.tolist())}


def matched(found, truth):
    """The errors of the segments that both graphs have, [samples, segments] each, and those segments."""
    places, rows = rows_of(found), rows_of(truth)
    both = sorted(places.keys() & rows.keys())
    return (
        found.errors[:, [places[row] for row in both]], truth.errors[:, [rows[row] for row in both]], np.array(both)
    )


def karras(steps, low=0.05, high=1.0, rho=1.5):
    ramp = np.linspace(0, 1, steps)
    return (*((high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho).tolist(), 0.0)


@pytest.mark.parametrize(
    ("name", "sigmas", "off"),
    [
        ("20 steps", nominal_sigmas(5.0, 20), 0.05),
        ("30 steps", nominal_sigmas(5.0, 30), 0.05),
        ("40 steps", nominal_sigmas(5.0, 40), 0.05),
        ("75 steps", nominal_sigmas(5.0, 75), 0.05),
        ("shift 3", nominal_sigmas(3.0, 35), 0.06),
        ("no shift", nominal_sigmas(1.0, 35), 0.06),
        ("karras, rho 1.5", karras(25), 0.06),
    ],
)
def test_errors_are_those_that_a_calibration_of_the_new_grid_measures(graph, name, sigmas, off):
    found, truth, segments = matched(regrid(graph, sigmas), graph_on(sigmas, longest=8))
    assert len(segments) > 200
    for place, _ in enumerate(RULES):
        own = segments[:, 3] == place
        ratios = np.abs(np.log(found[:, own] / truth[:, own]))
        assert np.median(ratios) < off, (name, RULES[place])
        assert np.quantile(ratios, 0.9) < 8 * off, (name, RULES[place])
        assert spearmanr(found[0, own], truth[0, own]).statistic > 0.985, (name, RULES[place])


@pytest.mark.parametrize("steps", [20, 30, 40, 100])
def test_paths_are_nearly_as_good_as_those_of_a_calibration_of_the_new_grid(graph, steps):
    sigmas = nominal_sigmas(5.0, steps)
    true = graph_on(sigmas, longest=6, samples=2)
    moved = regrid(graph.take([0, 1]), sigmas, longest=6)
    errors = {edge[:4]: edge.error for edge in true.edges()}
    for budget in (int(0.35 * steps), int(0.45 * steps), int(0.6 * steps)):
        path = solve(moved.edges(), steps, budget)
        befores = (-1, *path.computed)
        reached = [
            errors[(before if rule.slope and i else -1, i, j, rule)]
            for before, (i, j), rule in zip(befores, path.segments(), path.rules) if rule is not None
        ]
        assert max(reached) <= 1.15 * solve(true.edges(), steps, budget).worst, budget


def test_its_own_grid_leaves_the_graph_as_it_is(graph):
    table = [graph.sigmas[0], *(sigma + 2e-4 for sigma in graph.sigmas[1:-1]), 0.0]
    assert regrid(graph, graph.sigmas) is graph
    assert regrid(graph, table) is graph


def test_a_part_of_the_grid_has_the_errors_measured_there(graph):
    first = 20
    part = regrid(graph, graph.sigmas[first:])
    rows, old = rows_of(part), rows_of(graph)
    assert part.steps == 30
    assert {row[1] for row in rows} == set(range(29))
    hold = graph.rules.index(HOLD)
    for (h, i, j, place), column in rows.items():
        same = (h + first if h >= 0 else -1, i + first, j + first, place if i else hold)
        if same in old:
            np.testing.assert_allclose(part.errors[:, column], graph.errors[:, old[same]], rtol=1e-6)
        else:
            assert max(j - i, i - h if h >= 0 else 0) > LONGEST
    until = regrid(graph, graph.sigmas[:31])
    assert sorted(sweep(until.edges(), 30)) == list(range(-(-30 // int(STRETCH * LONGEST)), 31))


def test_the_first_segment_of_a_part_needs_hold_errors(graph):
    linear = graph_on(graph.sigmas, rules=(LINEAR,), samples=1)
    part = regrid(linear, graph.sigmas[10:])
    assert 0 not in part.segments[:, 1]
    assert solve(part.edges(), 40, 12).computed[:2] == (0, 1)
    whole = regrid(linear, nominal_sigmas(5.0, 30))
    assert {before for before, start, *_ in whole.segments.tolist() if start == 0} == {-1}


def test_what_is_kept(graph):
    found = regrid(graph, nominal_sigmas(5.0, 30))
    for what in ("family", "model", "mode", "metric", "rules", "samples", "setup"):
        assert getattr(found, what) == getattr(graph, what)
    assert found.sigmas == nominal_sigmas(5.0, 30)
    assert found.source["interpolated_from"] == 50


def test_only_segments_about_as_long_as_those_measured(graph):
    old = 50 / 30
    lengths = np.diff(regrid(graph, nominal_sigmas(5.0, 30)).segments[:, 1:3], axis=1)
    assert lengths.max() * old <= STRETCH * LONGEST < (lengths.max() + 1) * old
    assert np.diff(regrid(graph, nominal_sigmas(5.0, 30), longest=4).segments[:, 1:3], axis=1).max() == 4
    with pytest.raises(GraphError, match="up to 10 of 50 steps"):
        regrid(graph, nominal_sigmas(5.0, 4))


def test_grids_beyond_the_measured_sigmas_are_refused(graph):
    part = regrid(graph, graph.sigmas[10:40])
    with pytest.raises(GraphError, match="covers sigmas .* the run goes from 1 to 0"):
        regrid(part, nominal_sigmas(5.0, 30))
    width = graph.sigmas[0] - graph.sigmas[1]
    slightly = [1.0 + 0.9 * width, *nominal_sigmas(5.0, 30)[1:]]
    assert (0, 2) in {(i, j) for _, i, j, _ in regrid(graph, slightly).segments.tolist()}
    with pytest.raises(GraphError, match="covers sigmas"):
        regrid(graph, [1.0 + 1.1 * width, *slightly[1:]])
    with pytest.raises(GridError):
        regrid(graph, [0.0, 1.0])


def test_what_was_not_measured_stays_unknown(graph):
    errors = graph.errors.copy()
    errors[1] = np.nan
    errors[:, graph.segments[:, 1] >= 30] = np.nan
    errors[:, graph.segments[:, 3] == 2] = np.nan
    partly = ErrorGraph("demo", MODEL, graph.sigmas, "exact", "l1", RULES, graph.samples, graph.segments, errors)
    found = regrid(partly, nominal_sigmas(5.0, 30))
    assert np.isnan(found.errors[1]).all()
    assert not np.isnan(found.errors[[0, 2]]).any()
    assert found.segments[:, 1].max() == 17
    assert {(place, start) for *_, start, _, place in found.segments.tolist() if place == 2} == {(2, 0)}


def test_a_rule_measured_for_short_segments_only_stays_short(graph):
    short = (graph.segments[:, 3] == 0) | (graph.segments[:, 2] - graph.segments[:, 1] <= 4)
    partly = replace(graph, segments=graph.segments[short], errors=graph.errors[:, short])
    found = regrid(partly, nominal_sigmas(5.0, 51))
    lengths = found.segments[:, 2] - found.segments[:, 1]
    inner = found.segments[:, 1] > 0
    assert [int(lengths[inner & (found.segments[:, 3] == place)].max()) for place in range(3)] == [15, 6, 6]


def test_graphs_of_the_first_order_stay_so(graph):
    own = (graph.segments[:, 0] < 0) | (graph.segments[:, 0] == graph.segments[:, 1] - 1)
    segments = graph.segments[own].copy()
    segments[:, 0] = -1
    first = ErrorGraph(
        "demo", MODEL, graph.sigmas, "exact", "l1", RULES, graph.samples, segments, graph.errors[:, own]
    )
    found = regrid(first, nominal_sigmas(5.0, 40))
    assert set(found.segments[:, 0].tolist()) == {-1}
    assert not np.isnan(found.errors).any()
    assert sorted(sweep(found.edges(), 40))[-1] == 40


def test_errors_of_zero_stay_small(graph):
    zeros = graph.errors.copy()
    zeros[0, ::3] = 0.0
    for errors in (zeros, np.zeros_like(zeros)):
        still = ErrorGraph("demo", MODEL, graph.sigmas, "exact", "l1", RULES, graph.samples, graph.segments, errors)
        found = regrid(still, nominal_sigmas(5.0, 30))
        assert np.isfinite(found.errors).all() and found.errors.max() <= 2 * graph.errors.max()


@settings(max_examples=40, deadline=None)
@given(st.floats(0.3, 14), st.integers(8, 100), st.floats(0, 0.8), st.integers(2, 8))
def test_every_grid_gives_a_valid_graph(graph, shift, steps, start, longest):
    grid = nominal_sigmas(shift, steps)
    grid = grid[int(start * steps) :]
    try:
        found = regrid(graph, grid, longest)
    except GraphError as error:
        assert "steps are longer" in str(error)
        return
    assert found is graph or found.segments.shape[0] == found.errors.shape[1]
    assert np.isfinite(found.errors).all()
    lengths = found.segments[:, 2] - found.segments[:, 1]
    assert lengths.min() >= 2 and (lengths.max() <= longest or found is graph)


def test_errors_grow_with_the_segment_also_where_it_is_shorter_than_two_old_steps(graph):
    found = regrid(graph, nominal_sigmas(5.0, 100), longest=6)
    mean = dict(zip(map(tuple, found.segments.tolist()), found.mean().tolist(), strict=True))
    hold = [(i, [mean[-1, i, i + length, 0] for length in range(2, 7)]) for i in range(0, 90, 7)]
    assert all(a < b for _, errors in hold for a, b in itertools.pairwise(errors))
