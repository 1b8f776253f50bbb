"""Deltas measured in batches are those of single runs, on every sampler and family; where they are not, none is used."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from tiny_images import IMAGES
from tiny_videos import VIDEOS

STEPS = 5
RULES = tuple(f"{target} {order}" for target in ("output", "residual") for order in ("hold", "half", "linear"))
FAMILY_STEPS = 4
NOT_IN_BATCHES = ("wan21_vace", "hunyuan_video_reference")
"""Models whose conds ComfyUI itself does not repeat for a batch."""


def rules_of(texts=RULES):
    from lemica.schedules import Rule

    return tuple(map(Rule.parse, texts))


def wan_sampling(tiny_wan, model, sampler="euler", scheduler="simple", steps=STEPS, shape=None, **latent):
    import torch
    from lemica.calibration import Sample
    from lemica.calibration.sampling import AttachedModel, ksampler_sampling

    return ksampler_sampling(
        AttachedModel(model), tiny_wan.conditioning(11), tiny_wan.conditioning(12),
        {"samples": torch.zeros(shape or tiny_wan.LATENT_SHAPE), **latent}, Sample("noise", 4), steps, 3.0, sampler, scheduler,
    )


def family_sampling(tiny, name):
    import comfy.samplers
    from lemica.calibration import Sample
    from lemica.calibration.sampling import AttachedModel, Sampling

    attached = AttachedModel(tiny.make(name))
    guider = comfy.samplers.CFGGuider(attached.patcher)
    guider.set_conds(tiny.conditioning(name, 11), tiny.conditioning(name, 12))
    guider.set_cfg(tiny.MODELS[name].cfg)
    sigmas = comfy.samplers.calculate_sigmas(attached.patcher.get_model_object("model_sampling"), "simple", FAMILY_STEPS)
    latent = {"samples": tiny.empty_latent(name)}
    return Sampling(attached, guider, comfy.samplers.sampler_object("euler"), sigmas, latent, Sample("noise", 4))


def both_ways(sampling, longest=4, rules=RULES):
    """The deltas of all segments, those of runs of one, and how many runs the first took."""
    from lemica.calibration.deltas import Deltas, Lane
    from lemica.calibration.latents import l1
    from lemica.calibration.replay import Replays
    from lemica.calibration.segments import all_segments

    rules = rules_of(rules)
    segments = all_segments(len(sampling.sigmas) - 1, longest, rules)
    reference = Replays(sampling, rules, l1).reference()
    sizes, run = [], sampling.run
    sampling.run = lambda *args, lanes=1, **options: (sizes.append(lanes), run(*args, lanes=lanes, **options))[1]
    found = Deltas(sampling, reference).of_segments(segments, rules)
    sampling.run = run
    alone = Deltas(sampling, reference)
    expected = [
        alone.of_one(start, Lane(before, rules[kind]), [end])[end] for before, start, end, kind in segments.tolist()
    ]
    return found, np.array(expected), sizes


def test_every_sampler_gives_in_batches_what_it_gives_alone(comfy, tiny_wan, wan):
    import comfy.samplers
    from lemica.calibration.replay import ReplayError

    batched, single = [], []
    for sampler in comfy.samplers.KSampler.SAMPLERS:
        try:
            found, expected, sizes = both_ways(wan_sampling(tiny_wan, wan, sampler), 3, RULES[:2])
        except ReplayError:
            continue
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6, err_msg=sampler)
        if sizes[-1] == 1 and sum(size > 1 for size in sizes) == 1:
            single.append(sampler)
            assert (found == expected).all(), sampler
        else:
            batched.append(sampler)
            assert sum(size > 1 for size in sizes) == STEPS - 2, sampler
    assert {"euler", "heun", "dpmpp_2m", "uni_pc", "lms", "res_multistep", "ipndm", "deis"} <= set(batched)
    assert {"euler_ancestral", "dpmpp_sde", "dpmpp_2m_sde", "lcm", "ddpm", "er_sde"} <= set(single)


@pytest.mark.parametrize("name", (*IMAGES, *VIDEOS))
def test_every_family_gives_in_batches_what_it_gives_alone(comfy, name):
    import tiny_models

    found, expected, sizes = both_ways(family_sampling(tiny_models, name), rules=RULES[3:])
    assert np.isfinite(found).all() and (found > 0).any()
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-6)
    nested = not isinstance(tiny_models.MODELS[name].latent[0], int)
    assert sum(size > 1 for size in sizes) == (0 if nested else 1 if name in NOT_IN_BATCHES else FAMILY_STEPS - 2)


def test_a_batch_saves_runs(comfy, tiny_wan, wan):
    found, expected, sizes = both_ways(wan_sampling(tiny_wan, wan, "dpmpp_2m", steps=8))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    # One batch for a start and target but the first start, which has a run for each rule; each target is proven once.
    assert sorted(size for size in sizes if size > 1) == [3, 3, 5, 5, 7, 7, *[9] * 6] and sizes.count(1) == 6 + 2 * 2


def test_batches_are_small_for_large_latents_and_none_where_a_batch_is_no_copy(comfy, tiny_wan, wan, monkeypatch):
    import torch
    from lemica.calibration import sampling

    shape = tiny_wan.LATENT_SHAPE
    size = torch.Size(shape).numel()
    assert wan_sampling(tiny_wan, wan).most_lanes == min(sampling.MOST_LANES, sampling.LANE_ELEMENTS // size)
    assert wan_sampling(tiny_wan, wan, noise_mask=torch.ones(1, 1, *shape[2:])).most_lanes == 1
    assert wan_sampling(tiny_wan, wan, shape=(2, *shape[1:])).most_lanes == 1
    monkeypatch.setattr(sampling, "LANE_ELEMENTS", 3 * size + 1)
    found, expected, sizes = both_ways(wan_sampling(tiny_wan, wan))
    assert max(sizes) == wan_sampling(tiny_wan, wan).most_lanes == 3
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    monkeypatch.setattr(sampling, "LANE_ELEMENTS", size - 1)
    assert wan_sampling(tiny_wan, wan).most_lanes == 1


def spoiled(model, change):
    """The model with a function after CFG that works on the whole batch."""
    model = model.clone()
    model.set_model_sampler_post_cfg_function(lambda args: change(args["denoised"]))
    return model


def test_a_model_that_mixes_the_samples_of_a_batch_is_measured_one_by_one(comfy, tiny_wan, wan, caplog):
    mixing = spoiled(wan, lambda denoised: 0.5 * denoised + 0.5 * denoised.mean(dim=0, keepdim=True))
    with caplog.at_level(logging.INFO, "LeMiCa"):
        found, expected, sizes = both_ways(wan_sampling(tiny_wan, mixing))
    assert sum(size > 1 for size in sizes) == 1 and (found == expected).all()
    assert [message for message in caplog.messages if "one by one" in message and "alone" in message]


def test_a_batch_without_room_is_measured_one_by_one(comfy, tiny_wan, wan, caplog):
    import torch

    def fail_on_batches(denoised):
        if len(denoised) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return denoised

    with caplog.at_level(logging.INFO, "LeMiCa"):
        found, expected, sizes = both_ways(wan_sampling(tiny_wan, spoiled(wan, fail_on_batches)))
    assert sum(size > 1 for size in sizes) == 1 and (found == expected).all()
    assert [message for message in caplog.messages if "one by one: CUDA out of memory" in message]


def test_an_error_that_is_not_of_the_batch_passes_through(comfy, tiny_wan, wan):
    left = [STEPS]

    def fail_after_the_full_run(denoised):
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("no such kernel")
        return denoised

    with pytest.raises(RuntimeError, match="no such kernel"):
        both_ways(wan_sampling(tiny_wan, spoiled(wan, fail_after_the_full_run)))


def test_cancelling_a_batch_cancels_the_calibration(comfy, tiny_wan, wan):
    import comfy.model_management

    def cancel_in_batches(denoised):
        if len(denoised) > 1:
            comfy.model_management.interrupt_current_processing()
            comfy.model_management.throw_exception_if_processing_interrupted()
        return denoised

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        both_ways(wan_sampling(tiny_wan, spoiled(wan, cancel_in_batches)))
