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
        assert [call.sigma for call in plans[0]] == pytest.approx(seen, rel=1e-4), name
        assert sorted({call.step for call in plans[0]}) == list(range(len({call.step for call in plans[0]}))), name
    assert without_plan == ["dpm_fast", "dpm_adaptive"]


def test_a_rehearsal_leaves_the_global_random_state_alone(comfy, plan, wan):
    import comfy.samplers
    import torch

    guider = comfy.samplers.CFGGuider(wan)
    guider.inner_model = wan.model
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    assert plan.rehearse(comfy.samplers.sampler_object("dpmpp_2m_sde"), guider, [1.0, 0.6, 0.3, 0.0], 3)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_sampler_that_is_none_of_comfyuis_has_no_plan(comfy, plan):
    import comfy.samplers

    class Foreign(comfy.samplers.Sampler):
        pass

    assert plan.rehearse(Foreign(), None, [1.0, 0.5, 0.0], 1) is None
