"""Reuse rules: what a reused step returns, from what earlier computed steps gave.

Pure tensor functions. With ``d = (x - denoised) / sigma``, which is dx/dsigma for eps, v and flow models alike,
one rule serves every parametrisation. The zero-order rule is the reuse of LeMiCa (arXiv 2511.00090, section 3.1);
a slope factor of 1 is the line through the last two computed steps, 0.5 the damped slope that MeanCache
(arXiv 2601.19961) argues for, since the reused value stands for the mean over its segment.
"""

from __future__ import annotations

from collections import deque

import torch


def derivative(x: torch.Tensor, denoised: torch.Tensor, sigma: float) -> torch.Tensor:
    """dx/dsigma at ``sigma``, in the shape of ``x``."""
    return (x - denoised).div_(sigma)


def denoised_from(x: torch.Tensor, d: torch.Tensor, sigma: float) -> torch.Tensor:
    """The denoised latent that belongs to the derivative ``d`` at the latent ``x``."""
    return torch.sub(x, d, alpha=sigma)


class History:
    """The values that a slot held at its last one or two computed steps, newest last."""

    __slots__ = ("_samples",)

    def __init__(self, depth: int) -> None:
        self._samples: deque[tuple[float, torch.Tensor]] = deque(maxlen=depth)

    def put(self, sigma: float, value: torch.Tensor) -> None:
        """Keep ``value`` as what was computed at ``sigma``; the oldest value beyond the depth is dropped."""
        self._samples.append((sigma, value))

    def fits(self, like: torch.Tensor) -> bool:
        """Whether there is a value in the shape and dtype of ``like``."""
        return bool(self._samples) and all(v.shape == like.shape and v.dtype == like.dtype for _, v in self._samples)

    def at(self, sigma: float, slope: float, device: torch.device) -> torch.Tensor:
        """The value predicted for ``sigma``: the newest one plus ``slope`` times the secant of the newest two.

        With one computed step so far, or two at one sigma, it is the newest value as it is.
        """
        newest_sigma, newest = self._samples[-1]
        newest = newest.to(device)
        if slope == 0.0 or len(self._samples) < 2 or self._samples[0][0] == newest_sigma:
            return newest
        before_sigma, before = self._samples[0]
        weight = 1.0 + slope * (sigma - newest_sigma) / (newest_sigma - before_sigma)
        return torch.lerp(before.to(device), newest, weight)
