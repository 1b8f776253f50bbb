"""Where cached tensors live during a run."""

from __future__ import annotations

import comfy.model_management
import torch

CACHE_DEVICES = ("auto", "gpu", "cpu")

FREE_MEMORY_SHARE = 0.25
"""On auto, a tensor stays on the GPU while it takes at most this share of the memory that is free there."""


def check_cache_device(choice: str) -> None:
    """ValueError unless ``choice`` is one of CACHE_DEVICES."""
    if choice not in CACHE_DEVICES:
        raise ValueError(f"Cache device is {choice!r}: choose one of {', '.join(CACHE_DEVICES)}.")


class Placement:
    """Puts cached tensors on the device that the user chose.

    Args:
        choice: "gpu" leaves tensors where they were computed, "cpu" moves them to main memory, "auto" moves those
            that would take too much of the memory free on the device at that moment.
    """

    def __init__(self, choice: str) -> None:
        check_cache_device(choice)
        self._choice = choice

    def put(self, value: torch.Tensor) -> torch.Tensor:
        """``value`` on the device where it is to be kept."""
        if value.device.type == "cpu" or self._choice == "gpu":
            return value
        if self._choice == "cpu":
            return value.to("cpu")
        free = comfy.model_management.get_free_memory(value.device)
        return value if value.nbytes <= FREE_MEMORY_SHARE * free else value.to("cpu")
