"""What a full run computed, call by call, kept so that a replay can recall it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import torch


class Batch(NamedTuple):
    """Which batch of conds: the step and stage of its call, and its place in that."""

    step: int
    stage: int
    place: int


class Trajectory:
    """The denoised outputs of the calls of a run and, on request, the residuals of its block stack; in main memory.

    A replay must use the guider that was recorded, so that it asks for the same batches.

    Args:
        residuals_wanted: whether to keep the block stack's residuals too; they are as large as the activations.
    """

    def __init__(self, residuals_wanted: bool = False) -> None:
        self.residuals_wanted = residuals_wanted
        self.batches: dict[Batch, list[torch.Tensor]] = {}
        self._residuals: dict[Batch, dict[Hashable, tuple[tuple[int, ...], torch.Tensor]]] = {}

    def put_outputs(self, key: Batch, outputs: list[torch.Tensor]) -> None:
        """Keep the denoised latents of one batch of a call."""
        self.batches[key] = [output.detach().to("cpu", copy=True) for output in outputs]

    def put_residual(
        self, key: Batch, name: Hashable, latent_shape: tuple[int, ...], residual: torch.Tensor
    ) -> None:
        """Keep the block stack's residual of one chunk of a batch, computed for a latent of ``latent_shape``."""
        self._residuals.setdefault(key, {})[name] = (latent_shape, residual.detach().to("cpu", copy=True))

    def outputs(self, key: Batch) -> list[torch.Tensor]:
        """The denoised latents recorded under ``key``.

        Raises:
            LookupError: the recorded run made no such call.
        """
        return self._find(self.batches, key)

    def residuals(self, key: Batch) -> dict[Hashable, tuple[tuple[int, ...], torch.Tensor]]:
        """The latent's shape and the residual of every chunk of the batch recorded under ``key``, by the chunk's name.

        Raises:
            LookupError: the recorded run kept no such residual.
        """
        return self._find(self._residuals, key)

    @property
    def steps(self) -> set[int]:
        """The steps of which there is anything."""
        return {batch.step for batch in self.batches}

    @staticmethod
    def _find(values: dict, key: Batch):
        if key not in values:
            raise LookupError(
                f"The recorded trajectory has nothing for batch {key.place} of step {key.step}: replay with the same "
                "guider, sampler and sigmas that were recorded."
            )
        return values[key]
