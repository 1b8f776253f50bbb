"""What is told of a calibration while it runs: the estimate, events for the page, the progress bar, previews."""

from __future__ import annotations

import logging
import time

import comfy.utils
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from server import PromptServer

from ..calibration.job import Cost, Progress, duration

logger = logging.getLogger("LeMiCa")

EVENT = "lemica.calibration"
GAP = 0.25
"""The shortest time between two events, and between two previews, in seconds."""


class Broadcast:
    """Tells the log, the page and the progress bar of one calibration.

    An event has the ``node``, the ``name`` of the calibration and its ``state``. *estimate* comes before the start and
    again when the first full run was timed, with ``steps``, ``full_runs``, ``seconds`` (None at first) and ``text``.
    *running* has ``stage``, ``done`` and ``total`` in steps, and ``seconds_left``. *done* ends it.
    """

    def __init__(self, node_id: str, name: str, model: ModelPatcher) -> None:
        self._node_id, self._name = node_id, name
        self._previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
        self._bar = comfy.utils.ProgressBar(1, node_id=node_id)
        self._done = 0
        self._timed = False
        self._next_event = self._next_preview = 0.0

    def estimate(self, cost: Cost, seconds: float | None = None) -> None:
        """What the calibration asks for, with the time once it is known."""
        text = cost.describe() if seconds is None else f"{cost.describe()}, {duration(seconds)} left"
        logger.info("LeMiCa: calibration %s: %s", self._name, text)
        self._bar.total = cost.computed
        self._send(
            "estimate", steps=cost.computed, full_runs=cost.computed / cost.steps, seconds=seconds, text=text
        )

    def progress(self, progress: Progress) -> None:
        """Where it stands."""
        self._done = progress.done
        if progress.seconds_left is not None and not self._timed:
            self._timed = True
            self.estimate(progress.cost, progress.seconds_left)
        self._bar.update_absolute(progress.done, progress.total)
        if time.monotonic() >= self._next_event:
            self._next_event = time.monotonic() + GAP
            self._send(
                "running", stage=progress.stage, done=progress.done, total=progress.total,
                seconds_left=progress.seconds_left,
            )

    def preview(self, step: int, denoised: torch.Tensor, latent: torch.Tensor, steps: int) -> None:
        """Show what a run that computes has come to."""
        if self._previewer is None or time.monotonic() < self._next_preview:
            return
        self._next_preview = time.monotonic() + GAP
        denoised = denoised.tensors[0] if denoised.is_nested else denoised
        image = self._previewer.decode_latent_to_preview_image("JPEG", denoised)
        self._bar.update_absolute(self._done, preview=image)

    def end(self, cost: Cost) -> None:
        """Everything is measured and saved."""
        self._bar.update_absolute(cost.computed, cost.computed)
        self._send("done")

    def _send(self, state: str, **values: object) -> None:
        event = {"node": self._node_id, "name": self._name, "state": state, **values}
        PromptServer.instance.send_sync(EVENT, event)
