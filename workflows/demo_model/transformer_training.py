"""Trains the demo model's transformer: ComfyUI's own WanModel, rectified flow on the VAE's latents."""

from __future__ import annotations

import logging
from pathlib import Path

import comfy.ldm.wan.model
import comfy.model_management
import comfy.ops
import numpy as np
import torch
from clips import PROMPTS
from flow_training import EMPTY_SHARE, fit
from torch import nn

SIZE = {"dim": 128, "ffn_dim": 512, "num_layers": 8, "in_dim": 16, "out_dim": 16}
CONFIG = {"num_heads": 2, "text_dim": 64}
"""What ComfyUI cannot read off the weights; it goes into the file's metadata."""
PROMPT_TOKENS = 4
BATCH = 48
PEAK_RATE = 1.5e-3
SHIFT = 3.0
"""Time shift of the sigmas drawn in training."""

logger = logging.getLogger("demo_model")


def new_transformer() -> comfy.ldm.wan.model.WanModel:
    """A WanModel with fresh weights."""
    model = comfy.ldm.wan.model.WanModel(
        **SIZE, **CONFIG, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init
    )
    for name, parameter in model.named_parameters():
        if name.endswith("modulation"):
            nn.init.normal_(parameter, std=SIZE["dim"] ** -0.5)
        elif name.endswith("bias") or name.startswith("head.head"):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 1:
            nn.init.ones_(parameter)
        elif "embedding" in name and "patch" not in name:
            nn.init.normal_(parameter, std=0.02)
        else:
            nn.init.xavier_uniform_(parameter.flatten(1))
    return model


def prompt_tokens() -> torch.Tensor:
    """Fixed conditioning, [prompts + 1, tokens, width]; the last one is the empty prompt."""
    shape = (len(PROMPTS) + 1, PROMPT_TOKENS, CONFIG["text_dim"])
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def draw_sigmas(count: int) -> torch.Tensor:
    """Logit-normal times, shifted towards the noisy end as sampling is."""
    times = torch.sigmoid(torch.randn(count))
    return SHIFT * times / (1 + (SHIFT - 1) * times)


def train(folder: Path, minutes: float, seed: int) -> None:
    """Train for ``minutes`` on ``latents.pt``, to ``transformer.pt``; every few minutes the average so far is saved."""
    comfy.model_management.in_training = True
    latents = torch.load(folder / "latents.pt", weights_only=True)
    prompts, variants = latents.shape[:2]
    tokens = prompt_tokens()
    model = new_transformer().train()
    random = np.random.default_rng(seed)

    def draw_loss() -> torch.Tensor:
        chosen = random.integers(prompts, size=BATCH)
        clean = latents[chosen, random.integers(variants, size=BATCH)].float()
        named = np.where(random.random(BATCH) < EMPTY_SHARE, prompts, chosen)
        sigmas = draw_sigmas(BATCH)
        noise = torch.randn_like(clean)
        spread = sigmas.reshape(-1, 1, 1, 1, 1)
        velocity = model(clean * (1 - spread) + noise * spread, sigmas * 1000, tokens[named])
        return (velocity - (noise - clean)).square().mean()

    step = fit(model, draw_loss, PEAK_RATE, minutes, lambda average: save(average, folder), logger)
    logger.info("ends after %d steps of %d samples", step, BATCH)


def save(model: nn.Module, folder: Path) -> None:
    part = folder / "transformer.part"
    torch.save(model.state_dict(), part)
    part.replace(folder / "transformer.pt")
