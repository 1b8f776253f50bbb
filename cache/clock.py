"""What a sampling run reads off the device without making the host wait for it."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from .plan import Call

SIGMA_TOLERANCE = 1e-4
"""Relative difference up to which two sigmas are the same: samplers nudge the first sigma, dtypes round."""


def same_sigma(a: float, b: float) -> bool:
    """Whether two sigmas name the same point of a sigma grid."""
    return math.isclose(a, b, rel_tol=SIGMA_TOLERANCE, abs_tol=1e-9)


class Reading(Protocol):
    """A number on its way from a device."""

    def arrived(self) -> bool:
        """Whether ``value`` would give it at once."""

    def value(self) -> float:
        """The number; the host waits for it."""


class Arrived:
    """The first number of a tensor, read at once."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._value = float(tensor.flatten()[0])

    def arrived(self) -> bool:
        """Always."""
        return True

    def value(self) -> float:
        """The number."""
        return self._value


class CudaReading:
    """The first number of a tensor on a CUDA device, copied without making the host wait."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._copy = torch.empty(1, dtype=tensor.dtype, pin_memory=True)
        self._copy.copy_(tensor.flatten()[:1], non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record()

    def arrived(self) -> bool:
        """Whether the device has come as far as the copy."""
        return self._event.query()

    def value(self) -> float:
        """The number, once the device has come as far as the copy."""
        self._event.synchronize()
        return float(self._copy)


Read = Callable[[torch.Tensor], Reading]


def read(tensor: torch.Tensor) -> Reading:
    """Begins to read the first number of ``tensor``."""
    return CudaReading(tensor) if tensor.device.type == "cuda" else Arrived(tensor)


class SigmaCheck:
    """Compares the sigma of every call with the planned one, at the latest when the next step begins.

    A step that begins waits for the sigmas of the steps before it. After a computed step that makes no device idle: its
    sigma is there as soon as the device begins with it. After a reused step the host may wait for the computed step
    before, and the device then for the little that the host does in a reused step: tenths of a millisecond.

    Args:
        read: begins to read a sigma.
    """

    def __init__(self, read: Read = read) -> None:
        self._read = read
        self._awaited: deque[tuple[int, Call, Reading]] = deque()
        self._calls = 0

    def wrong(self, timestep: torch.Tensor, planned: Call) -> int | None:
        """Note the sigma of the next call; the number of the first call that is now known to be off its plan."""
        self._awaited.append((self._calls, planned, self._read(timestep)))
        self._calls += 1
        return self._first_wrong(lambda call, reading: call.step < planned.step or reading.arrived())

    def rest(self) -> int | None:
        """As ``wrong`` once all sigmas have arrived, for which the host waits."""
        return self._first_wrong(lambda call, reading: True)

    def _first_wrong(self, due: Callable[[Call, Reading], bool]) -> int | None:
        while self._awaited and due(*self._awaited[0][1:]):
            number, call, reading = self._awaited.popleft()
            if not same_sigma(reading.value(), call.sigma):
                return number
        return None


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
