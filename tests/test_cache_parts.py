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


def reuse(rules, order: str, weights: tuple[float, ...] = (), steps: tuple[int, ...] = ()):
    from lemica.schedules import Rule

    return rules.Reuse(Rule("output", order), weights, steps)


@pytest.mark.parametrize("noise", [True, False])
@given(sigma=SIGMA, seed=st.integers(0, 99))
def test_what_is_carried_gives_the_denoised_latent_back(rules, noise, sigma, seed):
    import torch

    x, denoised = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed)).unbind()
    back = rules.denoised_from(x, rules.carried(x, denoised, sigma, noise), sigma, noise)
    assert torch.allclose(back, denoised, atol=1e-4)


@given(sigmas=st.lists(SIGMA, min_size=3, max_size=3, unique=True), a=st.floats(-2, 2), b=st.floats(-2, 2))
def test_a_full_slope_follows_a_line_and_half_a_slope_goes_half_way(rules, sigmas, a, b):
    import torch

    s0, s1, s2 = sorted(sigmas, reverse=True)
    history = rules.History(depth=2)
    for step, sigma in enumerate((s0, s1)):
        history.put(step, sigma, torch.tensor([a * sigma + b], dtype=torch.float64))
    cpu = torch.device("cpu")
    hold, half, linear = (float(history.at(s2, reuse(rules, order), cpu)) for order in ("hold", "half", "linear"))
    assert hold == pytest.approx(a * s1 + b)
    assert linear == pytest.approx(a * s2 + b, abs=1e-6)
    assert half == pytest.approx((hold + linear) / 2, abs=1e-6)


def test_a_history_keeps_the_newest_values_only(rules):
    import torch

    history, linear = rules.History(depth=2), reuse(rules, "linear")
    assert not history.fits(torch.zeros(1), linear)
    for step, sigma in enumerate((3.0, 2.0, 1.0)):
        history.put(step, sigma, torch.full((1,), sigma))
    assert float(history.at(0.0, linear, torch.device("cpu"))) == pytest.approx(0.0)
    assert history.fits(torch.zeros(1), linear)
    assert not history.fits(torch.zeros(2), linear) and not history.fits(torch.zeros(1, dtype=torch.float16), linear)


def test_one_value_alone_is_held_whatever_the_slope(rules):
    import torch

    history = rules.History(depth=2)
    history.put(0, 1.0, torch.full((1,), 5.0))
    assert float(history.at(0.5, reuse(rules, "linear"), torch.device("cpu"))) == 5.0


@given(
    weights=st.lists(st.floats(-3, 3), min_size=1, max_size=6),
    values=st.lists(st.floats(-9, 9), min_size=6, max_size=9),
    seed=st.integers(0, 99),
)
def test_a_fitted_value_is_the_weighted_sum_all_through_its_segment_and_is_made_once(rules, weights, values, seed):
    import torch

    history, depth = rules.History(depth=len(weights)), len(weights)
    steps = sorted(torch.randperm(40, generator=torch.Generator().manual_seed(seed))[: len(values)].tolist())
    for step, value in zip(steps, values, strict=True):
        history.put(step, 50.0 - step, torch.full((2,), value, dtype=torch.float64))
    fitted = reuse(rules, "fitted", tuple(weights), tuple(steps[::-1][:depth]))
    assert history.fits(torch.zeros(2, dtype=torch.float64), fitted)
    found = history.at(0.5, fitted, torch.device("cpu"))
    expected = sum(weight * value for weight, value in zip(weights, values[::-1], strict=False))
    assert float(found[0]) == pytest.approx(expected, abs=1e-9)
    assert history.at(0.25, fitted, torch.device("cpu")) is found
    assert history.fits(torch.zeros(2, dtype=torch.float64), fitted)


def test_a_history_that_lacks_one_of_the_steps_of_a_fit_does_not_fit(rules):
    import torch

    history = rules.History(depth=3)
    for step in (0, 4, 7):
        history.put(step, 10.0 - step, torch.zeros(1))
    for steps in ((7,), (7, 4), (7, 4, 0)):
        assert history.fits(torch.zeros(1), reuse(rules, "fitted", (1.0,) * len(steps), steps))
    for steps in ((4,), (7, 0), (7, 4, 2), (7, 4, 0, 1)):
        assert not history.fits(torch.zeros(1), reuse(rules, "fitted", (1.0,) * len(steps), steps))


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_history_never_holds_more_tensors_than_its_depth(rules, depth):
    """That of a fitted segment counts: it takes the place of the oldest value, which no later segment looks back on."""
    import torch

    history = rules.History(depth)
    for step in range(12):
        history.put(step, 20.0 - step, torch.full((1,), float(step)))
        steps = tuple(range(step, max(step - depth, -1), -1))
        if step % 3 == 0:
            history.at(1.0, reuse(rules, "fitted", (1.0,) * len(steps), steps), torch.device("cpu"))
        held = [kept.value for kept in history._kept] + ([] if history._blend is None else [history._blend])
        assert len({tensor.data_ptr() for tensor in held}) <= depth


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
