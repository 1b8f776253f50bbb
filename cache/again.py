"""A second run from the very noise of one that has ended: what ComfyUI used up in the first is put back for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.utils
import torch

from .fingerprint import KEY
from .run import SamplingRun
from .stand_in import Generators

if TYPE_CHECKING:
    from comfy.samplers import CFGGuider

logger = logging.getLogger("LeMiCa")

Callback = Callable[[int, torch.Tensor, torch.Tensor, int], None]
"""Of every step: its number, the denoised latent, the latent, and N."""


class Again:
    """Made before the first run.

    Args:
        guider: its conds are those that ComfyUI has not processed yet.
        device: of the model.
    """

    def __init__(self, guider: CFGGuider, device: torch.device) -> None:
        self._guider, self._device = guider, device
        self._conds = {name: [dict(cond) for cond in conds] for name, conds in guider.conds.items()}
        self._generators = Generators(device)

    def sample(self, run: SamplingRun, sample: Callable[[Callback], torch.Tensor]) -> None:
        """Sample by ``run``, and let the latent go; memory that runs out ends this alone, an interruption passes through.

        The user's callback stays out of it: ComfyUI takes previews from it, and the denoised latent of custom sampling.

        Args:
            sample: with a callback, asks the guider for what it was asked for before.
        """
        transformer_options = self._guider.model_options["transformer_options"]
        bar = comfy.utils.ProgressBar(len(run.sigmas) - 1)

        def callback(step: int, denoised: torch.Tensor, x: torch.Tensor, steps: int) -> None:
            bar.update_absolute(step + 1, steps)

        after = Generators(self._device)
        self._generators.restore()
        self._guider.conds = self._conds
        transformer_options[KEY] = run
        finished = False
        try:
            sample(callback)
            finished = True
        except comfy.model_management.OOM_EXCEPTION as error:
            logger.warning("The memory does not suffice for a second run, the picture is that of the first: %s", error)
        finally:
            del transformer_options[KEY]
            after.restore()
            report = run.report(finished)
            run.close()
        if finished and run.ended is not None:
            run.ended(report)
