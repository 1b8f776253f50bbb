"""The schedule library of this installation: what the pack ships and what the user made."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ..schedules import Library

PACKAGED = Path(__file__).parent.parent / "schedules" / "library"


def library() -> Library:
    """The packaged schedules, read-only, and the user's own under ComfyUI's user directory."""
    return Library(PACKAGED, Path(folder_paths.get_user_directory()) / "lemica" / "schedules")
