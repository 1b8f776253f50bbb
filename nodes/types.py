"""The values that the calibration nodes hand on, and their types in ComfyUI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image

from ..calibration import ErrorGraph
from ..calibration.outcome import Outcome

ErrorGraphType = io.Custom("LEMICA_ERROR_GRAPH")
"""A Calibrated."""

ScheduleType = io.Custom("LEMICA_SCHEDULE")
"""A Schedule."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """An error graph, the name of its calibration, and what was measured of whole paths, by budget and in which metric."""

    name: str
    graph: ErrorGraph
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    metric: str = ""


def as_image(picture: Image.Image) -> torch.Tensor:
    """An RGB picture as ComfyUI's IMAGE, [1, height, width, 3]."""
    return torch.from_numpy(np.array(picture)).float()[None] / 255
