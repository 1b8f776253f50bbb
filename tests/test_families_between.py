"""What happens between the blocks, batches, and entries that do not fit: families of transformers, beside the rule."""

from __future__ import annotations

import pytest

WIDTHS = {"flux": 32, "chroma": 32, "qwen_image": 32, "hunyuan_video": 32, "sd3": 128}


@pytest.mark.parametrize("name", ["flux", "lumina2", "wan21_t2v", "ltx2"])
@pytest.mark.parametrize("batched", [True, False])
def test_batches_of_latents_and_conds_keep_their_own_residuals(runs, tiny, name, batched, monkeypatch):
    """The conds of a call evaluated at once or one by one."""
    model = tiny.make(name)
    expected = runs.reference(model, name, batch=2)
    if not batched:
        monkeypatch.setattr(type(model), "get_free_memory", lambda self, device: 0)
    assert runs.close(runs.sample(runs.installed(model), name, batch=2), expected)
    measured, trajectory = runs.recorded(model)
    runs.sample(measured, name, batch=2)
    residuals = runs.residuals_of(trajectory)
    assert len(residuals) == runs.STEPS * 2
    assert {residual.shape[0] for residual in residuals} == {2}


@pytest.mark.parametrize("name", WIDTHS)
def test_what_a_controlnet_adds_between_blocks_is_part_of_the_residual(runs, tiny, name):
    """One that gives more tensors than the model has blocks, like those made for a larger model of the family."""
    import comfy.controlnet
    import torch

    class Control(comfy.controlnet.ControlBase):
        def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
            generator = torch.Generator().manual_seed(2)
            add = torch.randn(1, x_noisy[0, 0].numel() // 4, WIDTHS[name], generator=generator).to(x_noisy)
            return {"input": [add] * 5, "output": [add * 0.5] * 5}

    model = tiny.make(name)
    free, plain = runs.sample(model, name), runs.sample(model, name, control=Control())
    assert not runs.close(free, plain)
    assert torch.equal(runs.sample(runs.recorded(model)[0], name, control=Control()), plain)
    expected = runs.reference(model, name, control=Control())
    assert runs.close(runs.sample(runs.installed(model), name, control=Control()), expected)


def test_patches_between_blocks_are_skipped_with_them_and_those_of_the_embedders_are_not(runs, tiny):
    import torch

    calls = {"post_input": 0, "double_block": 0}

    def post_input(args):
        calls["post_input"] += 1
        return args | {"img": args["img"] * 1.5}

    def double_block(args):
        calls["double_block"] += 1
        return args | {"img": args["img"] + 0.5 * args["txt"].mean()}

    model = tiny.make("qwen_image").clone()
    model.set_model_post_input_patch(post_input)
    model.set_model_double_block_patch(double_block)
    assert torch.equal(runs.sample(runs.recorded(model)[0], "qwen_image"), runs.sample(model, "qwen_image"))
    expected = runs.reference(model, "qwen_image")
    calls.update(post_input=0, double_block=0)
    assert runs.close(runs.sample(runs.installed(model), "qwen_image"), expected)
    assert calls == {"post_input": runs.STEPS, "double_block": 2 * len(runs.COMPUTED)}


def test_a_replaced_block_is_part_of_the_residual(runs, tiny):
    import torch

    def replace(args, extra):
        out = extra["original_block"](args)
        return out | {"img": out["img"] * 0.5}

    model = tiny.make("flux").clone()
    for block in (("double_block", 0), ("single_block", 1)):
        model.set_model_patch_replace(replace, "dit", *block)
    assert torch.equal(runs.sample(runs.recorded(model)[0], "flux"), runs.sample(model, "flux"))
    assert runs.close(runs.sample(runs.installed(model), "flux"), runs.reference(model, "flux"))


def warning_of_a_run_on_output(runs, model, name: str, caplog) -> str:
    """The one warning of a run whose residual rule was followed on the output, from the first step on."""
    import torch

    expected = runs.sample(runs.installed(model, "output hold"), name)
    caplog.clear()
    reports = []
    assert torch.equal(runs.sample(runs.installed(model, reports=reports), name), expected)
    assert reports[0].computed == runs.COMPUTED and "rules run on the output" in reports[0].line()
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    return warning


@pytest.mark.parametrize("change, warning", [
    ({"lists": ("double_blocks", "triple_blocks")}, "no triple_blocks"),
    ({"lists": ("img_in",)}, "img_in are no plain list"),
    ({"lists": ("single_blocks", "double_blocks")}, "take no img"),
    ({"heads": ("last_layer",)}, "no last_layer"),
    ({"heads": ("guidance_in",)}, "do not pass"),
    ({"heads": ("final_layer", "img_in"), "streams": 2}, "do not pass"),
    ({"heads": ()}, "do not pass"),
    ({"tokens": "image"}, "take no image"),
    ({"tokens": "vec"}, "do not pass"),
    ({"tokens": 7}, "do not pass"),
])
def test_an_entry_that_no_longer_fits_falls_back_to_the_output_with_one_warning(
    runs, tiny, change, warning, monkeypatch, caplog
):
    from dataclasses import replace

    from lemica.cache import blocks

    monkeypatch.setattr(blocks, "FAMILIES", {"Flux": replace(blocks.FAMILIES["Flux"], **change)})
    assert warning in warning_of_a_run_on_output(runs, tiny.make("flux"), "flux", caplog)


def test_a_patch_on_refiner_and_blocks_falls_back_to_the_output_with_one_warning(runs, tiny, caplog):
    model = tiny.make("lumina2").clone()
    model.set_model_noise_refiner_patch(lambda args: args)
    assert "model patch" in warning_of_a_run_on_output(runs, model, "lumina2", caplog)


def test_a_residual_that_no_longer_fits_is_computed_anew(runs, tiny):
    """A stand-in for whatever makes the tokens of a reused step differ from those of the step before."""
    import torch

    def grow(args):
        if args["transformer_options"]["sigmas"][0] > 0.9:
            return args
        return args | {"img": torch.cat([args["img"]] * 2, dim=1), "img_ids": args["img_ids"].repeat(1, 2, 1)}

    model = tiny.make("qwen_image").clone()
    model.set_model_post_input_patch(grow)
    reports = []
    got = runs.sample(runs.installed(model, reports=reports), "qwen_image")
    assert torch.equal(got, runs.sample(model, "qwen_image"))
    assert reports[0].computed == tuple(range(runs.STEPS)) and "does not fit" in reports[0].line()


def test_nothing_stays_on_the_model(runs, tiny):
    model = tiny.make("flux")
    network = model.model.diffusion_model

    def state():
        hooks = sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in network.modules())
        return sorted(vars(network)), type(network), list(network.state_dict()), hooks

    before = state()
    runs.sample(runs.installed(model), "flux")
    runs.sample(model, "flux")
    assert state() == before
