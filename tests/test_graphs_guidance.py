"""Guidance: every guider and guidance node of ComfyUI that asks the model for more, or makes something else of it."""

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


def slg(model, layers: str = "1", scale: float = 2.0, start: float = 0.0, end: float = 1.0):
    from comfy_extras.nodes_slg import SkipLayerGuidanceDiT

    return SkipLayerGuidanceDiT.execute(model, scale, start, end, layers, "").args[0]


def slg_simple(model):
    from comfy_extras.nodes_slg import SkipLayerGuidanceDiTSimple

    return SkipLayerGuidanceDiTSimple.execute(model, 0.0, 1.0, "1", "").args[0]


def perp_neg_node(model):
    import tiny_wan
    from comfy_extras.nodes_perpneg import PerpNeg

    return PerpNeg.execute(model, tiny_wan.conditioning(13), 0.8).args[0]


def nag(model):
    from comfy_extras.nodes_nag import NAGuidance

    return NAGuidance.execute(model, 5.0, 0.5, 1.5).args[0]


def apg(model):
    from comfy_extras.nodes_apg import APG

    return APG.execute(model, 0.5, 3.0, -0.5).args[0]


def cfg_zero_star(model):
    from comfy_extras.nodes_cfg import CFGZeroStar

    return CFGZeroStar.execute(model).args[0]


def cfg_norm(model):
    from comfy_extras.nodes_cfg import CFGNorm

    return CFGNorm.execute(model, 1.0).args[0]


def tcfg(model):
    from comfy_extras.nodes_tcfg import TCFG

    return TCFG.execute(model).args[0]


def fresca(model):
    from comfy_extras.nodes_fresca import FreSca

    return FreSca.execute(model, 1.0, 1.25, 1).args[0]


def rescale(model):
    from comfy_extras.nodes_model_advanced import RescaleCFG

    return RescaleCFG().patch(model, 0.7)[0]


def mahiro(model):
    from comfy_extras.nodes_mahiro import Mahiro

    return Mahiro.execute(model).args[0]


def renorm(model):
    from comfy_extras.nodes_lumina2 import RenormCFG

    return RenormCFG.execute(model, 100.0, 1.0).args[0]


def linear_cfg(model):
    from comfy_extras.nodes_video_model import VideoLinearCFGGuidance

    return VideoLinearCFGGuidance().patch(model, 1.0)[0]


def pag(model, scale: float = 2.0):
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    return PerturbedAttentionGuidance.execute(model, scale).args[0]


def sag(model):
    from comfy_extras.nodes_sag import SelfAttentionGuidance

    return SelfAttentionGuidance.execute(model, 0.5, 2.0).args[0]


@pytest.mark.parametrize("cfg", [1.0, 4.0])
@pytest.mark.parametrize(
    "patch",
    [slg, slg_simple, perp_neg_node, apg, cfg_zero_star, cfg_norm, tcfg, fresca, mahiro],
    ids=lambda patch: patch.__name__,
)
def test_guidance_of_a_transformer(graphs, tiny_wan, wan, patch, cfg):
    if cfg == 1.0 and patch not in (slg, slg_simple, cfg_norm):
        pytest.skip("has no use without a negative")
    graphs.check_graph(patch(wan), lambda model: tiny_wan.sample(model, steps=graphs.STEPS, cfg=cfg))


@pytest.mark.parametrize("patch", [pag, sag, nag, renorm, rescale, linear_cfg], ids=lambda patch: patch.__name__)
def test_guidance_of_a_unet(graphs, tiny_unet, unet, patch):
    graphs.check_graph(patch(unet), sampled(graphs, tiny_unet, unet), ["output hold"], "out")


def sampled(graphs, tiny_unet, unet, cfg: float = 4.0):
    import torch
    from comfy_extras.nodes_custom_sampler import CFGGuider

    def sample(model):
        (guider,) = CFGGuider.execute(model, tiny_unet.conditioning(11), tiny_unet.conditioning(12), cfg).args
        return graphs.sample_with(guider, graphs.sigmas_of(unet), {"samples": torch.zeros(tiny_unet.LATENT_SHAPE)})

    return sample


def guiders(tiny_wan, other) -> dict:
    """Every guider node of ComfyUI, by name, as a function of the model."""
    from comfy_extras import nodes_custom_sampler as nodes
    from comfy_extras.nodes_perpneg import PerpNegGuider

    one, two, three = (tiny_wan.conditioning(seed) for seed in (11, 12, 13))
    return {
        "basic": lambda model: nodes.BasicGuider.execute(model, one),
        "cfg": lambda model: nodes.CFGGuider.execute(model, one, two, 4.0),
        "dual": lambda model: nodes.DualCFGGuider.execute(model, one, two, three, 4.0, 2.0, "regular"),
        "dual nested": lambda model: nodes.DualCFGGuider.execute(model, one, two, three, 4.0, 2.0, "nested"),
        "dual model": lambda model: nodes.DualModelGuider.execute(model, one, 4.0, other, two),
        "perp-neg": lambda model: PerpNegGuider.execute(model, one, two, three, 4.0, 0.8),
        "perp-neg at 0": lambda model: PerpNegGuider.execute(model, one, two, three, 1.0, 0.0),
    }


@pytest.mark.parametrize("name", ["basic", "cfg", "dual", "dual nested", "dual model", "perp-neg", "perp-neg at 0"])
def test_every_guider(graphs, tiny_wan, wan, name):
    import torch

    other = tiny_wan.make_wan(seed=3)
    latent = {"samples": torch.zeros(tiny_wan.LATENT_SHAPE)}
    guide = guiders(tiny_wan, other)[name]

    def sample(model):
        return graphs.sample_with(guide(model).args[0], graphs.sigmas_of(wan), latent)

    graphs.check_graph(wan, sample, RULES[:1] if name == "dual model" else RULES)
    if name == "dual model":
        reports = []
        sample(graphs.scheduled(wan, rule="residual hold", reports=reports))
        assert "rules run on the output" in reports[0].line()


@pytest.mark.parametrize("rule", RULES)
def test_skipped_layers_are_not_taken_for_the_whole_model(graphs, tiny_wan, wan, rule):
    """A guidance too weak to matter must not change what is reused."""
    alone = tiny_wan.sample(graphs.scheduled(wan, rule=rule), steps=graphs.STEPS)
    beside = tiny_wan.sample(graphs.scheduled(slg(wan, scale=1e-9), rule=rule), steps=graphs.STEPS)
    assert graphs.close(beside, alone)


@pytest.mark.parametrize("rule", RULES)
def test_two_guidances_of_which_one_ends_are_not_taken_for_one_another(graphs, tiny_wan, wan, rule):
    """The weak guidance asks first, until half of the run is over; from there on the strong one does."""
    alone = tiny_wan.sample(graphs.scheduled(slg(wan, "1"), rule=rule), steps=graphs.STEPS)
    both = slg(slg(wan, "1, 2", scale=1e-9, end=0.5), "1")
    assert graphs.close(tiny_wan.sample(graphs.scheduled(both, rule=rule), steps=graphs.STEPS), alone)


@pytest.mark.parametrize("rule", RULES)
def test_guidance_that_begins_in_a_reused_step_is_computed_there(graphs, tiny_wan, wan, rule):
    reports = []
    guided = slg(wan, start=0.6)
    with graphs.rows_through(wan, "blocks.0") as rows:
        tiny_wan.sample(graphs.scheduled(guided, (0,), rule, reports), steps=graphs.STEPS)
    assert reports[0].computed[0] == 0 and len(reports[0].computed) == 2
    assert sum(rows) == 2 + 1 == reports[0].calls
    assert "nothing cached fits" in reports[0].line()
    plain = tiny_wan.sample(guided, steps=graphs.STEPS)
    assert graphs.equal(tiny_wan.sample(graphs.scheduled(guided, graphs.EVERY, rule), steps=graphs.STEPS), plain)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("first, then", [(4.0, 1.0), (1.0, 4.0)])
def test_cfg_that_changes_in_mid_run(graphs, tiny_wan, wan, rule, first, then):
    """CFG Override in the second half of the run, over a reused step: what is missing there is computed."""
    from comfy_extras.nodes_custom_sampler import CFGOverride

    (model,) = CFGOverride.execute(wan, then, 0.5, 1.0).args
    reports = []

    def sample(model):
        return tiny_wan.sample(model, steps=graphs.STEPS, cfg=first)

    assert graphs.equal(sample(graphs.scheduled(model, graphs.EVERY, rule)), sample(model))
    with graphs.rows_through(wan, "blocks.0") as rows:
        sample(graphs.scheduled(model, (0, 2), rule, reports))
    (report,) = reports
    assert report.calls == sum(rows)
    if rule == "residual hold" and then == 1.0:
        assert report.computed == (0, 2), "the positive has its own residual"
    else:
        assert report.computed[:2] == (0, 2) and len(report.computed) == 3
        assert "nothing cached fits" in report.line()


def test_cfg_that_changes_strength_only_costs_nothing(graphs, tiny_wan, wan):
    from comfy_extras.nodes_custom_sampler import CFGOverride

    (model,) = CFGOverride.execute(wan, 2.0, 0.4, 1.0).args
    graphs.check_graph(model, lambda model: tiny_wan.sample(model, steps=graphs.STEPS))


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("ours_first", [False, True])
def test_beside_easycache_and_lazycache_in_any_order_every_step_is_computed(graphs, tiny_wan, wan, lazy, ours_first):
    from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode

    def other(model):
        return (LazyCacheNode if lazy else EasyCacheNode).execute(model, 0.2, 0.15, 0.95, False).args[0]

    reports = []
    if ours_first:
        model = other(graphs.scheduled(wan, (0,), reports=reports))
    else:
        model = graphs.scheduled(other(wan), (0,), reports=reports)
    assert graphs.equal(tiny_wan.sample(model), tiny_wan.sample(other(wan)))
    assert "computing every step: EasyCache or LazyCache works on the same model" in reports[0].line()


def test_a_function_around_the_model(graphs, tiny_wan, wan):
    """What nodes set that use the one place for a model_function_wrapper."""

    def warm(apply_model, args):
        return apply_model(args["input"] * 1.01, args["timestep"], **args["c"])

    model = wan.clone()
    model.set_model_unet_function_wrapper(warm)
    graphs.check_graph(model, lambda model: tiny_wan.sample(model, steps=graphs.STEPS))


def test_a_function_that_evaluates_the_model_on_tiles(graphs, tiny_wan, wan):
    """Tiled diffusion: one cond, many evaluations of one size within a call."""
    import torch

    def tiles(apply_model, args):
        parts = args["input"].chunk(2, dim=-1)
        return torch.cat([apply_model(part, args["timestep"], **args["c"]) for part in parts], dim=-1)

    model = wan.clone()
    model.set_model_unet_function_wrapper(tiles)
    (report, *_) = graphs.check_graph(
        model, lambda model: tiny_wan.sample(model, steps=graphs.STEPS, shape=(1, 16, 2, 4, 8))
    )
    assert report.calls == 2 * 2 * len(graphs.COMPUTED)


def test_guidance_that_skips_the_first_block_has_residual_rules_run_on_the_output(graphs, tiny_wan, wan):
    reports = []
    guided = slg(wan, "0")
    got = tiny_wan.sample(graphs.scheduled(guided, rule="residual hold", reports=reports), steps=graphs.STEPS)
    assert got.isfinite().all() and reports[0].calls < reports[0].full_calls
    assert "rules run on the output: the tokens do not pass the model's blocks" in reports[0].line()


def test_each_guidance_changes_the_picture(graphs, tiny_wan, wan, tiny_unet, unet):
    """Or the tests above would be about nothing."""
    plain = tiny_wan.sample(wan, steps=2)
    for patch in (slg, slg_simple, perp_neg_node, apg, cfg_zero_star, cfg_norm, tcfg, fresca, mahiro):
        assert not graphs.equal(tiny_wan.sample(patch(wan), steps=2), plain), patch.__name__
    sample = sampled(graphs, tiny_unet, unet)
    plain = sample(unet)
    for patch in (pag, sag, nag, renorm, rescale):
        assert not graphs.equal(sample(patch(unet)), plain), patch.__name__
