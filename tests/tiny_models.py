"""Every family of transformers with residual rules, as ComfyUI's own classes at tiny width with random weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter

import comfy.model_management
import comfy.model_patcher
import comfy.nested_tensor
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.supported_models
import comfyui_version
import pytest
import torch
from tiny_images import IMAGES
from tiny_videos import OUTPUT_ALONE, VIDEOS

MODELS = IMAGES | VIDEOS | OUTPUT_ALONE


def make(name: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> comfy.model_patcher.ModelPatcher:
    """A patcher of the tiny model, built as ComfyUI's loader builds it; ``dtype`` is that of the stored weights."""
    tiny = MODELS[name]
    if not hasattr(comfy.supported_models, tiny.config):
        pytest.skip(f"ComfyUI {comfyui_version.__version__} has no {tiny.config}")
    config = getattr(comfy.supported_models, tiny.config)(tiny.unet)
    config.unet_config.update(tiny.unet)
    cast = None if dtype is torch.float32 else torch.float32
    config.set_inference_dtype(dtype, cast)
    generator = torch.Generator().manual_seed(seed)
    checkpoint = {key: weight(key, torch.Size(shape), generator) for key, shape in tiny.checkpoint.items()}
    model = config.get_model(checkpoint, "", device="cpu")
    for name, module in tiny.stand_ins.items():
        setattr(model.diffusion_model, name, module)
    weights = {}
    for key, value in model.diffusion_model.state_dict().items():
        weights[key] = weight(key, value.shape, generator).to(value.dtype) if value.is_floating_point() else value
    model.load_model_weights(weights, "")
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.CoreModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))


def weight(key: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(shape, generator=generator)
    if len(shape) < 2:
        return 0.1 * noise + (1.0 if "norm" in key else 0.0)
    return noise / math.sqrt(max(1, math.prod(shape[1:])))


def conditioning(name: str, seed: int, **extras) -> list:
    """A CONDITIONING for the tiny model."""
    tiny = MODELS[name]
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(1, *tiny.context, generator=generator), tiny.extras(generator) | extras]]


def lora(model: comfy.model_patcher.ModelPatcher, parts: Sequence[str], seed: int = 5) -> dict[str, torch.Tensor]:
    """A LoRA of rank 2 for one matrix under each of these parts of the diffusion model."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for part in parts:
        inside = dict(attrgetter(part)(model.model.diffusion_model).named_parameters()).items()
        key, value = next(((k, v) for k, v in inside if v.ndim == 2 and k.endswith("weight")), (None, None))
        if key is not None:
            key = ".".join(filter(None, ["diffusion_model", part, key.removesuffix(".weight")]))
            weights[f"{key}.lora_up.weight"] = torch.randn(value.shape[0], 2, generator=generator) * 0.2
            weights[f"{key}.lora_down.weight"] = torch.randn(2, value.shape[1], generator=generator) * 0.2
    return weights


def with_lora(
    model: comfy.model_patcher.ModelPatcher, weights: dict[str, torch.Tensor]
) -> comfy.model_patcher.ModelPatcher:
    """``model`` as the Load LoRA node leaves it."""
    return comfy.sd.load_lora_for_models(model, None, weights, 1.0, 0.0)[0]


def empty_latent(name: str, batch: int = 1) -> torch.Tensor:
    shape = MODELS[name].latent
    if isinstance(shape[0], int):
        return torch.zeros(batch, *shape[1:])
    return comfy.nested_tensor.NestedTensor([torch.zeros(batch, *s[1:]) for s in shape])


def sample(
    model: comfy.model_patcher.ModelPatcher, name: str, steps: int, seed: int = 1, batch: int = 1, **extras
) -> torch.Tensor:
    """What a guider and the Euler sampler give for an empty latent; ``extras`` are added to the conditionings.

    Several latents come back as one row of numbers.
    """
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(conditioning(name, 11, **extras), conditioning(name, 12, **extras))
    guider.set_cfg(MODELS[name].cfg)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
    latent = empty_latent(name, batch)
    result = guider.sample(
        comfy.sample.prepare_noise(latent, seed), latent, comfy.samplers.sampler_object("euler"), sigmas,
        disable_pbar=True, seed=seed,
    )
    parts = result.unbind() if getattr(result, "is_nested", False) else [result]
    return torch.cat([part.flatten() for part in parts])
