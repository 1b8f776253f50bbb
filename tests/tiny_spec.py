"""How the tests describe a tiny model: its settings, its conditioning, where its tokens go in and out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

Extras = Callable[[torch.Generator], dict]


@dataclass(frozen=True)
class Tiny:
    """One tiny model and what the tests need to know of its class, written down apart from the pack's own data.

    Args:
        config: the class in comfy.supported_models.
        unet: the diffusion model's settings.
        latent: the shape of the latent, or of each where there are several.
        context: tokens and width of the text.
        block: the first one.
        tokens: the place or the name of the argument that carries the tokens into it.
        head: what is given the tokens as first argument after the last block; for several streams one each.
        extras: what a conditioning holds besides the text.
        last: the last block of a model without a head module.
        cut: from the first block's tokens those that the head is given as well.
        cfg: 1 where the class cannot take two conds at once.
        stand_ins: for embedders whose width is fixed in the class.
        checkpoint: what a checkpoint holds besides the diffusion model.
        network: the diffusion model's class, where ComfyUI 0.30.0 has none.
        method: of the first block that is called with the tokens, if not the block itself.
    """

    config: str
    unet: dict
    latent: tuple
    context: tuple[int, int]
    block: str
    tokens: int | str
    head: tuple[str, ...] = ("final_layer",)
    extras: Extras = field(default=lambda generator: {})
    last: str = ""
    cut: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = field(default=lambda tokens, head: tokens)
    cfg: float = 3.0
    stand_ins: dict[str, torch.nn.Module] = field(default_factory=dict)
    checkpoint: dict[str, tuple[int, ...]] = field(default_factory=dict)
    network: str = ""
    method: str = ""


def pooled(width: int) -> Extras:
    return lambda generator: {"pooled_output": torch.randn(1, width, generator=generator)}


def all_of(*extras: Extras) -> Extras:
    return lambda generator: {key: value for extra in extras for key, value in extra(generator).items()}


def tensors(**shapes: tuple[int, ...]) -> Extras:
    return lambda generator: {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def references(*shapes: tuple[int, ...], **more) -> Extras:
    return lambda generator: {"reference_latents": [torch.randn(s, generator=generator) for s in shapes], **more}


def full_mask(tokens: int) -> Extras:
    return lambda generator: {"attention_mask": torch.ones(1, tokens, dtype=torch.long)}


IMAGE = (1, 16, 4, 4)
VIDEO = (1, 16, 2, 4, 4)
HUNYUAN = {
    "image_model": "hunyuan_video", "in_channels": 16, "out_channels": 16, "vec_in_dim": 8, "context_in_dim": 12,
    "hidden_size": 32, "mlp_ratio": 2.0, "num_heads": 2, "depth": 2, "depth_single_blocks": 2, "axes_dim": [4, 6, 6],
    "theta": 256, "patch_size": [1, 2, 2], "qkv_bias": True, "guidance_embed": True, "byt5": False, "meanflow": False,
    "use_cond_type_embedding": False, "vision_in_dim": None, "meanflow_sum": False,
}
DOUBLE = {"block": "double_blocks.0", "tokens": "img"}
SINGLE = {"block": "blocks.0", "tokens": 0}
