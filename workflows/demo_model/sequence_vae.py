"""ComfyUI's WanVAE on whole clips at once, with gradients, for training.

The model class walks a clip chunk by chunk with feature caches and 3D convolutions, which is slow to train on a CPU.
Everything in it is causal, so a whole clip gives the same numbers; a temporal kernel over three frames is a 2D
convolution over three stacked frames. The weights are the model's own.
"""

from __future__ import annotations

import torch
from comfy.ldm.wan.vae import CausalConv3d, Resample, ResidualBlock, WanVAE
from torch import nn
from torch.nn import functional as F


def conv(module: CausalConv3d, x: torch.Tensor) -> torch.Tensor:
    """A causal convolution with stride 1 on [B, C, T, H, W]."""
    b, c, t, h, w = x.shape
    taps = module.weight.shape[2]
    if taps == 1:
        kernel = module.weight[:, :, 0]
        stacked = x
    elif t == 1:
        kernel = module.weight[:, :, -1]
        stacked = x
    else:
        kernel = torch.cat(module.weight.unbind(2), dim=1)
        padded = F.pad(x, (0, 0, 0, 0, taps - 1, 0))
        stacked = torch.cat([padded[:, :, k : k + t] for k in range(taps)], dim=1)
    frames = stacked.transpose(1, 2).reshape(b * t, -1, h, w)
    out = F.conv2d(frames, kernel, module.bias, padding=module.padding[1:])
    return out.reshape(b, t, -1, h, w).transpose(1, 2)


def resample(module: Resample, x: torch.Tensor) -> torch.Tensor:
    """Spatial resampling of all frames, temporal resampling of all but the first."""
    if module.mode == "upsample3d" and x.shape[2] > 1:
        first, rest = x[:, :, :1], conv(module.time_conv, x[:, :, 1:])
        b, c, t, h, w = rest.shape
        rest = rest.reshape(b, 2, c // 2, t, h, w).permute(0, 2, 3, 1, 4, 5).reshape(b, c // 2, 2 * t, h, w)
        x = torch.cat([first, rest], dim=2)
    b, c, t, h, w = x.shape
    frames = module.resample(x.transpose(1, 2).reshape(b * t, c, h, w))
    x = frames.reshape(b, t, *frames.shape[1:]).transpose(1, 2)
    if module.mode == "downsample3d" and t > 1:
        b, c, t, h, w = x.shape
        triples = torch.cat([x[:, :, 0:-2:2], x[:, :, 1:-1:2], x[:, :, 2::2]], dim=1)
        kernel = torch.cat(module.time_conv.weight.unbind(2), dim=1)
        steps = triples.shape[2]
        rest = F.conv2d(triples.transpose(1, 2).reshape(b * steps, 3 * c, h, w), kernel, module.time_conv.bias)
        x = torch.cat([x[:, :, :1], rest.reshape(b, steps, c, h, w).transpose(1, 2)], dim=2)
    return x


def run(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Any layer of the VAE on a whole clip."""
    if isinstance(module, CausalConv3d):
        return conv(module, x)
    if isinstance(module, Resample):
        return resample(module, x)
    if isinstance(module, nn.Sequential):
        for layer in module:
            x = run(layer, x)
        return x
    if isinstance(module, ResidualBlock):
        return run(module.residual, x) + run(module.shortcut, x)
    return module(x)


def encode(vae: WanVAE, clip: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log variance, each [B, z, t, h, w], of clips [B, 3, T, H, W] with T = 4 (t - 1) + 1."""
    x = clip
    for layer in (vae.encoder.conv1, vae.encoder.downsamples, vae.encoder.middle, vae.encoder.head, vae.conv1):
        x = run(layer, x)
    mean, log_variance = x.chunk(2, dim=1)
    return mean, log_variance


def decode(vae: WanVAE, latent: torch.Tensor) -> torch.Tensor:
    """Clips [B, 3, T, H, W] of latents [B, z, t, h, w]."""
    x = latent
    for layer in (vae.conv2, vae.decoder.conv1, vae.decoder.middle, vae.decoder.upsamples, vae.decoder.head):
        x = run(layer, x)
    return x
