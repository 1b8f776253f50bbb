"""What a full run computed, call by call, kept so that a replay can recall it."""

from __future__ import annotations

from collections.abc import Hashable

import torch


class Trajectory:
    """The denoised outputs of every call of a run and, on request, the residuals of its block stack; in main memory.

    Keys name the step, and the batch within it by its place and by its conds' uuids; a replay must therefore use the
    guider that was recorded.

    Args:
        residuals_wanted: whether to keep the block stack's residuals too; they are as large as the activations.
    """

    def __init__(self, residuals_wanted: bool = False) -> None:
        self.residuals_wanted = residuals_wanted
        self._outputs: dict[Hashable, list[torch.Tensor]] = {}
        self._residuals: dict[Hashable, dict[Hashable, tuple[tuple[int, ...], torch.Tensor]]] = {}

    def put_outputs(self, key: Hashable, outputs: list[torch.Tensor]) -> None:
        """Keep the denoised latents of one batch of a call."""
        self._outputs[key] = [output.detach().to("cpu", copy=True) for output in outputs]

    def put_residual(
        self, key: Hashable, name: Hashable, latent_shape: tuple[int, ...], residual: torch.Tensor
    ) -> None:
        """Keep the block stack's residual of one chunk of a batch, computed for a latent of ``latent_shape``."""
        self._residuals.setdefault(key, {})[name] = (latent_shape, residual.detach().to("cpu", copy=True))

    def outputs(self, key: Hashable) -> list[torch.Tensor]:
        """The denoised latents recorded under ``key``.

        Raises:
            LookupError: the recorded run made no such call.
        """
        return self._find(self._outputs, key)

    def residuals(self, key: Hashable) -> dict[Hashable, tuple[tuple[int, ...], torch.Tensor]]:
        """The latent's shape and the residual of every chunk of the batch recorded under ``key``, by the chunk's name.

        Raises:
            LookupError: the recorded run kept no such residual.
        """
        return self._find(self._residuals, key)

    @staticmethod
    def _find(values: dict, key: Hashable):
        if key not in values:
            raise LookupError(
                "The recorded trajectory has nothing for a batch of this replay: replay with the same guider, sampler "
                "and sigmas that were recorded."
            )
        return values[key]
