"""Which call is which step: the rehearsal against ComfyUI's own samplers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def plan(comfy):
    from lemica.cache import plan

    return plan


@pytest.fixture(scope="module")
def wan(comfy):
    import tiny_wan

    return tiny_wan.make_wan()


@given(stages=st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_stages_go_to_the_step_whose_callback_came_last(plan, stages):
    events, expected = [], []
    for step, further in enumerate(stages):
        events += [("call", float(step)), ("step", step)] + [("call", step + 0.5)] * further
        expected += [(step, 0)] + [(step, 1 + k) for k in range(further)]
    calls = plan.assign_steps(events, len(stages))
    assert [(call.step, call.stage) for call in calls] == expected


@pytest.mark.parametrize(
    "events",
    [
        [],
        [("call", 1.0)],
        [("step", 0)],
        [("call", 1.0), ("step", 0), ("call", 0.5)],
        [("call", 1.0), ("call", 0.9), ("step", 0)],
        [("call", 1.0), ("step", 1)],
        [("call", 1.0), ("step", 0), ("call", 0.5), ("step", 0)],
        [("call", 1.0), ("step", 0), ("call", 0.5), ("step", 1), ("call", 0.2), ("step", 2)],
    ],
)
def test_callbacks_that_do_not_count_the_steps_give_no_plan(plan, events):
    with pytest.raises(plan.NoFixedPlan):
        plan.assign_steps(events, 2)


def test_the_rehearsal_knows_the_calls_of_every_sampler_of_comfyui(comfy, plan, wan):
    """Every call of a real run is compared with the plan made before it, call by call."""
    import comfy.patcher_extension
    import comfy.samplers
    import tiny_wan

    without_plan = []
    for name in comfy.samplers.KSAMPLER_NAMES:
        seen, plans = [], []

        def rehearse_first(executor, guider, sigmas, extra_args, *args, plans=plans, **kwargs):
            plans.append(plan.rehearse(executor.class_obj, guider, sigmas.tolist(), extra_args["seed"]))
            return executor(guider, sigmas, extra_args, *args, **kwargs)

        def see(executor, x, timestep, *args, seen=seen):
            seen.append(float(timestep[0]))
            return executor(x, timestep, *args)

        model = wan.clone()
        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE, "test", rehearse_first)
        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREDICT_NOISE, "test", see)
        tiny_wan.sample(model, steps=6, sampler=name)
        if plans[0] is None:
            without_plan.append(name)
            continue
        assert [call.sigma for call in plans[0].calls] == pytest.approx(seen, rel=1e-4), name
        assert sorted({call.step for call in plans[0].calls}) == list(range(len({call.step for call in plans[0].calls}))), name
    assert without_plan == ["dpm_fast", "dpm_adaptive"]


def test_the_rehearsal_knows_which_samplers_of_comfyui_draw_noise(comfy, plan, wan):
    """Those whose latents change with the seed of their noise, from the same start."""
    import comfy.patcher_extension
    import comfy.samplers
    import tiny_wan
    import torch

    told, drawn = {}, {}
    for name in comfy.samplers.KSAMPLER_NAMES:

        def with_another_seed(executor, guider, sigmas, extra_args, callback, noise, *args, name=name):
            found = plan.rehearse(executor.class_obj, guider, sigmas.tolist(), extra_args["seed"])
            told[name] = None if found is None else found.noise
            finals = []
            for seed in (1, 2):
                torch.manual_seed(seed)
                finals.append(executor(guider, sigmas, extra_args | {"seed": seed}, callback, noise.clone(), *args))
            drawn[name] = not torch.equal(*finals)
            return finals[0]

        model = wan.clone()
        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE, "test", with_another_seed)
        tiny_wan.sample(model, steps=4, sampler=name)
    known = {name: noise for name, noise in told.items() if noise is not None}
    assert known == {name: drawn[name] for name in known}
    assert len(known) == len(told) - 2 and 10 < sum(known.values()) < len(known) - 10


def test_a_rehearsal_leaves_the_global_random_state_alone(comfy, plan, wan):
    import comfy.samplers
    import torch

    guider = comfy.samplers.CFGGuider(wan)
    guider.inner_model = wan.model
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    assert plan.rehearse(comfy.samplers.sampler_object("dpmpp_2m_sde"), guider, [1.0, 0.6, 0.3, 0.0], 3)
    assert torch.equal(before, torch.random.get_rng_state())


class Noise:
    """A noise sampler that counts, as one does that takes the noise of a run from a queue."""

    def __init__(self) -> None:
        self.calls = 0
        self.generator = torch_generator(7)

    def __call__(self, sigma, sigma_next):
        import tiny_wan
        import torch

        self.calls += 1
        return torch.randn(tiny_wan.LATENT_SHAPE, generator=self.generator)


def torch_generator(seed: int):
    import torch

    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def every_step(comfy):
    """A patcher whose runs compute every step and tell their report."""
    from lemica.cache.wrapper import full_schedule, install

    return lambda model, reports: install(model, lambda setting: (full_schedule(setting.sigmas), ""), on_report=reports.append)


@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde"])
def test_a_noise_sampler_is_called_by_the_run_alone(comfy, wan, every_step, name):
    import comfy.samplers
    import tiny_wan
    import torch

    def sample(model):
        noise = Noise()
        sampler = comfy.samplers.ksampler(name, {"noise_sampler": noise})
        return tiny_wan.sample(model, steps=4, sampler=sampler), noise.calls

    reports = []
    plain, drawn = sample(wan)
    full, drawn_with = sample(every_step(wan, reports))
    assert drawn_with == drawn > 0 and torch.equal(full, plain)
    assert not reports[0].doubts, "the sampler has its plan all the same"


def test_a_sampler_around_another_one_is_rehearsed_without_its_noise(comfy, plan, wan):
    import comfy.samplers
    import torch

    def around(model, x, sigmas, *, inner, told, **options):
        return inner.sampler_function(model, x, sigmas, **options, **inner.extra_options)

    noise = Noise()
    inner = comfy.samplers.ksampler("dpmpp_2s_ancestral", {"noise_sampler": noise})
    outer = comfy.samplers.KSAMPLER(around, {"inner": inner, "told": {"at": torch.ones(2)}})
    guider = comfy.samplers.CFGGuider(wan)
    guider.inner_model = wan.model
    sigmas = [1.0, 0.6, 0.3, 0.0]
    calls = plan.rehearse(outer, guider, sigmas, 3)
    assert calls and calls == plan.rehearse(comfy.samplers.sampler_object("dpmpp_2s_ancestral"), guider, sigmas, 3)
    assert noise.calls == 0 and inner.extra_options["noise_sampler"] is noise


def test_a_sampler_that_holds_a_state_has_no_plan_and_is_followed_by_its_sigmas(comfy, plan, wan, every_step):
    import comfy.samplers
    import tiny_wan
    import torch

    def sampler_with(state, place):
        def euler(model, x, sigmas, extra_args=None, callback=None, disable=None, given=None):
            for k in range(len(sigmas) - 1):
                denoised = model(x, sigmas[k] * x.new_ones([x.shape[0]]), **extra_args)
                drawn = torch.rand((), generator=given() if place == "option" else state)
                x = x + (x - denoised) / sigmas[k] * (sigmas[k + 1] - sigmas[k]) * drawn
                callback({"i": k, "denoised": denoised, "x": x})
            return x

        def stateless(model, x, sigmas, **options):
            return euler(model, x, sigmas, **options)

        options = {"given": lambda: state} if place == "option" else {}
        return comfy.samplers.KSAMPLER(euler if place == "option" else stateless, options)

    for place in ("option", "closure"):
        plain = tiny_wan.sample(wan, steps=4, sampler=sampler_with(torch_generator(3), place))
        reports = []
        full = tiny_wan.sample(every_step(wan, reports), steps=4, sampler=sampler_with(torch_generator(3), place))
        assert torch.equal(full, plain), place
        assert not reports[0].doubts, "one call a step: its sigmas tell"


def test_a_rehearsal_leaves_every_default_generator_alone(comfy, plan, wan):
    """A sampler that seeds them all, as torch.manual_seed does for every device too."""
    import random

    import comfy.samplers
    import numpy as np
    import torch

    def seed_all(seed: int) -> None:
        for manual_seed in (torch.manual_seed, random.seed, np.random.seed):
            manual_seed(seed)

    def seeding(model, x, sigmas, **options):
        seed_all(1)
        return comfy.samplers.ksampler("euler").sampler_function(model, x, sigmas, **options)

    def draws(device: torch.device) -> list[float]:
        return [torch.rand(()).item(), torch.rand((), device=device).item(), random.random(), np.random.random()]

    guider = comfy.samplers.CFGGuider(wan)
    guider.inner_model = wan.model
    for device in map(torch.device, ("cpu", *[f"cuda:{index}" for index in range(torch.cuda.device_count())])):
        seed_all(5)
        expected = draws(device)
        seed_all(5)
        assert plan.rehearse(comfy.samplers.KSAMPLER(seeding), guider, [1.0, 0.6, 0.0], 3, device)
        assert draws(device) == expected


def test_a_sampler_that_is_none_of_comfyuis_has_no_plan(comfy, plan):
    import comfy.samplers

    class Foreign(comfy.samplers.Sampler):
        pass

    assert plan.rehearse(Foreign(), None, [1.0, 0.5, 0.0], 1) is None
