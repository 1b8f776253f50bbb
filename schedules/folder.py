"""The files of one kind in a directory, each read once a version, and no link followed out of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

LINK = "it is a link out of the directory: copy the file here instead."

Stamp = tuple[int, int, int]
"""Tells one version of a file from the next. Time and size may stay the same; a file that replaces another has a number
of its own."""


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A file that was read, or else what is wrong with it."""

    path: Path
    stamp: Stamp
    content: T | None = None
    problem: str = ""


class Folder(Generic[T]):
    """The files of a directory, which may not exist yet.

    Args:
        path: the directory.
        suffix: of its files.
        read: reads one; raises OSError where it cannot. What else is wrong with a file is for it to return.
    """

    def __init__(self, path: Path, suffix: str, read: Callable[[Path], T]) -> None:
        self.path = path
        self._suffix = suffix
        self._read = read
        self._root = os.fspath(path)
        self._known: dict[str, Found[T]] = {}

    def files(self) -> list[Found[T]]:
        """Every file by name; files that are removed meanwhile are left out, and forgotten."""
        found: dict[str, Found[T]] = {}
        try:
            entries = self._entries()
        except OSError as error:
            self._known = {}
            return [Found(self.path, (0, 0, 0), problem=f"the folder cannot be read, {error.strerror}.")]
        for entry in entries:
            try:
                if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(self.path.resolve()):
                    found[entry.name] = _amiss(entry, LINK)
                    continue
                status = entry.stat()
                stamp = status.st_mtime_ns, status.st_size, status.st_ino
                known = self._known.get(entry.name)
                if known is None or known.problem or known.stamp != stamp:
                    path = Path(entry.path)
                    known = Found(path, stamp, self._read(path))
                found[entry.name] = known
            except FileNotFoundError as error:
                if entry.is_symlink():
                    found[entry.name] = _amiss(entry, f"it cannot be read, {error.strerror}.")
            except (OSError, RuntimeError) as error:  # a loop of links is either, by the version of Python
                reason = getattr(error, "strerror", None) or "a loop of links"
                found[entry.name] = _amiss(entry, f"it cannot be read, {reason}.")
        self._known = found
        return list(found.values())

    def stamps(self) -> list[tuple[str, Stamp]]:
        """The name and the version of every file that can be read."""
        return [(found.path.name, found.stamp) for found in self.files() if not found.problem]

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._root) as entries:
                return sorted((entry for entry in entries if entry.name.endswith(self._suffix)), key=lambda e: e.name)
        except (FileNotFoundError, NotADirectoryError):
            return []


def _amiss(entry: os.DirEntry[str], problem: str) -> Found[T]:
    return Found(Path(entry.path), (0, 0, 0), problem=problem)
