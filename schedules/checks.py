"""The errors of schedules, and how a wrong value is shown in one."""

from __future__ import annotations


class ScheduleError(ValueError):
    """A schedule, or a file that should hold one, is not valid."""


class GridError(ScheduleError):
    """A sigma grid cannot carry a schedule: it is too short, not finite, or not strictly decreasing."""


def shown(value: object) -> str:
    """A value as an error shows it: up to 80 characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or a number of too many digits
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
