"""The calibrations of this installation: finished error graphs in the user's directory, one file each."""

from __future__ import annotations

import difflib
import logging
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path, PurePath
from typing import BinaryIO

from filelock import FileLock, Timeout

from ..schedules import ScheduleError
from ..schedules.schedule import check_name
from ..schedules.store import free_name
from .graph import ErrorGraph, GraphError
from .job_folder import folder_name

logger = logging.getLogger("LeMiCa")

SUFFIX = ".safetensors"

_Stamp = tuple[int, int]


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
        self._read: dict[Path, tuple[_Stamp, tuple[str, ErrorGraph] | str]] = {}

    def names(self) -> list[str]:
        """The names of all readable calibrations, the newest first."""
        return [name for name, _, _ in self._all()]

    def all(self) -> list[tuple[str, ErrorGraph]]:
        """All readable calibrations with their names, the newest first."""
        return [(name, graph) for name, graph, _ in self._all()]

    def of_family(self, family: str) -> list[tuple[str, ErrorGraph]]:
        """The calibrations of one family key with their names, the newest first."""
        return [(name, graph) for name, graph, _ in self._all() if graph.family == family]

    def get(self, name: str) -> ErrorGraph:
        """The calibration of this name, the same object until its file changes; GraphError with the nearest names."""
        return self._find(name)[0]

    def file(self, name: str) -> Path:
        """The file of the calibration of this name; GraphError with the nearest names when there is none."""
        return self._find(name)[1]

    def problems(self) -> list[str]:
        """What is wrong with files in the directory, one line per file that was left out."""
        return [read for _, read in self._files() if isinstance(read, str)]

    def save(self, name: str, graph: ErrorGraph) -> Path:
        """Write a calibration under a name, in place of an earlier one of that name; returns its file."""
        try:
            check_name(name, "name")
        except ScheduleError as error:
            raise GraphError(str(error)) from None
        path = self.root / f"{folder_name(name)}{SUFFIX}"
        replace(graph, source={**graph.source, "name": name}).save(path)
        return path

    def delete(self, name: str) -> None:
        """Remove a finished calibration; GraphError when there is none. What a job measured stays in its folder."""
        self.file(name).unlink()

    def rename(self, old: str, new: str) -> None:
        """Give a calibration another name; written under the new name first, then removed under the old one.

        What a job measured comes along, so that a job of the new name can go on with it.
        """
        graph, path = self._find(old)
        self._check_free(new)
        folder, target = self.root / folder_name(old), self.root / folder_name(new)
        moves = folder.is_dir() and not target.exists()
        if moves:
            _check_idle(folder, old)
        self.save(new, graph)
        if moves:
            folder.rename(target)
        path.unlink()

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
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".import-") as folder:
            path = Path(folder) / f"imported{SUFFIX}"
            with path.open("wb") as copy:
                shutil.copyfileobj(file, copy)
            try:
                graph = ErrorGraph.load(path)
            except GraphError as error:
                raise GraphError(str(error).removeprefix(f"{path.name}: ")) from None
        name = free_name(_name_of(graph, PurePath(label).stem.strip()), {*taken, *self.names()})
        self.save(name, graph)
        return name

    def _check_free(self, name: str) -> None:
        if name in self.names():
            raise CalibrationTakenError(f"There is a calibration {name!r} already: choose another name.")

    def _find(self, name: str) -> tuple[ErrorGraph, Path]:
        known = {name: (graph, path) for name, graph, path in self._all()}
        if name in known:
            return known[name]
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4)
        advice = f"did you mean {' or '.join(near)}?" if near else "run Calibrate LeMiCa to make one."
        raise UnknownCalibrationError(f"There is no calibration {name!r}: {advice}")

    def _all(self) -> list[tuple[str, ErrorGraph, Path]]:
        found: dict[str, tuple[str, ErrorGraph, Path]] = {}
        for path, read in self._files():
            if not isinstance(read, str):
                found.setdefault(read[0], (*read, path))
        return list(found.values())

    def _files(self) -> list[tuple[Path, tuple[str, ErrorGraph] | str]]:
        """Every file of the directory with its name and graph, or what is wrong with it, the newest first."""
        if not self.root.is_dir():
            return []
        root = self.root.resolve()
        stamped: list[tuple[int, int, Path]] = []
        for path in self.root.glob(f"*{SUFFIX}"):
            try:
                if path.resolve().is_relative_to(root) and path.is_file():
                    status = path.stat()
                    stamped.append((status.st_mtime_ns, status.st_size, path))
            except (OSError, RuntimeError):  # removed meanwhile, or a link in a loop
                continue
        files = []
        for time, size, path in sorted(stamped, reverse=True):
            known = self._read.get(path)
            if known is None or known[0] != (time, size):
                known = self._read[path] = ((time, size), _load(path))
            files.append((path, known[1]))
        return files


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
    except (GraphError, OSError) as error:
        logger.warning("calibration left out: %s", error)
        return f"{path.name}: it cannot be read, {error.strerror}." if isinstance(error, OSError) else str(error)
    return _name_of(graph, path.stem), graph


def _name_of(graph: ErrorGraph, otherwise: str) -> str:
    """The name that the graph was saved under, or ``otherwise`` where it has none."""
    name = graph.source.get("name")
    try:
        check_name(name, "name")
    except ScheduleError:
        return otherwise
    return name
