"""Conditioning: areas, masks, time ranges, ControlNet and adapters, block patches, hooks, inpainting."""

from __future__ import annotations

from types import ModuleType

import pytest

RULES = ("output hold", "residual hold")


@pytest.fixture(scope="module")
def tiny_unet(comfy: ModuleType) -> ModuleType:
    import tiny_unet

    return tiny_unet


@pytest.fixture(scope="module")
def unet(tiny_unet):
    return tiny_unet.make_unet()


def unet_sampler(graphs, tiny_unet, positive, negative=None, latent=None):
    import torch
    from comfy_extras.nodes_custom_sampler import CFGGuider

    def sample(model):
        (guider,) = CFGGuider.execute(model, positive, negative or tiny_unet.conditioning(12), 4.0).args
        filled = {"samples": torch.zeros(tiny_unet.LATENT_SHAPE)} if latent is None else latent
        return graphs.sample_with(guider, graphs.sigmas_of(model), filled)

    return sample


def ranged(conditioning: list, start: float, end: float) -> list:
    import nodes

    return nodes.ConditioningSetTimestepRange().set_range(conditioning, start, end)[0]


def halves(one: list, two: list) -> list:
    """Two conditionings, one on each half of a video's width; both halves are of one size."""
    from comfy_extras.nodes_video_model import ConditioningSetAreaPercentageVideo

    place = ConditioningSetAreaPercentageVideo().append
    return place(one, 0.5, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0)[0] + place(two, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0, 1.0)[0]


def test_areas_keep_apart_from_each_other_and_from_the_copies_that_the_negative_gets_of_them(graphs, tiny_wan, wan):
    """ComfyUI gives the negative a copy of each area of the positive, under the positive's uuid."""
    positive = halves(tiny_wan.conditioning(1), tiny_wan.conditioning(2)) + tiny_wan.conditioning(3)
    seen = []

    def look(executor, *args):
        seen.append(args[5]["uuids"])
        return executor(*args)

    import comfy.patcher_extension

    watched = wan.clone()
    watched.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "look", look)
    tiny_wan.sample(watched, positive=positive, steps=1)
    uuids = [uuid for batch in seen for uuid in batch]
    assert len(set(uuids)) < len(uuids), "the case that this test is about"
    graphs.check_graph(wan, lambda model: tiny_wan.sample(model, positive=positive, steps=graphs.STEPS))


def test_areas_and_masks_of_a_unet(graphs, tiny_unet, unet):
    import torch

    import nodes

    (left,) = nodes.ConditioningSetArea().append(tiny_unet.conditioning(1), 32, 64, 0, 0, 1.0)
    (masked,) = nodes.ConditioningSetMask().append(tiny_unet.conditioning(2), torch.eye(8)[None], "default", 0.8)
    (bounded,) = nodes.ConditioningSetMask().append(tiny_unet.conditioning(3), torch.eye(8)[None], "mask bounds", 1.0)
    sample = unet_sampler(graphs, tiny_unet, left + masked + bounded + tiny_unet.conditioning(4))
    graphs.check_graph(unet, sample, ["output hold"], "out")


@pytest.mark.parametrize("rule", RULES)
def test_a_cond_that_comes_back_is_not_given_what_it_had_before(graphs, tiny_wan, wan, rule):
    """A, B, then A again: what A had at step 0 is older than the step that the schedule wants reused."""
    one, two = tiny_wan.conditioning(1), tiny_wan.conditioning(2)
    back = ranged(one, 0.0, 0.3) + ranged(two, 0.31, 0.6) + ranged(one, 0.61, 1.0)
    same = [[back[0][0], {**back[0][1]}]]
    positive = same + back[1:2] + back[2:]
    reports = []
    computed = (0, 4)
    tiny_wan.sample(graphs.scheduled(wan, computed, rule, reports), steps=10, positive=positive)
    (report,) = reports
    assert report.computed[0] == 0 and set(computed) < set(report.computed)
    assert "nothing cached fits" in report.line()


@pytest.mark.parametrize("rule", RULES)
def test_a_first_cond_that_is_off_does_not_keep_the_others_from_being_reused(graphs, tiny_wan, wan, rule):
    positive = ranged(tiny_wan.conditioning(1), 0.0, 0.1) + tiny_wan.conditioning(2)
    reports = []
    tiny_wan.sample(graphs.scheduled(wan, (0, 3), rule, reports), positive=positive)
    assert reports[0].computed in ((0, 1, 3), (0, 1, 2, 3), (0, 2, 3), (0, 3))
    assert len(reports[0].computed) < 5 and reports[0].computed[-1] == 3, "steps 4 to 9 are reused"


def test_a_controlnet_and_a_t2i_adapter(graphs, tiny_unet, unet):
    import nodes

    plain = unet_sampler(graphs, tiny_unet, tiny_unet.conditioning(11))(unet)
    apply = nodes.ControlNetApplyAdvanced().apply_controlnet
    for net in (tiny_unet.make_controlnet(), tiny_unet.make_adapter()):
        positive, negative = apply(
            tiny_unet.conditioning(11), tiny_unet.conditioning(12), net, tiny_unet.hint(), 0.9, 0.0, 1.0
        )
        sample = unet_sampler(graphs, tiny_unet, positive, negative)
        assert not graphs.equal(sample(unet), plain)
        graphs.check_graph(unet, sample, ["output hold"], "out")


def test_a_controlnet_does_not_run_in_reused_steps(graphs, tiny_unet, unet):
    import nodes

    net = tiny_unet.make_controlnet()
    positive, negative = nodes.ControlNetApplyAdvanced().apply_controlnet(
        tiny_unet.conditioning(11), tiny_unet.conditioning(12), net, tiny_unet.hint(), 0.9, 0.0, 0.6
    )
    ran = []
    hook = net.control_model.middle_block.register_forward_hook(lambda *args: ran.append(1))
    try:
        unet_sampler(graphs, tiny_unet, positive, negative)(graphs.scheduled(unet))
    finally:
        hook.remove()
    assert 0 < len(ran) < len(graphs.COMPUTED), "computed steps within its range"


def test_block_patches_like_those_of_ip_adapters(graphs, tiny_unet, unet):
    """Both ways that such nodes add attention to image tokens: a patch of the output, and a replacement."""
    import torch

    extra = torch.randn(1, 2, tiny_unet.WIDTH, generator=torch.Generator().manual_seed(3))

    def add(out, options):
        return out + 0.3 * extra.mean()

    class Replacement:
        def __call__(self, q, k, v, options):
            from comfy.ldm.modules.attention import optimized_attention

            return optimized_attention(q, k, v, options["n_heads"]) * 0.7

    patched = unet.clone()
    patched.set_model_attn2_output_patch(add)
    patched.set_model_attn2_replace(Replacement(), "middle", 0)
    sample = unet_sampler(graphs, tiny_unet, tiny_unet.conditioning(11))
    assert not graphs.equal(sample(patched), sample(unet))
    graphs.check_graph(patched, sample, ["output hold"], "out")


def test_a_replaced_block_of_a_transformer(graphs, tiny_wan, wan):
    patched = wan.clone()
    patched.set_model_patch_replace(
        lambda args, extra: {"img": extra["original_block"](args)["img"] * 1.02}, "dit", "double_block", 1
    )
    assert not graphs.equal(tiny_wan.sample(patched, steps=3), tiny_wan.sample(wan, steps=3))
    graphs.check_graph(patched, lambda model: tiny_wan.sample(model, steps=graphs.STEPS))


def test_conds_with_loras_of_their_own(graphs, tiny_unet, unet):
    """Hooks: each cond is evaluated with weights of its own, in batches of its own."""
    import comfy.hooks
    import torch

    key = "diffusion_model.middle_block.1.proj_in.weight"
    shape = unet.model.state_dict()[key].shape
    delta = torch.randn(shape, generator=torch.Generator().manual_seed(2)) * 0.2
    group = comfy.hooks.HookGroup()
    hook = comfy.hooks.WeightHook(strength_model=1.0, strength_clip=1.0)
    hook.weights, hook.need_weight_init = {key: ("diff", (delta,))}, False
    group.add(hook)
    positive = comfy.hooks.set_hooks_for_conditioning(tiny_unet.conditioning(11), group)
    sample = unet_sampler(graphs, tiny_unet, positive)
    assert not graphs.equal(sample(unet), unet_sampler(graphs, tiny_unet, tiny_unet.conditioning(11))(unet))
    graphs.check_graph(unet, sample, ["output hold"], "out")


def filled(shape: tuple[int, ...]) -> dict:
    import torch

    return {"samples": torch.randn(shape, generator=torch.Generator().manual_seed(4))}


def test_inpainting(graphs, tiny_unet, unet, tiny_wan, wan):
    """A noise mask; with Differential Diffusion it changes from step to step."""
    import torch
    from comfy_extras.nodes_custom_sampler import CFGGuider
    from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion

    import nodes

    mask = torch.linspace(0.0, 1.0, 64).reshape(1, 8, 8)
    (latent,) = nodes.SetLatentNoiseMask().set_mask(filled(tiny_unet.LATENT_SHAPE), mask)
    sample = unet_sampler(graphs, tiny_unet, tiny_unet.conditioning(11), latent=latent)
    graphs.check_graph(unet, sample, ["output hold"], "out")
    (differential,) = DifferentialDiffusion.execute(unet, 1.0).args
    assert not graphs.equal(sample(differential), sample(unet))
    graphs.check_graph(differential, sample, ["output hold"], "out")
    (latent,) = nodes.SetLatentNoiseMask().set_mask(filled(tiny_wan.LATENT_SHAPE), torch.eye(8)[None])

    def sample_wan(model):
        (guider,) = CFGGuider.execute(model, tiny_wan.conditioning(11), tiny_wan.conditioning(12), 4.0).args
        return graphs.sample_with(guider, graphs.sigmas_of(model), latent)

    graphs.check_graph(wan, sample_wan)


def test_reference_latents_that_are_dropped_after_the_first_step(comfy, graphs, monkeypatch):
    """Flux KV Cache takes the reference tokens out of the sequence once their keys are known."""
    from dataclasses import replace

    import tiny_models
    from comfy_extras.nodes_flux import FluxKVCache

    flux = tiny_models.MODELS["flux2"]
    monkeypatch.setitem(tiny_models.MODELS, "klein", replace(flux, unet=flux.unet | {"guidance_embed": False}))
    model = tiny_models.make("klein")

    def sample(patch):
        (cached,) = FluxKVCache.execute(model).args  # its keys belong to one run
        return tiny_models.sample(patch(cached), "klein", steps=6)

    plain = sample(lambda model: model)
    assert not graphs.equal(plain, tiny_models.sample(model, "klein", steps=6))
    for rule in RULES:
        reports = []
        assert graphs.equal(sample(lambda model: graphs.scheduled(model, graphs.EVERY, rule)), plain)
        latent = sample(lambda model: graphs.scheduled(model, (0, 2), rule, reports))
        assert latent.isfinite().all() and not graphs.equal(latent, plain)
        assert reports[0].calls < reports[0].full_calls, reports[0].line()
