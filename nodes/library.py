"""The schedule library of this installation: what the pack ships and what the user made."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import folder_paths

from ..schedules import Library

PACKAGED = Path(__file__).parent.parent / "schedules" / "library"


def library() -> Library:
    """The packaged schedules, read-only, and the user's own under ComfyUI's user directory."""
    return _library(Path(folder_paths.get_user_directory()) / "lemica" / "schedules")


@cache
def _library(user: Path) -> Library:
    """One Library a directory: it reads a file again only when that has changed."""
    return Library(PACKAGED, user)
