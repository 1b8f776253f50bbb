"""RECALL: the exact replay of one segment, as a calibration measures it."""

from __future__ import annotations

from dataclasses import replace

import pytest

STEPS = 8


def replayable(tiny_wan, patch=lambda model: model):
    """A guider that samples one latent under given actions; it keeps its conds' uuids over all runs."""
    import comfy.sample
    import comfy.samplers
    import torch
    from lemica.cache.placement import Placement
    from lemica.cache.run import SamplingRun
    from lemica.cache.wrapper import attach

    settings = {}

    def make_run(setting):
        return SamplingRun(sigmas=setting.sigmas, placement=Placement("auto"), **settings)

    model = attach(patch(tiny_wan.make_wan()), make_run)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(tiny_wan.conditioning(11), tiny_wan.conditioning(12))
    guider.set_cfg(3.0)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS)
    latent = torch.zeros(tiny_wan.LATENT_SHAPE)
    noise = comfy.sample.prepare_noise(latent, 4)

    def run(sampler, **given):
        settings.clear()
        settings.update(given)
        return guider.sample(noise, latent, comfy.samplers.sampler_object(sampler), sigmas, seed=4, disable_pbar=True)

    return run


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "heun", "euler_ancestral", "dpmpp_sde"])
@pytest.mark.parametrize("rule", ["output hold", "output linear", "residual hold", "residual linear"])
def test_recalling_the_steps_before_a_segment_equals_computing_them(comfy, tiny_wan, sampler, rule):
    import torch
    from lemica.cache.steps import Action
    from lemica.cache.trajectory import Trajectory
    from lemica.schedules import Rule, Schedule

    run = replayable(tiny_wan)
    full = Schedule("full", "test", STEPS, tuple(range(STEPS)), (Rule.parse(rule),) * STEPS, "custom")
    reference = Trajectory(residuals_wanted=rule.startswith("residual"))
    recorded = run(sampler, schedule=full, record=reference)
    assert torch.equal(recorded, run(sampler, schedule=full))
    i, j = 2, 5
    computed = tuple(k for k in range(STEPS) if not i < k < j)
    segment = replace(full, computed=computed, rules=full.rules[: len(computed)])
    actions = [Action.RECALL if k <= i else Action.REUSE if k < j else Action.COMPUTE for k in range(STEPS)]
    replayed = run(sampler, schedule=segment, actions=actions, recall=reference)
    assert torch.equal(replayed, run(sampler, schedule=segment))
    assert not torch.equal(replayed, recorded)
    assert torch.equal(recorded, run(sampler, schedule=full, actions=[Action.RECALL] * STEPS, recall=reference))


@pytest.mark.parametrize("rule", ["output linear", "residual hold"])
@pytest.mark.parametrize("told_apart", [True, False])
def test_a_cond_that_is_asked_for_again_is_recalled_in_its_place(comfy, tiny_wan, rule, told_apart):
    """A guidance asks for the positive twice; without a flag nothing tells the two passes apart, and they compute."""
    import torch
    from lemica.cache.steps import segment_actions
    from lemica.cache.trajectory import Trajectory
    from lemica.schedules import Rule, Schedule

    def guided(args):
        import comfy.samplers

        result = args["denoised"]
        for place, scale in enumerate((0.5, 2.0)):
            options = args["model_options"].copy()
            if told_apart:
                options["transformer_options"] = {**options["transformer_options"], "place": place}
            x = args["input"] * scale
            (again,) = comfy.samplers.calc_cond_batch(args["model"], [args["cond"]], x, args["sigma"], options)
            result = result + (args["cond_denoised"] - again) * scale
        return result

    def patch(model):
        model.set_model_sampler_post_cfg_function(guided)
        return model

    run = replayable(tiny_wan, patch)
    full = Schedule("full", "test", STEPS, tuple(range(STEPS)), (Rule.parse(rule),) * STEPS, "custom")
    reference = Trajectory(residuals_wanted=rule.startswith("residual"))
    recorded = run("euler", schedule=full, record=reference)
    everything = [*segment_actions(STEPS, STEPS, STEPS)]
    assert torch.equal(recorded, run("euler", schedule=full, actions=everything, recall=reference))
    segment = replace(full, computed=(0, 1, 2, 5, 6, 7), rules=full.rules[:6])
    replayed = run("euler", schedule=segment, actions=segment_actions(STEPS, 2, 5), recall=reference)
    assert torch.equal(replayed, run("euler", schedule=segment)) and not torch.equal(replayed, recorded)


def test_a_replay_that_was_never_recorded_is_an_error(comfy, tiny_wan):
    from lemica.cache.steps import Action
    from lemica.cache.trajectory import Trajectory
    from lemica.schedules import Rule, Schedule

    run = replayable(tiny_wan)
    full = Schedule("full", "test", STEPS, tuple(range(STEPS)), (Rule("output", "hold"),) * STEPS, "custom")
    with pytest.raises(LookupError, match="same guider"):
        run("euler", schedule=full, actions=[Action.RECALL] * STEPS, recall=Trajectory())
