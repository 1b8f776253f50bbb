"""What this installation has: the schedules that the pack ships, and the schedules and calibrations of the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock

import folder_paths
from filelock import FileLock, Timeout

from ..calibration.learning.records import Records
from ..calibration.store import Calibrations
from ..schedules import Library
from ..schedules.store import NameTakenError

PACKAGED = Path(__file__).parent.parent / "schedules" / "library"

AUTO = "auto"
LINKED = "linked"
RESERVED = (AUTO, LINKED)
"""What the inputs of the nodes offer besides names."""

WAIT_SECONDS = 30
"""How long a change waits for that of another ComfyUI."""

_CHANGING = Lock()


class ChangingError(ValueError):
    """Another ComfyUI is changing schedules or calibrations."""


@contextmanager
def changing() -> Iterator[None]:
    """Nobody else saves, renames, merges, imports or deletes meanwhile: neither in this ComfyUI nor in another one.

    Whether a name is free is asked before it is taken, so everything that takes a name does so in here.

    Raises:
        ChangingError: another ComfyUI with the same user directory does not come to an end.
    """
    root = calibrations().root.parent
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / ".lock", timeout=WAIT_SECONDS)
    with _CHANGING:
        try:
            lock.acquire()
        except Timeout:
            raise ChangingError("Another ComfyUI is changing schedules or calibrations: try again.") from None
        try:
            yield
        finally:
            lock.release()


def check_not_reserved(name: str) -> None:
    """NameTakenError for what the inputs of the nodes offer besides names: nothing of that name could be chosen."""
    if name in RESERVED:
        raise NameTakenError(f"The name {name!r} is in use, the nodes offer it as a choice of their own: give another one.")


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


def records() -> Records:
    """What was learned from the user's pictures, under ComfyUI's user directory."""
    return _records(Path(folder_paths.get_user_directory()) / "lemica" / "learned")


@cache
def _records(root: Path) -> Records:
    return Records(root)


@cache
def _calibrations(root: Path) -> Calibrations:
    return Calibrations(root)
