"""Sigmas that arrive late, as from a GPU: how late a sampler that leaves its rehearsal may show."""

from __future__ import annotations

from bisect import bisect_right
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

STEPS = 10


class Late:
    """Sigmas that come ``delay`` readings later; the host may wait for one, and for all before it."""

    def __init__(self, delay: int = 10**6) -> None:
        self.delay = delay
        self.begun = 0
        self.reached = 0
        self.waited: list[tuple[int, int]] = []

    def __call__(self, tensor) -> LateReading:
        self.begun += 1
        return LateReading(self, self.begun - 1, float(tensor.flatten()[0]))


class LateReading:
    def __init__(self, clock: Late, number: int, value: float) -> None:
        self._clock, self._number, self._value = clock, number, value

    def arrived(self) -> bool:
        return self._number < max(self._clock.reached, self._clock.begun - self._clock.delay)

    def value(self) -> float:
        if not self.arrived():
            self._clock.waited.append((self._number, self._clock.begun - 1))
            self._clock.reached = self._number + 1
        return self._value


@given(stages=st.lists(st.integers(1, 3), min_size=1, max_size=10), delay=st.integers(0, 40), data=st.data())
def test_a_wrong_sigma_shows_when_the_next_step_begins_and_no_step_is_waited_for_before(comfy, stages, delay, data):
    import torch
    from lemica.cache.clock import SigmaCheck
    from lemica.cache.plan import Call

    calls = [Call(step, stage, 1.0 - 0.05 * step) for step, count in enumerate(stages) for stage in range(count)]
    off = data.draw(st.none() | st.integers(0, len(calls) - 1))
    clock = Late(delay)
    check = SigmaCheck(clock)
    found = None
    for number, call in enumerate(calls):
        seen = torch.tensor([call.sigma * (0.9 if off is not None and number >= off else 1.0)])
        wrong = check.wrong(seen, call)
        if wrong is not None:
            found = number
            break
    for awaited, at in clock.waited:
        assert calls[awaited].step < calls[at].step
    if off is None:
        assert found is None and check.rest() is None
        return
    steps = [call.step for call in calls]
    next_step = bisect_right(steps, steps[off])
    due = min(next_step, off + max(delay, 0))
    assert found == (due if due < len(calls) else None)
    assert (wrong if found is not None else check.rest()) == off


@given(delay=st.integers(0, 1))
def test_a_device_that_keeps_up_is_never_waited_for(comfy, delay):
    import torch
    from lemica.cache.clock import SigmaCheck
    from lemica.cache.plan import Call

    clock = Late(delay)
    check = SigmaCheck(clock)
    for step in range(STEPS):
        assert check.wrong(torch.ones(1), Call(step, 0, 1.0)) is None
    assert not clock.waited


def leaving(at: int):
    """A sampler whose sigmas differ from its rehearsal's from step ``at`` on."""
    import comfy.samplers

    def sample(model, x, sigmas, extra_args=None, callback=None, disable=None):
        real = x.numel() > 64
        for k in range(len(sigmas) - 1):
            sigma = sigmas[k] * (0.97 if real and k >= at else 1.0)
            denoised = model(x, sigma * x.new_ones([x.shape[0]]), **extra_args)
            callback({"i": k, "denoised": denoised, "x": x})
            x = x + (x - denoised) / sigma * (sigmas[k + 1] - sigmas[k])
        return x

    return comfy.samplers.KSAMPLER(sample)


@pytest.fixture(scope="module")
def sampled(comfy: ModuleType, graphs: ModuleType, tiny_wan: ModuleType, wan):
    from lemica.cache.placement import Placement
    from lemica.cache.run import SamplingRun
    from lemica.cache.wrapper import attach
    from lemica.schedules import Rule, Schedule

    schedule = Schedule("test", "test", STEPS, (0, 2), (Rule("output", "hold"),) * 2, "custom")

    def sample(at: int, clock: Late, **settings):
        """How many conds were evaluated, and the report."""
        reports = []
        model = attach(wan, lambda setting: SamplingRun(
            settings.get("schedule", schedule), setting.sigmas, Placement("auto"), read=clock, observe=settings.get("observe")
        ), reports.append)
        with graphs.rows_through(wan) as rows:
            tiny_wan.sample(model, steps=STEPS, sampler=leaving(at))
        return sum(rows), reports[0]

    return sample


@pytest.mark.parametrize("at", range(3, STEPS))
def test_one_step_at_most_is_reused_under_a_wrong_sigma_and_the_report_says_which(sampled, at):
    evaluated, report = sampled(at, Late())
    assert evaluated == 2 * (2 + STEPS - at - 1)
    assert f"the picture may be off: reused at step {at} before" in report.line()
    assert "leaves the sigmas of its rehearsal" in report.line()
    assert set(report.computed) == {0, 2, *range(at + 1, STEPS)}


@pytest.mark.parametrize("at", [2, 3, STEPS - 1])
def test_nothing_is_reused_under_a_wrong_sigma_where_it_shows_in_time(sampled, at):
    evaluated, report = sampled(at, Late(delay=0))
    assert evaluated == 2 * (1 + (at > 2) + STEPS - at)
    assert "picture may be off" not in report.line() and "leaves the sigmas of its rehearsal" in report.line()


def test_a_computed_step_that_strays_spoils_no_picture(sampled):
    evaluated, report = sampled(2, Late())
    assert evaluated == 2 * (2 + STEPS - 3)
    assert "picture may be off" not in report.line() and "leaves the sigmas of its rehearsal" in report.line()


def test_a_run_by_its_plan_has_no_doubts_however_late_its_sigmas_are(sampled):
    clock = Late()
    evaluated, report = sampled(STEPS, clock)
    assert evaluated == 2 * 2 and not report.doubts
    assert clock.waited == [(step, step + 1) for step in range(STEPS - 1)] + [(STEPS - 1, STEPS - 1)]


def test_who_observes_the_run_is_told_of_a_last_call_that_strayed(comfy, sampled):
    """A calibration must not take such a run for its reference."""
    from lemica.cache.wrapper import full_schedule

    seen = []
    full = full_schedule([1.0] * (STEPS + 1))
    _, report = sampled(STEPS - 1, Late(), schedule=full, observe=lambda call, x: seen.append(call))
    assert [call is None for call in seen] == [False] * STEPS + [True]
    assert report.finished and "picture may be off" not in report.line()
