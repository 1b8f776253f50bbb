"""A Wan 2.1 of ComfyUI's own class at tiny width with random weights, and ways to sample it."""

from __future__ import annotations

import json

import comfy.ldm.wan.model
import comfy.ops
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import comfy.sd
import torch

DIM = 64
CONFIG = {"num_heads": 2, "text_dim": 16}
LATENT_SHAPE = (1, 16, 2, 4, 4)
COUNTER_KEY = "test_counter"


def make_wan(seed: int = 0, layers: int = 3):
    """A patcher as the Load Diffusion Model node makes it."""
    generator = torch.Generator().manual_seed(seed)
    model = comfy.ldm.wan.model.WanModel(
        dim=DIM, ffn_dim=2 * DIM, num_layers=layers, in_dim=16, out_dim=16, dtype=torch.float32, device="cpu",
        operations=comfy.ops.disable_weight_init, **CONFIG,
    )
    weights = {}
    for key, value in model.state_dict().items():
        noise = torch.randn(value.shape, generator=generator) * 0.15
        weights[key] = 1.0 + noise if "norm" in key and key.endswith("weight") else noise
    return comfy.sd.load_diffusion_model_state_dict(
        weights, metadata={"config": json.dumps({"transformer": CONFIG})}
    )


def conditioning(seed: int) -> list:
    """A CONDITIONING of three random tokens."""
    tokens = torch.randn(1, 3, CONFIG["text_dim"], generator=torch.Generator().manual_seed(seed))
    return [[tokens, {}]]


def sample(
    model, seed: int = 1, steps: int = 10, cfg: float = 4.0, sampler: str | comfy.samplers.Sampler = "euler",
    scheduler: str = "simple", sigmas: torch.Tensor | None = None, positive=None, negative=None,
    shape: tuple[int, ...] = LATENT_SHAPE, callback=None,
) -> torch.Tensor:
    """What the KSampler node gives for an empty latent."""
    if sigmas is None:
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)
    latent = torch.zeros(shape)
    if isinstance(sampler, str):
        sampler = comfy.samplers.sampler_object(sampler)
    return comfy.sample.sample_custom(
        model, comfy.sample.prepare_noise(latent, seed), cfg, sampler, sigmas, positive or conditioning(11),
        negative or conditioning(12), latent, callback=callback, disable_pbar=True, seed=seed,
    )


def equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a, b)


def counted(model):
    """A clone whose model evaluations are noted from outside, and the list they are noted in: conds per evaluation."""
    model = model.clone()
    batches: list[int] = []

    def count(executor, *args, **kwargs):
        batches.append(len(args[5]["uuids"]))
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, COUNTER_KEY, count)
    return model, batches
