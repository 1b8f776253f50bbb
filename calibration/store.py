"""The calibrations of this installation: finished error graphs in the user's directory, one file each."""

from __future__ import annotations

import difflib
import logging
from dataclasses import replace
from pathlib import Path

from ..schedules import ScheduleError
from ..schedules.schedule import check_name
from .graph import ErrorGraph, GraphError
from .job_folder import folder_name

logger = logging.getLogger("LeMiCa")

SUFFIX = ".safetensors"


class Calibrations:
    """Error graphs by name, in ``root``, a directory that may not exist yet.

    Files are read when asked for, and again when they have changed. A broken file is left out and logged once.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[Path, tuple[tuple[int, int], tuple[str, ErrorGraph] | None]] = {}

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
        """The calibration of this name; GraphError with the nearest names when there is none."""
        known = {name: graph for name, graph, _ in self._all()}
        if name in known:
            return known[name]
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4)
        advice = f"did you mean {' or '.join(near)}?" if near else "run Calibrate LeMiCa to make one."
        raise GraphError(f"There is no calibration {name!r}: {advice}")

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
        self.get(name)
        next(path for known, _, path in self._all() if known == name).unlink()

    def _all(self) -> list[tuple[str, ErrorGraph, Path]]:
        if not self.root.is_dir():
            return []
        root = self.root.resolve()
        stamped = []
        for path in self.root.glob(f"*{SUFFIX}"):
            if path.resolve().is_relative_to(root) and path.is_file():
                status = path.stat()
                stamped.append((status.st_mtime_ns, status.st_size, path))
        found: dict[str, tuple[str, ErrorGraph, Path]] = {}
        for time, size, path in sorted(stamped, reverse=True):
            known = self._read.get(path)
            if known is None or known[0] != (time, size):
                known = self._read[path] = ((time, size), _load(path))
            if known[1] is not None:
                found.setdefault(known[1][0], (*known[1], path))
        return list(found.values())


def _load(path: Path) -> tuple[str, ErrorGraph] | None:
    """Name and graph, or None for a file that cannot be used; this runs once per version of a file."""
    try:
        graph = ErrorGraph.load(path)
    except (GraphError, OSError) as error:
        logger.warning("calibration left out: %s", error)
        return None
    name = graph.source.get("name")
    return (name if isinstance(name, str) and name else path.stem), graph
