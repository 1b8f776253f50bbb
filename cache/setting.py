"""What a sampling run is asked for, as it is known before its first call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from comfy.samplers import CFGGuider, Sampler


@dataclass(frozen=True, eq=False, slots=True)
class RunSetting:
    """The sigmas of a run, and who samples what by them.

    Args:
        sigmas: [N + 1].
        options: the transformer options.
        sampler: any sampler of ComfyUI.
        guider: with its conds; of a model that is loaded already.
        latent: the shape of the noise; of latents that are packed into one, that of the pack.
        mask: the denoise mask in the shape of the noise, 1 where it is sampled freely; None without one.
        seed: of the sampler's noise.
    """

    sigmas: tuple[float, ...]
    options: dict
    sampler: Sampler
    guider: CFGGuider
    latent: tuple[int, ...]
    mask: torch.Tensor | None
    seed: int | None
