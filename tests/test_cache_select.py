"""Schedules as they are found for a real model, on the sigma grids that ComfyUI makes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parent.parent / "schedules" / "library"


@pytest.fixture(scope="module")
def accelerated(tiny_wan):
    """A tiny Wan whose schedule is selected as the LeMiCa node selects it, and the reports of its runs."""
    from lemica.cache.identity import identify
    from lemica.cache.wrapper import install
    from lemica.schedules import Library, find_family, select

    library = Library(LIBRARY)
    plain = tiny_wan.make_wan()
    match = find_family(identify(plain), library.families())

    def with_request(on_report, **request):
        find = partial(select, library, match, **request)

        def choose(setting):
            selection = find(setting.sigmas)
            return selection.schedule, selection.note

        return install(plain, choose, on_report=on_report)

    return with_request


def test_every_scheduler_of_comfyui_gives_a_grid_that_can_be_scheduled(comfy, tiny_wan, accelerated):
    import comfy.samplers

    for scheduler in comfy.samplers.SCHEDULER_NAMES:
        reports = []
        latent = tiny_wan.sample(accelerated(reports.append, budget=5), steps=10, scheduler=scheduler)
        (report,) = reports
        assert latent.isfinite().all()
        assert report.steps >= 9, scheduler
        assert len(report.computed) == 5 and not report.doubts, (scheduler, report.line())
        assert report.calls == 10


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_a_preset_makes_exactly_the_model_calls_of_its_budget(tiny_wan, accelerated, cfg):
    from lemica.schedules import PRESETS

    calls = {}
    for name in PRESETS:
        reports = []
        tiny_wan.sample(accelerated(reports.append, preset=name), steps=20, cfg=cfg)
        (report,) = reports
        assert report.calls == len(report.computed) * (1 if cfg == 1.0 else 2)
        calls[name] = report.calls
    assert calls["slow"] > calls["medium"] > calls["fast"] > calls["ultra"] > 0
    assert calls["medium"] < 0.65 * 20 * (1 if cfg == 1.0 else 2)


def test_image_to_image_and_a_second_pass_start_by_computing(comfy, tiny_wan, accelerated):
    """The tail of a grid, as denoise below 1 and start_at_step give it."""
    import comfy.samplers

    model = accelerated(lambda report: None, budget=4)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 16)
    for first, last in ((6, 16), (0, 10), (10, 16)):
        reports = []
        part = sigmas[first : last + 1]
        latent = tiny_wan.sample(accelerated(reports.append, budget=4), sigmas=part)
        (report,) = reports
        assert latent.isfinite().all()
        assert report.steps == last - first and report.computed[0] == 0 and len(report.computed) == 4


def test_an_estimate_says_that_it_is_one(tiny_wan, accelerated):
    reports = []
    tiny_wan.sample(accelerated(reports.append, preset="medium"))
    assert reports[0].origin == "estimated"
    assert "estimated" in reports[0].line() and "until this model is calibrated" in reports[0].line()


def test_a_budget_above_the_steps_computes_every_step_and_says_so(tiny_wan, accelerated):
    import torch

    reports = []
    model = accelerated(reports.append, budget=11)
    latent = tiny_wan.sample(model, steps=10)
    assert "computing every step: The budget is 11 in a run of 10 steps" in reports[0].line()
    assert torch.equal(latent, tiny_wan.sample(accelerated(reports.append, budget=10), steps=10))
    tiny_wan.sample(model, steps=20)
    assert len(reports[-1].computed) == 11 and "computing every step" not in reports[-1].line()
