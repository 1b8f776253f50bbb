"""The calibrations of this installation: finished error graphs in the user's directory, one file each."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePath
from typing import BinaryIO

from filelock import FileLock, Timeout

from ..schedules import ScheduleError
from ..schedules.atomic import LEFT_SECONDS, remove_left
from ..schedules.folder import Folder, Stamp
from ..schedules.schedule import MAX_NAME, check_name
from ..schedules.store import free_name, taken_file, unknown
from .graph import ErrorGraph
from .job_folder import folder_name
from .segments import GraphError

logger = logging.getLogger("LeMiCa")

SUFFIX = ".safetensors"

IMPORT = ".import-"
"""How the folder of a file that is being imported begins."""


class UnknownCalibrationError(GraphError):
    """There is no calibration of this name."""


class CalibrationTakenError(GraphError):
    """There is a calibration of this name already."""


class Calibrations:
    """Error graphs by name, in ``root``, a directory that may not exist yet.

    Files are read when asked for, and again when they have changed. A broken file is left out, named by ``problems``
    and logged once.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = Folder(root, SUFFIX, _load)

    def names(self) -> list[str]:
        """The names of all readable calibrations, the newest first."""
        return [name for name, _, _ in self.contents()[0]]

    def all(self) -> list[tuple[str, ErrorGraph]]:
        """All readable calibrations with their names, the newest first."""
        return [(name, graph) for name, graph, _ in self.contents()[0]]

    def of_family(self, family: str) -> list[tuple[str, ErrorGraph]]:
        """The calibrations of one family key with their names, the newest first."""
        return [(name, graph) for name, graph, _ in self.contents()[0] if graph.family == family]

    def get(self, name: str) -> ErrorGraph:
        """The calibration of this name, the same object until its file changes; GraphError with the nearest names."""
        return self._find(name)[0]

    def file(self, name: str) -> Path:
        """The file of the calibration of this name; GraphError with the nearest names when there is none."""
        return self._find(name)[1]

    def problems(self) -> list[str]:
        """What is wrong with files in the directory, one line per file that was left out."""
        return self.contents()[1]

    def contents(self) -> tuple[list[tuple[str, ErrorGraph, Path]], list[str]]:
        """Of one look at the files: the readable calibrations with names and files, the newest first, and the problems."""
        files = self._folder.files()
        problems = [
            f"{found.path.name}: {found.problem or found.content}" for found in files
            if found.problem or isinstance(found.content, str)
        ]
        named: dict[str, tuple[str, ErrorGraph, Path]] = {}
        for found in sorted(files, key=lambda found: (found.stamp, found.path.name), reverse=True):
            if found.content is not None and not isinstance(found.content, str):
                named.setdefault(found.content[0], (*found.content, found.path))
        return list(named.values()), problems

    def stamps(self) -> list[tuple[str, Stamp]]:
        """Another list whenever one of the files is another."""
        return self._folder.stamps()

    def save(self, name: str, graph: ErrorGraph) -> Path:
        """Write a calibration under a name, in place of an earlier one of that name; returns its file.

        Raises:
            GraphError: this can be no name, or its file holds something else.
        """
        try:
            check_name(name, "name")
        except ScheduleError as error:
            raise GraphError(str(error)) from None
        self.check_file(name)
        path = self._path(name)
        self._remove_left()
        replace(graph, source={**graph.source, "name": name}).save(path)
        return path

    def check_file(self, name: str) -> None:
        """CalibrationTakenError where the file for a name is there and holds anything but the calibration of that name.

        It may be of a newer version of the pack, or broken: it is not for this one to replace.
        """
        path = self._path(name)
        if os.path.lexists(path):
            found = next((found.content for found in self._folder.files() if found.path == path), None)
            if not isinstance(found, tuple) or found[0] != name:
                raise CalibrationTakenError(taken_file("calibration", name, path))

    def delete(self, name: str) -> None:
        """Remove a finished calibration; GraphError when there is none. What a job measured stays in its folder."""
        self.file(name).unlink(missing_ok=True)

    def rename(self, old: str, new: str) -> None:
        """Give a calibration another name; written under the new name first, then removed under the old one.

        What a job measured comes along, so that a job of the new name can go on with it.
        """
        graph, path = self._find(old)
        self._check_free(new)
        folder, target = self.root / folder_name(old), self.root / folder_name(new)
        moves = folder.is_dir() and not folder.is_symlink() and not os.path.lexists(target)
        if moves:
            _check_idle(folder, old)
        self.save(new, graph)
        if moves:
            folder.rename(target)
        path.unlink(missing_ok=True)

    def merge(self, first: str, second: str, name: str) -> None:
        """Save two calibrations as one more; GraphError where they do not go together."""
        graph = self.get(first).merge(self.get(second))
        self._check_free(name)
        self.save(name, graph)

    def import_file(self, file: BinaryIO, label: str, taken: Collection[str] = ()) -> str:
        """Save the error graph that an open file holds; returns its name.

        That is the name it was saved under, or else the one of ``label``, its file's name; where that is taken, a free
        one. ``taken``: names that are not to be used besides those of the calibrations. Raises GraphError, OSError.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.root, prefix=IMPORT) as folder:
            path = Path(folder) / f"imported{SUFFIX}"
            with path.open("wb") as copy:
                shutil.copyfileobj(file, copy)
            try:
                graph = ErrorGraph.load(path)
            except GraphError as error:
                raise GraphError(str(error).removeprefix(f"{path.name}: ")) from None
        name = free_name(_name_of(graph, PurePath(label).stem), {*taken, *self.names()}, self.check_file)
        self.save(name, replace(graph, source={**graph.source, "imported": True}))
        return name

    def _remove_left(self) -> None:
        """Remove what processes that were killed left: files that were being written, and imports."""
        remove_left(self.root)
        for folder in self.root.glob(f"{IMPORT}*"):
            with suppress(OSError):
                if time.time() - folder.lstat().st_mtime >= LEFT_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.root / f"{folder_name(name)}{SUFFIX}"

    def _check_free(self, name: str) -> None:
        if name in self.names():
            raise CalibrationTakenError(f"There is a calibration {name!r} already: choose another name.")
        self.check_file(name)

    def _find(self, name: str) -> tuple[ErrorGraph, Path]:
        known = {name: (graph, path) for name, graph, path in self.contents()[0]}
        if name in known:
            return known[name]
        raise UnknownCalibrationError(unknown("calibration", name, known, "run Calibrate LeMiCa to make one."))


def _check_idle(folder: Path, name: str) -> None:
    """CalibrationTakenError while a job measures into the folder."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            return
    except Timeout:
        raise CalibrationTakenError(f"{name!r} is being measured by a run: rename it when that is done.") from None


def _load(path: Path) -> tuple[str, ErrorGraph] | str:
    """Name and graph, or what is wrong with a file that cannot be used; this runs once per version of a file."""
    try:
        graph = ErrorGraph.load(path)
    except ValueError as error:
        logger.warning("calibration left out: %s", error)
        return str(error).removeprefix(f"{path.name}: ")
    return _name_of(graph, path.stem), graph


def _name_of(graph: ErrorGraph, stem: str) -> str:
    """The name that the graph was saved under, or else the one of its file, as far as that can be a name."""
    name = graph.source.get("name")
    try:
        check_name(name, "name")
    except ScheduleError:
        printable = "".join(letter if letter.isprintable() else "_" for letter in stem)
        return printable.strip()[:MAX_NAME].strip() or "calibration"
    return name
