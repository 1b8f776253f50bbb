"""A reference: what is kept of a full run, enough for the errors of all its segments and for fits along any path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...cache.plan import Call
from ...cache.rules import carried
from .arrival import Response, Segments

SKETCHED = 1 << 16
"""How many elements of a latent stand for it; of a smaller one all."""


def sketch_places(elements: int, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Which elements of a flat latent stand for it: one at random out of every SKETCHED-th part, the same in every run.

    Args:
        elements: of the latent.
        mask: [elements], the denoise mask; only what is sampled freely counts.
    """
    free = torch.arange(elements) if mask is None else torch.nonzero(mask >= 1.0).flatten()
    if len(free) <= SKETCHED:
        return free
    within = torch.rand(SKETCHED, generator=torch.Generator().manual_seed(len(free)), dtype=torch.float64)
    return free[((torch.arange(SKETCHED) + within) * (len(free) / SKETCHED)).long()]


class Recorder:
    """Takes down what a run's calls carry, at the sketched elements and on the device where they are: the derivatives of its
    answers, or the answers themselves where the sampler draws noise.

    Args:
        response: of the sampler.
        mask: the denoise mask of the latent, [elements], or None.
    """

    def __init__(self, response: Response, mask: torch.Tensor | None = None) -> None:
        self._kinds, self._noise, self._mask = len(response.moves), response.noise, mask
        self._places: torch.Tensor | None = None
        self._taken: list[torch.Tensor] = []

    def answered(self, call: Call, x: torch.Tensor, answers: Sequence[torch.Tensor]) -> None:
        """The model has answered a call at the latent ``x``."""
        self._taken.append(self._derivatives(call, x, answers))

    def derivatives_of(self, call: Call, x: torch.Tensor, answers: Sequence[torch.Tensor]) -> np.ndarray:
        """The derivatives of one call, [K, S], float32."""
        return self._derivatives(call, x, answers).cpu().numpy()

    def derivatives(self) -> np.ndarray:
        """Those of all calls, [K, C, S], float32."""
        return torch.stack(self._taken, dim=1).cpu().numpy()

    def _derivatives(self, call: Call, x: torch.Tensor, answers: Sequence[torch.Tensor]) -> torch.Tensor:
        latent = self._sketch(x)
        own = [carried(latent, self._sketch(answer), call.sigma, self._noise) for answer in answers[: self._kinds]]
        return torch.stack(own)

    def _sketch(self, x: torch.Tensor) -> torch.Tensor:
        parts = [part.flatten() for part in (x.unbind() if x.is_nested else [x])]
        flat = torch.cat(parts) if len(parts) > 1 else parts[0]
        if self._places is None:
            self._places = sketch_places(len(flat), self._mask).to(flat.device)
        return flat[self._places].float()


@dataclass(frozen=True, eq=False, slots=True)
class Reference:
    """The full run of a sample: its sampler's segments, and the derivatives of its answers, [K, C, S], sketched."""

    segments: Segments
    derivatives: np.ndarray
    mask: torch.Tensor | None = None

    def recorder(self) -> Recorder:
        """Takes down other runs of the sample at the same elements."""
        return Recorder(self.segments.response, self.mask)


def gram(derivatives: np.ndarray) -> np.ndarray:
    """The mean products of the derivatives of a run's answers, [K, C, S]: [K * C, K * C], float64."""
    rows = torch.from_numpy(derivatives.reshape(-1, derivatives.shape[-1])).double()
    return (rows @ rows.T / rows.shape[1]).numpy()
