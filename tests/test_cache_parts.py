"""The parts of the cache by themselves: rules, histories, clocks, reports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

SIGMA = st.floats(0.01, 20.0)


@pytest.fixture(scope="module")
def rules(comfy):
    from lemica.cache import rules

    return rules


@given(sigma=SIGMA, seed=st.integers(0, 99))
def test_denoised_and_derivative_undo_each_other(rules, sigma, seed):
    import torch

    x, denoised = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed)).unbind()
    back = rules.denoised_from(x, rules.derivative(x, denoised, sigma), sigma)
    assert torch.allclose(back, denoised, atol=1e-4)


@given(sigmas=st.lists(SIGMA, min_size=3, max_size=3, unique=True), a=st.floats(-2, 2), b=st.floats(-2, 2))
def test_a_full_slope_follows_a_line_and_half_a_slope_goes_half_way(rules, sigmas, a, b):
    import torch

    s0, s1, s2 = sorted(sigmas, reverse=True)
    history = rules.History(depth=2)
    for sigma in (s0, s1):
        history.put(sigma, torch.tensor([a * sigma + b], dtype=torch.float64))
    cpu = torch.device("cpu")
    hold, half, linear = (float(history.at(s2, slope, cpu)) for slope in (0.0, 0.5, 1.0))
    assert hold == pytest.approx(a * s1 + b)
    assert linear == pytest.approx(a * s2 + b, abs=1e-6)
    assert half == pytest.approx((hold + linear) / 2, abs=1e-6)


def test_a_history_keeps_the_newest_values_only(rules):
    import torch

    history = rules.History(depth=2)
    assert not history.fits(torch.zeros(1))
    for sigma in (3.0, 2.0, 1.0):
        history.put(sigma, torch.full((1,), sigma))
    assert float(history.at(0.0, 1.0, torch.device("cpu"))) == pytest.approx(0.0)
    assert history.fits(torch.zeros(1))
    assert not history.fits(torch.zeros(2)) and not history.fits(torch.zeros(1, dtype=torch.float16))


def test_one_value_alone_is_held_whatever_the_slope(rules):
    import torch

    history = rules.History(depth=2)
    history.put(1.0, torch.full((1,), 5.0))
    assert float(history.at(0.5, 1.0, torch.device("cpu"))) == 5.0


def test_speedup_compares_with_the_median_computed_call(comfy):
    from lemica.cache.clock import speedup

    assert speedup([1.0, 1.0, 0.0, 0.0], [True, True, False, False]) == 2.0
    assert speedup([9.0, 1.0, 1.0, 1.0], [True, True, True, False]) == pytest.approx(4 / 12)
    assert speedup([], []) is None
    assert speedup([0.1], [False]) is None


def test_the_report_says_what_happened_in_one_line_and_as_json(comfy):
    import json

    from lemica.cache.report import RunReport

    report = RunReport(
        "wan/b2", "published", "fits", 5, (0, 3), 4, 10, 1.0, 2.25, ("step 3 is computed: no reason",), True
    )
    line = report.line()
    assert "\n" not in line
    for part in ("computed 2 of 5 steps", "4 of 10 model calls", "2.25x", "wan/b2 (published)", "fits", "no reason"):
        assert part in line
    data = json.loads(json.dumps(report.to_json()))
    assert data["computed"] == [0, 3] and data["line"] == line and data["speedup"] == 2.25
