"""What this installation has: the schedules that the pack ships, and the schedules and calibrations of the user."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import folder_paths

from ..calibration.store import Calibrations
from ..schedules import Library

PACKAGED = Path(__file__).parent.parent / "schedules" / "library"


def library() -> Library:
    """The packaged schedules, read-only, and the user's own under ComfyUI's user directory."""
    return _library(Path(folder_paths.get_user_directory()) / "lemica" / "schedules")


@cache
def _library(user: Path) -> Library:
    """One Library a directory: it reads a file again only when that has changed."""
    return Library(PACKAGED, user)


def calibrations() -> Calibrations:
    """The user's error graphs, under ComfyUI's user directory."""
    return _calibrations(Path(folder_paths.get_user_directory()) / "lemica" / "calibrations")


@cache
def _calibrations(root: Path) -> Calibrations:
    return Calibrations(root)
