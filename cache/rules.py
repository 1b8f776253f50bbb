"""What a slot keeps of its computed steps, and the value of a reused step from it. Pure tensor functions."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import torch

from ..schedules import Rule


def carried(x: torch.Tensor, denoised: torch.Tensor, sigma: float, noise: bool) -> torch.Tensor:
    """What rules of the output carry over from a step, in the shape of ``x``.

    The derivative dx/dsigma; where the sampler draws ``noise``, the denoised latent itself, since the derivative of a step
    holds the noise of that step alone.
    """
    return denoised.clone() if noise else (x - denoised).div_(sigma)


def denoised_from(x: torch.Tensor, value: torch.Tensor, sigma: float, noise: bool) -> torch.Tensor:
    """The denoised latent at the latent ``x`` that belongs to a carried value."""
    return value.clone() if noise else torch.sub(x, value, alpha=sigma)


class Kept(NamedTuple):
    """What a slot held at a computed step."""

    step: int
    sigma: float
    value: torch.Tensor


class Reuse(NamedTuple):
    """How a reused step gets its value: the rule, and of a fitted segment its weights and the steps they belong to.

    Both begin with the newest computed step.
    """

    rule: Rule
    weights: tuple[float, ...] = ()
    steps: tuple[int, ...] = ()


class History:
    """The values that a slot held at its last computed steps, newest first."""

    __slots__ = ("_blend", "_kept")

    def __init__(self, depth: int) -> None:
        self._kept: deque[Kept] = deque(maxlen=depth)
        self._blend: torch.Tensor | None = None

    def put(self, step: int, sigma: float, value: torch.Tensor) -> None:
        """Keep ``value`` as what was computed at a step; the oldest value beyond the depth is dropped."""
        self._kept.appendleft(Kept(step, sigma, value))
        self._blend = None

    def holds(self, like: torch.Tensor) -> bool:
        """Whether there is a value in the shape and dtype of ``like``."""
        return bool(self._kept) and all(k.value.shape == like.shape and k.value.dtype == like.dtype for k in self._kept)

    def fits(self, like: torch.Tensor, reuse: Reuse) -> bool:
        """Whether there is all that ``reuse`` takes, in the shape and dtype of ``like``."""
        steps = tuple(kept.step for kept in self._kept)[: len(reuse.steps)]
        return self.holds(like) and (self._blend is not None or reuse.steps == steps)

    def at(self, sigma: float, reuse: Reuse, device: torch.device) -> torch.Tensor:
        """The value for a step at ``sigma``.

        A fitted one stays the same through its segment, so it is made once; the oldest value that went into it is let go
        of, since no later segment looks back as far.
        """
        if not reuse.weights:
            return _blended(self._kept, reuse.rule.weights(sigma, [kept.sigma for kept in self._kept]), device)
        if self._blend is None:
            self._blend = _blended(self._kept, reuse.weights, device)
            if len(self._kept) == self._kept.maxlen > 1:
                self._kept.pop()
        return self._blend


def _blended(kept: Sequence[Kept], weights: Sequence[float], device: torch.device) -> torch.Tensor:
    """The weighted sum of the newest values."""
    if weights == (1.0,):
        return kept[0].value.to(device)
    total = kept[0].value.to(device) * weights[0]
    for weight, older in zip(weights[1:], list(kept)[1 : len(weights)], strict=True):
        total.add_(older.value.to(device), alpha=weight)
    return total
