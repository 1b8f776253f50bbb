"""What a sampling run reads off the device without making the host wait for it."""

from __future__ import annotations

import math
import time
from collections import deque
from statistics import median

import torch

SIGMA_TOLERANCE = 1e-4
"""Relative difference up to which two sigmas are the same: samplers nudge the first sigma, dtypes round."""


def same_sigma(a: float, b: float) -> bool:
    """Whether two sigmas name the same point of a sigma grid."""
    return math.isclose(a, b, rel_tol=SIGMA_TOLERANCE, abs_tol=1e-9)


class SigmaCheck:
    """Compares the sigma of every call with the planned one.

    On CUDA the sigma is copied to the host asynchronously and compared as soon as it has arrived, at the latest some
    calls later, so that no call waits for the device.
    """

    def __init__(self) -> None:
        self._arriving: deque[tuple[torch.cuda.Event, torch.Tensor, float]] = deque()

    def agrees(self, timestep: torch.Tensor, planned: float) -> bool:
        """Note this call's sigma; False once any sigma that has arrived differs from its planned one."""
        if timestep.device.type != "cuda":
            return same_sigma(float(timestep.flatten()[0]), planned)
        seen = torch.empty(1, dtype=timestep.dtype, pin_memory=True)
        seen.copy_(timestep.flatten()[:1], non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._arriving.append((event, seen, planned))
        while self._arriving and self._arriving[0][0].query():
            _, arrived, expected = self._arriving.popleft()
            if not same_sigma(float(arrived), expected):
                return False
        return True


class Stopwatch:
    """Marks the start of every sampler call; durations are read after the run, on CUDA from device events."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[float | torch.cuda.Event] = []

    def mark(self) -> None:
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def laps(self) -> list[float]:
        """Seconds from each mark to the next one."""
        if len(self._marks) < 2:
            return []
        if self._cuda:
            self._marks[-1].synchronize()
            return [a.elapsed_time(b) / 1000.0 for a, b in zip(self._marks, self._marks[1:])]
        return [b - a for a, b in zip(self._marks, self._marks[1:])]


def speedup(laps: list[float], computed: list[bool]) -> float | None:
    """How much faster the run was than if every call had taken as long as its median computed call.

    Args:
        laps: seconds of every sampler call.
        computed: whether that call ran the model.
    """
    costs = [lap for lap, ran in zip(laps, computed) if ran]
    total = sum(laps)
    if not costs or total <= 0.0:
        return None
    return median(costs) * len(laps) / total
