"""Trains the demo model's VAE: single frames first, whole clips after, then the decoder alone."""

from __future__ import annotations

import itertools
import logging
import math
import time
from pathlib import Path

import numpy as np
import sequence_vae
import torch
from clips import FRAMES, PROMPTS, Clips
from comfy.latent_formats import Wan21
from comfy.ldm.wan.vae import ResidualBlock, RMS_norm, WanVAE
from torch import nn
from torch.nn import functional as F

WIDTH, LATENT_CHANNELS = 16, 16
TEMPORAL = [False, True, True]
"""Which levels halve the frames: Wan's own, the one that ComfyUI's loader builds."""
KL_WEIGHT = 5e-6
STAGES = {"frames": (1, 24, 2e-3), "clips": (FRAMES, 1, 8e-4), "decoder": (FRAMES, 1, 7e-4)}
"""Stage: frames of a clip, clips of a batch, peak learning rate."""

logger = logging.getLogger("demo_model")


def new_vae() -> WanVAE:
    """A WanVAE with fresh weights."""
    vae = WanVAE(dim=WIDTH, z_dim=LATENT_CHANNELS, temperal_downsample=TEMPORAL)
    for module in vae.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
        elif isinstance(module, RMS_norm):
            nn.init.ones_(module.gamma)
    for block in vae.modules():
        if isinstance(block, ResidualBlock):
            nn.init.zeros_(block.residual[-1].weight)
    return vae


def loss_of(vae: WanVAE, clips: torch.Tensor, train_encoder: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The training loss and the mean squared error of the reconstruction."""
    with torch.set_grad_enabled(train_encoder):
        mean, log_variance = sequence_vae.encode(vae, clips)
    if not train_encoder:
        decoded = sequence_vae.decode(vae, mean)
        kl = clips.new_zeros(())
    else:
        log_variance = log_variance.clamp(-12, 4)
        decoded = sequence_vae.decode(vae, mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean))
        kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean()
    edges = sum(F.l1_loss(decoded.diff(dim=dim), clips.diff(dim=dim)) for dim in (3, 4))
    loss = F.l1_loss(decoded, clips) + F.mse_loss(decoded, clips) + edges + KL_WEIGHT * kl
    return loss, F.mse_loss(decoded.detach().clamp(-1, 1), clips)


def train(folder: Path, stage: str, minutes: float, seed: int) -> None:
    """Run one stage for ``minutes``, from and to ``folder / vae.pt``."""
    frames, count, peak = STAGES[stage]
    path = folder / "vae.pt"
    vae = new_vae()
    if path.exists():
        vae.load_state_dict(torch.load(path, weights_only=True))
    train_encoder = stage != "decoder"
    parameters = list(vae.parameters() if train_encoder else itertools.chain(vae.decoder.parameters(), vae.conv2.parameters()))
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.98), weight_decay=1e-4, fused=True)
    batches = Clips(folder).batches(count, frames, seed)
    begin, errors, step = time.monotonic(), [], 0
    while (done := (time.monotonic() - begin) / (60 * minutes)) < 1:
        rate = peak * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, error = loss_of(vae, next(batches), train_encoder)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        errors.append(float(error))
        step += 1
        if step % 100 == 0:
            psnr = 10 * math.log10(4 / np.mean(errors[-100:]))
            logger.info("%s step %d, %.0f%%, loss %.4f, %.2f dB", stage, step, 100 * done, loss.item(), psnr)
            save(vae, path)
    save(vae, path)
    logger.info("%s ends after %d steps, %d clips of %d frames", stage, step, step * count, frames)


def align(folder: Path, minutes: float, seed: int) -> None:
    """Carry the latents of ``teacher.pt``, a VAE that halves the frames at other levels, over to ``vae.pt``.

    The encoder learns to give the teacher's latents, the decoder to read them; both begin with the teacher's weights
    where these fit, and with time convolutions that repeat or pick frames where they do not.
    """
    weights = torch.load(folder / "teacher.pt", weights_only=True)
    levels = [f"encoder.downsamples.{k}.time_conv.weight" in weights for k in (2, 5, 8)]
    teacher = WanVAE(dim=WIDTH, z_dim=LATENT_CHANNELS, temperal_downsample=levels)
    teacher.load_state_dict(weights)
    vae = new_vae()
    fresh = set(vae.load_state_dict(weights, strict=False).missing_keys)
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            if name in fresh and name.endswith("weight"):
                repeats = parameter.shape[0] // parameter.shape[1]
                parameter.zero_()[:, :, -1, 0, 0] = torch.eye(parameter.shape[1]).repeat(repeats, 1)
    peak = 1e-3
    optimizer = torch.optim.AdamW(vae.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=1e-4, fused=True)
    batches = Clips(folder).batches(1, FRAMES, seed)
    begin, errors, step = time.monotonic(), [], 0
    while (done := (time.monotonic() - begin) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        clips = next(batches)
        with torch.no_grad():
            latents = sequence_vae.encode(teacher, clips)[0]
        decoded = sequence_vae.decode(vae, latents)
        distance = F.mse_loss(sequence_vae.encode(vae, clips)[0], latents)
        edges = sum(F.l1_loss(decoded.diff(dim=dim), clips.diff(dim=dim)) for dim in (3, 4))
        loss = F.l1_loss(decoded, clips) + F.mse_loss(decoded, clips) + edges + 0.1 * distance
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        errors.append(F.mse_loss(decoded.detach().clamp(-1, 1), clips).item())
        step += 1
        if step % 100 == 0:
            psnr = 10 * math.log10(4 / np.mean(errors[-100:]))
            logger.info("align step %d, %.0f%%, latents %.4f, %.2f dB", step, 100 * done, distance.item(), psnr)
            save(vae, folder / "vae.pt")
    save(vae, folder / "vae.pt")
    logger.info("align ends after %d steps", step)


def save(vae: WanVAE, path: Path) -> None:
    torch.save(vae.state_dict(), path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


@torch.no_grad()
def encode_clips(folder: Path, variants: int, seed: int) -> None:
    """Write ``latents.pt``: normalised latents [prompts, variants, z, t, h, w]; fold the norm into ``vae.pt``."""
    vae = new_vae()
    vae.load_state_dict(torch.load(folder / "vae.pt", weights_only=True))
    clips, random = Clips(folder), np.random.default_rng(seed)
    latents = []
    for prompt in range(len(PROMPTS)):
        drawn = np.stack([clips.draw(prompt, random) for _ in range(variants)])
        latents.append(torch.cat([sequence_vae.encode(vae, part)[0] for part in torch.from_numpy(drawn).split(8)]))
        logger.info("encoded prompt %d of %d", prompt + 1, len(PROMPTS))
    values = torch.stack(latents)
    dims = (0, 1, 3, 4, 5)
    mean, spread = values.mean(dims), values.std(dims)
    fold_norm(vae, mean, spread)
    save(vae, folder / "vae.pt")
    shape = (1, 1, -1, 1, 1, 1)
    torch.save(((values - mean.reshape(shape)) / spread.reshape(shape)).half(), folder / "latents.pt")


def fold_norm(vae: WanVAE, mean: torch.Tensor, spread: torch.Tensor) -> None:
    """Shift and scale the latent channels so that ComfyUI's Wan latent format makes them mean 0 and spread 1."""
    wan = Wan21()
    wan_mean, wan_spread = wan.latents_mean.flatten(), wan.latents_std.flatten()
    scale = wan_spread / spread
    half = LATENT_CHANNELS
    vae.conv1.weight[:half] *= scale.reshape(-1, 1, 1, 1, 1)
    vae.conv1.bias[:half] = (vae.conv1.bias[:half] - mean) * scale + wan_mean
    vae.conv2.bias += torch.einsum("oithw,i->o", vae.conv2.weight, mean - wan_mean / scale)
    vae.conv2.weight /= scale.reshape(1, -1, 1, 1, 1)
