"""Trains the demo model's transformer: ComfyUI's own WanModel, rectified flow on the VAE's latents."""

from __future__ import annotations

import copy
import itertools
import logging
import math
import time
from pathlib import Path

import comfy.ldm.wan.model
import comfy.model_management
import comfy.ops
import numpy as np
import torch
from clips import PROMPTS
from torch import nn

SIZE = {"dim": 128, "ffn_dim": 512, "num_layers": 8, "in_dim": 16, "out_dim": 16}
CONFIG = {"num_heads": 2, "text_dim": 64}
"""What ComfyUI cannot read off the weights; it goes into the file's metadata."""
PROMPT_TOKENS = 4
BATCH = 48
PEAK_RATE = 1.5e-3
EMA = 0.999
EMPTY_SHARE = 0.12
"""Share of samples trained on the empty prompt, for classifier-free guidance."""
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
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    random = np.random.default_rng(seed)
    logger.info("%.2f M parameters", sum(p.numel() for p in model.parameters()) / 1e6)
    begin, losses, saved = time.monotonic(), [], time.monotonic()
    for step in itertools.count(1):
        done = (time.monotonic() - begin) / (60 * minutes)
        if done >= 1:
            break
        factor = min(1.0, step / 100) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * factor
        chosen = random.integers(prompts, size=BATCH)
        clean = latents[chosen, random.integers(variants, size=BATCH)].float()
        named = np.where(random.random(BATCH) < EMPTY_SHARE, prompts, chosen)
        sigmas = draw_sigmas(BATCH)
        noise = torch.randn_like(clean)
        spread = sigmas.reshape(-1, 1, 1, 1, 1)
        velocity = model(clean * (1 - spread) + noise * spread, sigmas * 1000, tokens[named])
        loss = (velocity - (noise - clean)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            decay = min(EMA, step / (step + 20))
            for kept, new in zip(average.parameters(), model.parameters()):
                kept.lerp_(new, 1 - decay)
        losses.append(float(loss))
        if step % 50 == 0:
            logger.info("step %d, %.0f%%, loss %.4f", step, 100 * done, np.mean(losses[-50:]))
        if time.monotonic() - saved > 180:
            save(average, folder)
            saved = time.monotonic()
    save(average, folder)
    logger.info("ends after %d steps of %d samples", step, BATCH)


def save(model: nn.Module, folder: Path) -> None:
    part = folder / "transformer.part"
    torch.save(model.state_dict(), part)
    part.replace(folder / "transformer.pt")
