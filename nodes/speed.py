"""How fast models sample in this process, so that what is asked of one can be told in minutes before it runs."""

from __future__ import annotations

from typing import NamedTuple


class Speed(NamedTuple):
    """What the time of a step goes by: the family of a model, and the shape of its latent."""

    family: str
    latent: tuple[int, ...]


_SECONDS: dict[Speed, float] = {}


def note_speed(speed: Speed, seconds: float) -> None:
    """A computed step took so many seconds."""
    _SECONDS.pop(speed, None)
    _SECONDS[speed] = seconds


def seconds_per_step(speed: Speed) -> float | None:
    """What a computed step took in the last run of this model at this size, None before the first."""
    return _SECONDS.get(speed)


def last_speed(family: str) -> tuple[Speed, float] | None:
    """The last run of a family, at whatever size, and the seconds of its steps."""
    return next(((speed, seconds) for speed, seconds in reversed(_SECONDS.items()) if speed.family == family), None)
