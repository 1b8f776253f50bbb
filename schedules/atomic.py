"""Writes a file so that a reader sees the old content or the new one, never a half."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

PREFIX, SUFFIX = ".lemica-", ".tmp"
"""Of the names of files that are being written."""

LEFT_SECONDS = 3600
"""A temporary file of this age is no longer being written."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary file beside ``path``, flush it to the disk, then rename; an OSError leaves ``path`` as it was."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=PREFIX, suffix=SUFFIX)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def write_changed(path: Path, content: bytes) -> None:
    """As ``write_atomically``, but a file that holds this already stays the file that it is."""
    try:
        same = not path.is_symlink() and path.stat().st_size == len(content) and path.read_bytes() == content
    except FileNotFoundError:
        same = False
    if not same:
        write_atomically(path, content)


def remove_left(folder: Path, seconds: float = LEFT_SECONDS) -> None:
    """Remove the temporary files of processes that were killed while they wrote: those of at least this age."""
    for path in folder.glob(f"{PREFIX}*{SUFFIX}"):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime >= seconds:
                path.unlink()
