"""A reference: what is kept of a full run, enough for the errors of all its segments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...cache.plan import Call
from .response import Response

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
    """Takes down the derivatives of a run's answers, on the device where they are, at the sketched elements.

    Args:
        mask: the denoise mask of the latent, [elements], or None.
    """

    def __init__(self, mask: torch.Tensor | None = None) -> None:
        self._mask = mask
        self._places: torch.Tensor | None = None
        self._derivatives: list[list[torch.Tensor]] = []

    def sketch(self, x: torch.Tensor) -> torch.Tensor:
        """The sketched elements of a latent, float32, on its device."""
        parts = x.unbind() if x.is_nested else [x]
        flat = torch.cat([part.flatten() for part in parts]) if len(parts) > 1 else parts[0].flatten()
        if self._places is None or self._places.device != flat.device:
            self._places = sketch_places(len(flat), self._mask).to(flat.device)
        return flat[self._places].float()

    def answered(self, call: Call, x: torch.Tensor, answers: list[torch.Tensor]) -> None:
        """The model has answered a call at the latent ``x``: one answer a kind."""
        sketched = self.sketch(x)
        self._derivatives.append([(sketched - self.sketch(answer)) / call.sigma for answer in answers])

    def derivatives(self) -> np.ndarray:
        """[kinds, C, S], float32."""
        return torch.stack([torch.stack(kinds) for kinds in self._derivatives], dim=1).cpu().numpy()


def gram_of(derivatives: np.ndarray) -> np.ndarray:
    """The mean products of the derivatives, [kinds * C, kinds * C], float64, from [kinds, C, S]."""
    rows = torch.from_numpy(derivatives.reshape(-1, derivatives.shape[-1])).double()
    return (rows @ rows.T / rows.shape[1]).numpy()
