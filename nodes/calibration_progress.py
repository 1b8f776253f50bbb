"""What is told of a calibration while it runs: the estimate, events for the page, the progress bar, previews."""

from __future__ import annotations

import logging
import math
import time
from io import BytesIO
from types import TracebackType
from typing import TYPE_CHECKING

import comfy.utils
import latent_preview
import torch
from PIL import Image
from server import PromptServer

from ..calibration.job import Cell, Cost, Progress
from ..calibration.job_folder import folder_name
from .speed import Speed, note_speed, seconds_per_step

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

logger = logging.getLogger("LeMiCa")

EVENT = "lemica.calibration"
GAP = 0.25
"""The shortest time between two events, and between two previews, in seconds."""

CELLS_GAP = 1.0
"""The shortest time between two events with cells, in seconds."""

_RUNNING: dict[tuple[str, str], tuple[dict[str, object], dict[tuple[int, int, str], tuple[int, float]]]] = {}


def running() -> list[dict[str, object]]:
    """Where every calibration of this process stands: the *running* event, or the like of it before the first one.

    Its ``cells`` are all that were told, with the mean error of each.
    """
    return [
        {**event, "cells": [[start, end, mean, rule] for (start, end, rule), (_, mean) in list(means.items())]}
        for event, means in list(_RUNNING.values())
    ]


class Broadcast:
    """Tells the log, the page and the progress bar of one calibration.

    An event has the ``node``, the ``name`` of the calibration, its ``folder`` and its ``state``. *estimate* comes before
    the start and again when the first full run was timed, with ``steps``, ``full_runs``, ``seconds`` (None at first, where
    this model has not sampled at this size before) and ``text``.
    *running* has ``stage``, ``done`` and ``total`` in steps, and ``seconds_left``. Both have ``grid``, the steps of a
    run and of its longest segment. *done* ends it, or *stopped* where it failed or was interrupted. At most once a
    second, and at its end, an event has ``cells`` besides: what was replayed since the last ones, [start, end, error,
    rule] each.

    It is a context manager, in which the calibration runs.
    """

    def __init__(self, node_id: str, name: str, model: ModelPatcher, longest: int, speed: Speed) -> None:
        self._node_id, self._name, self._longest, self._speed = node_id, name, longest, speed
        self._about = {"node": node_id, "name": name, "folder": folder_name(name)}
        self._means: dict[tuple[int, int, str], tuple[int, float]] = {}
        self._previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
        self._bar = comfy.utils.ProgressBar(1, node_id=node_id)
        self._done = 0
        self._timed = False
        self._ended = False
        self._cells: list[Cell] = []
        self._next_event = self._next_preview = self._next_cells = 0.0

    def __enter__(self) -> Broadcast:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _RUNNING.pop((self._node_id, self._name), None)
        if not self._ended:
            self._send("stopped", **self._new_cells())

    def estimate(self, cost: Cost, seconds: float | None = None) -> None:
        """What the calibration asks for, with the time that is left once it is known, or the whole as it was before."""
        known = seconds_per_step(self._speed)
        text = cost.describe(seconds, "left")
        if seconds is None and known is not None:
            seconds = cost.computed * known
            text = cost.describe(seconds)
        logger.info("LeMiCa: calibration %s: %s", self._name, text)
        self._bar.total = cost.computed
        stands = self._stands("estimate", "", 0, cost, seconds)
        self._send(
            "estimate", steps=cost.computed, full_runs=cost.computed / cost.steps, seconds=seconds, text=text,
            grid=stands["grid"],
        )

    def progress(self, progress: Progress) -> None:
        """Where it stands."""
        self._done = progress.done
        if progress.seconds_left is not None and not self._timed:
            self._timed = True
            left = progress.total - progress.done
            if left:
                note_speed(self._speed, progress.seconds_left / left)
            self.estimate(progress.cost, progress.seconds_left)
        self._bar.update_absolute(progress.done, progress.total)
        self._cells += progress.cells
        stands = self._stands("running", progress.stage, progress.done, progress.cost, progress.seconds_left)
        now = time.monotonic()
        if now >= self._next_event:
            self._next_event = now + GAP
            cells = self._new_cells() if now >= self._next_cells else {}
            self._send(**stands, **cells)

    def preview(self, step: int, denoised: torch.Tensor, latent: torch.Tensor, steps: int) -> None:
        """Show what a run that computes has come to."""
        if self._previewer is None or time.monotonic() < self._next_preview:
            return
        self._next_preview = time.monotonic() + GAP
        denoised = denoised.tensors[0] if denoised.is_nested else denoised
        image = self._previewer.decode_latent_to_preview_image("JPEG", denoised)
        self._bar.update_absolute(self._done, preview=image)

    def show(self, image: bytes) -> None:
        """Show a preview that a worker has made, as JPEG."""
        with Image.open(BytesIO(image)) as preview:
            preview.load()
            self._bar.update_absolute(self._done, preview=("JPEG", preview, latent_preview.MAX_PREVIEW_RESOLUTION))

    def end(self, cost: Cost) -> None:
        """Everything is measured and saved."""
        self._bar.update_absolute(cost.computed, cost.computed)
        self._ended = True
        self._send("done", **self._new_cells())

    def _stands(self, state: str, stage: str, done: int, cost: Cost, seconds_left: float | None) -> dict[str, object]:
        """Note where it stands for whoever asks; the values of the event."""
        stands = {
            "state": state, "stage": stage, "done": done, "total": cost.computed, "seconds_left": seconds_left,
            "grid": [cost.steps, self._longest],
        }
        _RUNNING[self._node_id, self._name] = {**self._about, **stands}, self._means
        return stands

    def _new_cells(self) -> dict[str, object]:
        """The cells since the last ones, as a value of an event; nothing where there are none."""
        cells = [[start, end, error, str(rule)] for start, end, error, rule in self._cells if math.isfinite(error)]
        for start, end, error, rule in cells:
            count, mean = self._means.get((start, end, rule), (0, 0.0))
            self._means[start, end, rule] = count + 1, mean + (error - mean) / (count + 1)
        self._cells = []
        self._next_cells = time.monotonic() + CELLS_GAP
        return {"cells": cells} if cells else {}

    def _send(self, state: str, **values: object) -> None:
        event = {**self._about, "state": state, **values}
        PromptServer.instance.send_sync(EVENT, event)
