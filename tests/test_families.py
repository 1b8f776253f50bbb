"""Residual rules on every family of transformers, at tiny width, through a real guider."""

from __future__ import annotations

import pytest
from tiny_images import IMAGES
from tiny_videos import VIDEOS

NAMES = (*IMAGES, *VIDEOS)
NOT_IN_FP8 = ("z_image_pixel", "hunyuan3d_21")
"""Models that ComfyUI itself does not run with weights in fp8."""


def test_every_entry_is_tested(tiny):
    import comfy.supported_models
    from lemica.cache.families import FAMILIES

    there = [name for name in NAMES if hasattr(comfy.supported_models, tiny.MODELS[name].config)]
    classes = {type(tiny.make(name).model.diffusion_model).__name__ for name in there}
    assert classes == set(FAMILIES) - {tiny.MODELS[name].network for name in set(NAMES) - set(there)}
    assert {name for name in NAMES if not tiny.MODELS[name].network} <= set(there)


@pytest.mark.parametrize("name", NAMES)
def test_computed_steps_give_the_plain_run_bit_for_bit(runs, tiny, name):
    import torch

    model = tiny.make(name)
    plain = runs.sample(model, name)
    assert plain.isfinite().all()
    measured, trajectory = runs.recorded(model)
    assert torch.equal(runs.sample(measured, name), plain)
    assert len(runs.residuals_of(trajectory)) == runs.STEPS * (1 if tiny.MODELS[name].cfg == 1.0 else 2)
    assert torch.equal(runs.sample(runs.installed(model, computed=tuple(range(runs.STEPS))), name), plain)
    assert torch.equal(runs.sample(model, name), plain), "the plain model afterwards"


@pytest.mark.parametrize("name", NAMES)
def test_a_kept_residual_takes_the_place_of_the_blocks(runs, tiny, name):
    import torch

    model = tiny.make(name)
    expected = runs.reference(model, name)
    assert not runs.close(expected, runs.sample(model, name))
    reports, ran = [], []
    with runs.watched(model, name, lambda args, kwargs: ran.append(1)):
        got = runs.sample(runs.installed(model, reports=reports), name)
    assert runs.close(got, expected)
    assert len(ran) == len(runs.COMPUTED)
    assert not reports[0].doubts and reports[0].computed == runs.COMPUTED
    assert torch.equal(got, runs.sample(runs.installed(model), name))


@pytest.mark.parametrize("name", NAMES)
def test_patched_and_offloaded_weights_give_their_plain_run(runs, tiny, name, monkeypatch):
    """A LoRA applied before the cache and after it, with all weights loaded, half of them, and none."""
    import comfy.model_management
    import torch

    load = comfy.model_management.LoadedModel.model_load

    def with_memory(budget: float) -> None:
        monkeypatch.setattr(
            comfy.model_management.LoadedModel, "model_load",
            lambda loaded, *args, **kwargs: load(loaded, max(1, budget - loaded.model_loaded_memory())),
        )
        comfy.model_management.unload_all_models()

    model = tiny.make(name)
    lora = tiny.lora(model, [tiny.MODELS[name].block, *tiny.MODELS[name].head])
    plain = runs.sample(tiny.with_lora(model, lora), name)
    skipped = runs.sample(runs.installed(tiny.with_lora(model, lora)), name)
    assert plain.isfinite().all() and not torch.equal(runs.sample(model, name), plain)
    for share in (2.0, 0.5, 0.0):
        with_memory(share * model.model_size())
        assert torch.equal(runs.sample(tiny.with_lora(runs.recorded(model)[0], lora), name), plain)
        assert model.model.model_lowvram is (share < 1.0)
        assert torch.equal(runs.sample(tiny.with_lora(runs.installed(model), lora), name), skipped)
    assert torch.equal(runs.sample(runs.recorded(tiny.with_lora(model, lora))[0], name), plain)
    comfy.model_management.unload_all_models()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_IN_FP8])
def test_fp8_weights_give_their_plain_run(runs, tiny, name):
    import torch

    model = tiny.make(name, dtype=torch.float8_e4m3fn)
    plain = runs.sample(model, name)
    assert plain.isfinite().all()
    assert torch.equal(runs.sample(runs.recorded(model)[0], name), plain)
    assert not torch.equal(runs.sample(runs.installed(model), name), plain)


@pytest.mark.parametrize("name", NOT_IN_FP8)
def test_what_is_left_out_above_does_not_run_in_fp8_at_all(runs, tiny, name):
    import torch

    model = tiny.make(name, dtype=torch.float8_e4m3fn)
    with pytest.raises((NotImplementedError, RuntimeError)):
        runs.sample(model, name)
