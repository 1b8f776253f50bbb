"""Distances between the latents of two runs."""

from __future__ import annotations

from collections.abc import Callable

import torch

Distance = Callable[[torch.Tensor, torch.Tensor], float]
"""The error between the final latents of two runs, flat."""


def l1(a: torch.Tensor, b: torch.Tensor) -> float:
    """The mean absolute difference (eq. 4 of the paper)."""
    return (a - b).abs().mean().item()


def l2(a: torch.Tensor, b: torch.Tensor) -> float:
    """The root of the mean squared difference."""
    return (a - b).square().mean().sqrt().item()


LATENT_DISTANCES: dict[str, Distance] = {"l1": l1, "l2": l2}
