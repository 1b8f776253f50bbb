"""Guidance that asks the model for one cond again: told apart by whatever differs, computed where nothing does."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

RULES = ("output hold", "residual hold")
STG = {"stg_self_attn_blocks": frozenset({1})}
MODALITY = {"a2v_cross_attn": False, "v2a_cross_attn": False}


@pytest.fixture(scope="module")
def wan(tiny_wan: ModuleType):
    """A model whose second block heeds the flags that newer models of ComfyUI do."""

    def heeding(args, extra):
        image, options = extra["original_block"](args)["img"], args["transformer_options"]
        if 1 in options.get("stg_self_attn_blocks", ()):
            image = image * 0.9
        return {"img": image if options.get("a2v_cross_attn", True) else image * 1.2}

    model = tiny_wan.make_wan()
    model.set_model_patch_replace(heeding, "dit", "double_block", 1)
    return model


def again(model, ask: Callable, scale: float = 2.0, until: float = 0.0):
    """``model`` guided away from what ``ask(args, calc_cond_batch)`` gets, down to the sigma ``until``."""
    import comfy.samplers

    def guided(args):
        if args["sigma"][0].item() < until:
            return args["denoised"]
        return args["denoised"] + (args["cond_denoised"] - ask(args, comfy.samplers.calc_cond_batch)) * scale

    model = model.clone()
    model.set_model_sampler_post_cfg_function(guided)
    return model


def with_flags(flags: dict, x_scale: float = 1.0) -> Callable:
    """Asks as LTXVSpatioTemporalGuidance and LTXVModalityGuidance do."""

    def ask(args, calc_cond_batch):
        options = args["model_options"].copy()
        options["transformer_options"] = {**options["transformer_options"], **flags}
        return calc_cond_batch(args["model"], [args["cond"]], args["input"] * x_scale, args["sigma"], options)[0]

    return ask


def cut_short(args, calc_cond_batch):
    """Asks as LTXVReferenceAudio does, under the options of the main pass with a cond that lacks something."""
    import comfy.conds

    conds = []
    for cond in args["cond"]:
        tokens = cond["model_conds"]["c_crossattn"].cond
        conds.append({**cond, "model_conds": {"c_crossattn": comfy.conds.CONDRegular(tokens[:, :2])}})
    return calc_cond_batch(args["model"], [conds], args["input"], args["sigma"], args["model_options"])[0]


def of_another(other) -> Callable:
    """Asks another model for the same cond, as autoguidance does."""

    def ask(args, calc_cond_batch):
        other.pre_run()
        return calc_cond_batch(other.model, [args["cond"]], args["input"], args["sigma"], args["model_options"])[0]

    return ask


def twice(args, calc_cond_batch):
    """Asks for one cond at two latents: nothing but their values tells the two apart."""
    small, large = (with_flags({}, x_scale)(args, calc_cond_batch) for x_scale in (0.5, 2.0))
    return (2 * small + large) / 3


@pytest.mark.parametrize("cfg", [1.0, 4.0])
@pytest.mark.parametrize("flags", [STG, MODALITY], ids=["stg", "modality"])
def test_a_pass_with_other_flags_is_given_its_own_output(graphs, tiny_wan, wan, flags, cfg):
    def sample(model):
        return tiny_wan.sample(model, steps=graphs.STEPS, cfg=cfg)

    guided = again(wan, with_flags(flags))
    assert not graphs.close(sample(guided), sample(again(wan, with_flags({}))))
    graphs.check_graph(guided, sample)


def test_flags_that_a_model_of_comfyui_heeds(comfy, graphs):
    import tiny_models

    model = tiny_models.make("ltx2")

    def sample(model):
        return tiny_models.sample(model, "ltx2", steps=graphs.STEPS)

    guided = again(model, with_flags(MODALITY))
    assert not graphs.close(sample(guided), sample(model))
    graphs.check_graph(guided, sample, ["output hold"], "transformer_blocks.1")


@pytest.mark.parametrize("first, rule", [
    ("flags", "output hold"), ("flags", "residual hold"), ("cond", "output hold"), ("cond", "residual hold"),
    ("model", "output hold"),
])
def test_a_pass_that_ends_leaves_the_others_what_is_theirs(graphs, tiny_wan, wan, first, rule):
    """The weak guidance asks first until half of the run is over; from there on the strong one is the first to ask."""
    import comfy.model_management

    other = tiny_wan.make_wan(seed=3)
    comfy.model_management.load_models_gpu([other])
    ask = {"flags": with_flags(STG), "cond": cut_short, "model": of_another(other)}[first]

    def sample(model, reports=None):
        return tiny_wan.sample(graphs.scheduled(model, rule=rule, reports=reports), steps=graphs.STEPS)

    until = graphs.sigmas_of(wan)[4].item()
    strong = with_flags(MODALITY)
    reports = []
    both = sample(again(again(wan, ask, 1e-9, until), strong), reports)
    alone = sample(again(wan, strong))
    assert graphs.close(both, alone) and not graphs.close(both, sample(again(wan, ask)))
    assert reports[0].computed == graphs.COMPUTED and not reports[0].doubts, reports[0].line()


@pytest.mark.parametrize("rule", RULES)
def test_two_passes_that_nothing_tells_apart_are_computed(graphs, tiny_wan, wan, rule):
    def sample(model):
        return tiny_wan.sample(model, steps=graphs.STEPS)

    guided, reports = again(wan, twice), []
    plain = sample(guided)
    assert graphs.equal(sample(graphs.scheduled(guided, graphs.EVERY, rule)), plain)
    with graphs.rows_through(wan) as rows:
        got = sample(graphs.scheduled(guided, rule=rule, reports=reports))
    assert sum(rows) == 2 * len(graphs.COMPUTED) + 2 * graphs.STEPS
    assert reports[0].line().count("nothing to tell the two apart") == 1, reports[0].line()
    assert "nothing cached" not in reports[0].line() and not graphs.close(got, plain)
    if rule == "output hold":
        assert graphs.close(got, sample(graphs.reusing_outputs(guided, reused=(0,))))


@pytest.mark.parametrize("rule", RULES)
def test_a_second_pass_that_begins_in_mid_run_is_computed_from_then_on(graphs, tiny_wan, wan, rule):
    """Until then one pass had the name alone; what it left must not go to whichever asks first."""
    begin, reports = graphs.sigmas_of(wan)[3].item(), []

    def late(args, calc_cond_batch):
        if args["sigma"][0].item() > begin + 1e-6:
            return with_flags({})(args, calc_cond_batch)
        return twice(args, calc_cond_batch)

    def sample(model):
        return tiny_wan.sample(model, steps=graphs.STEPS)

    with graphs.rows_through(wan) as rows:
        sample(graphs.scheduled(again(wan, late), rule=rule, reports=reports))
    before, after = 3 * 2, 2 * (graphs.STEPS - 3)
    assert sum(rows) == before + 2 * 2 + after, "steps 0 and 1, then 3 and 6 for the main pass, and every second pass"
    assert "nothing to tell the two apart" in reports[0].line()


@pytest.mark.parametrize("rule", RULES)
def test_evaluations_of_one_batch_go_by_their_flags(graphs, tiny_wan, wan, rule):
    """A function around the model that evaluates it with a flag too, first of all, until half of the run is over."""
    until = graphs.sigmas_of(wan)[4].item()

    def around(weight):
        def evaluate(apply_model, args):
            def run(**flags):
                c = {**args["c"], "transformer_options": {**args["c"]["transformer_options"], **flags}}
                return apply_model(args["input"], args["timestep"], **c)

            flagged = run(**STG) if weight and args["timestep"][0].item() >= until else 0.0
            return run(**MODALITY) + weight * flagged

        model = wan.clone()
        model.set_model_unet_function_wrapper(evaluate)
        return tiny_wan.sample(graphs.scheduled(model, rule=rule), steps=graphs.STEPS)

    assert graphs.close(around(1e-9), around(0.0))
