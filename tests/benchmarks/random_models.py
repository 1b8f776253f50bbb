"""Models of ComfyUI's own classes with random weights, for timing: at real size on a GPU, smaller on a CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


@dataclass(frozen=True, slots=True)
class RandomModel:
    """How to build a model and what to sample with it.

    ``config`` is a class of comfy.supported_models, ``unet`` its settings, ``latent`` the shape of the latent, ``context``
    tokens and width of the text, ``pooled`` the width of a pooled text.
    """

    config: str
    unet: dict
    latent: tuple[int, ...]
    context: tuple[int, int]
    about: str
    pooled: int = 0
    cfg: float = 1.0
    extras: dict = field(default_factory=dict)


def wan(dim: int, layers: int, heads: int, latent: tuple[int, ...], about: str) -> RandomModel:
    unet = {
        "image_model": "wan2.1", "model_type": "t2v", "dim": dim, "ffn_dim": 6 * dim - dim // 6, "num_heads": heads,
        "num_layers": layers, "text_dim": 512, "in_dim": 16, "out_dim": 16, "freq_dim": 256,
    }
    return RandomModel("WAN21_T2V", unet, latent, (64, 512), about, cfg=5.0)


def flux(hidden: int, double: int, single: int, latent: tuple[int, ...], about: str) -> RandomModel:
    head = 128 if hidden >= 1024 else 32
    unet = {
        "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 256, "context_in_dim": 512,
        "hidden_size": hidden, "mlp_ratio": 4.0, "num_heads": hidden // head, "depth": double,
        "depth_single_blocks": single, "axes_dim": [16, 56, 56] if head == 128 else [4, 14, 14], "theta": 10000,
        "patch_size": 2, "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [],
    }
    return RandomModel("Flux", unet, latent, (256, 512), about, pooled=256, extras={"guidance": 3.5})


def qwen(layers: int, heads: int, latent: tuple[int, ...], about: str) -> RandomModel:
    head = 128 if heads >= 8 else 32
    unet = {
        "image_model": "qwen_image", "num_layers": layers, "attention_head_dim": head, "num_attention_heads": heads,
        "joint_attention_dim": 512, "axes_dims_rope": (16, 56, 56) if head == 128 else (4, 14, 14),
    }
    return RandomModel("QwenImage", unet, latent, (128, 512), about, cfg=4.0)


REAL = {
    "wan": wan(1536, 30, 12, (1, 16, 9, 60, 104), "Wan 2.1 1.3B, 832x480, 33 frames"),
    "flux": flux(3072, 19, 38, (1, 16, 128, 128), "FLUX.1 size, 1024x1024"),
    "qwen": qwen(60, 24, (1, 16, 1, 128, 128), "Qwen-Image size, 1024x1024"),
}
SMALL = {
    "wan": wan(384, 8, 6, (1, 16, 5, 16, 16), "Wan, width 384, 8 blocks, 128x128, 17 frames"),
    "flux": flux(256, 3, 6, (1, 16, 32, 32), "FLUX.1, width 256, 3 + 6 blocks, 256x256"),
    "qwen": qwen(8, 6, (1, 16, 1, 32, 32), "Qwen-Image, width 192, 8 blocks, 256x256"),
}


def build(made: RandomModel, dtype: torch.dtype) -> ModelPatcher:
    """A patcher with random weights of ``dtype``."""
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models

    config = getattr(comfy.supported_models, made.config)(made.unet)
    config.unet_config.update(made.unet)
    config.set_inference_dtype(dtype, None)
    model = config.get_model({}, "", device="cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in model.diffusion_model.parameters():
        spread = 0.02 if parameter.ndim < 2 else 1 / math.sqrt(math.prod(parameter.shape[1:]))
        noise = torch.randn(min(parameter.numel(), 1 << 20), generator=generator) * spread
        repeated = noise.repeat(-(-parameter.numel() // noise.numel()))[: parameter.numel()]
        parameter.data.copy_(repeated.reshape(parameter.shape))
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.CoreModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))


def conditioning(made: RandomModel, seed: int) -> list:
    """A CONDITIONING of random tokens."""
    generator = torch.Generator().manual_seed(seed)
    extras = dict(made.extras)
    if made.pooled:
        extras["pooled_output"] = torch.randn(1, made.pooled, generator=generator)
    return [[torch.randn(1, *made.context, generator=generator), extras]]
