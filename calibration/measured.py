"""What was measured of whole paths of a calibration, beside what its error graph predicts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path as File

from ..schedules import Schedule, ScheduleError, same_grid
from ..schedules.store import load_json
from .graph import ErrorGraph
from .job_folder import folder_name
from .outcome import Outcome, Route
from .path import Path


@dataclass(frozen=True, slots=True)
class Figures:
    """The mean and the worst error of a whole run over the samples; ``other`` names the schedule of another path."""

    mean: float
    worst: float
    other: str = ""


def figures_of(path: Path, name: str, graph: ErrorGraph, schedules: Iterable[Schedule], root: File) -> Figures | None:
    """What was measured of a path, or else of the best one of its budget; None where nothing was.

    Args:
        path: through the graph.
        name: of the calibration.
        graph: its error graph.
        schedules: those of the user, among them the ones that the calibration saved.
        root: the directory of calibrations, where jobs keep what they measured.
    """
    measured = [one for one in schedules if one.budget == path.budget and _measured_by(one, name, graph)]
    own = next((one for one in measured if _same(path, one)), None)
    if own is not None:
        return Figures(**_told(own))
    others = [Figures(**_told(one), other=one.name) for one in measured]
    return _of_job(path, name, graph, root) or min(others, key=lambda one: one.worst, default=None)


def _measured_by(schedule: Schedule, name: str, graph: ErrorGraph) -> bool:
    made = schedule.origin == "calibrated" and schedule.source.get("calibration") == name and _told(schedule)
    return bool(made) and schedule.sigmas is not None and same_grid(schedule.sigmas, graph.sigmas)


def _told(schedule: Schedule) -> dict[str, float]:
    """The figures in a schedule's provenance, none where they are not as the pack writes them."""
    figures = schedule.source.get("measured")
    told = {key: figures.get(key) for key in ("mean", "worst")} if isinstance(figures, dict) else {}
    return told if all(isinstance(value, float) for value in told.values()) else {}


def _same(path: Path, schedule: Schedule) -> bool:
    """Whether steps and rules are the same; that of a segment which reuses nothing may be any."""
    rules = zip(path.rules, schedule.rules, strict=True)
    return path.computed == schedule.computed and all(rule in (None, other) for rule, other in rules)


def _of_job(path: Path, name: str, graph: ErrorGraph, root: File) -> Figures | None:
    """What the calibration's job measured of a path on every sample."""
    file = root / folder_name(name) / "paths.json"
    if file.is_symlink() or file.parent.is_symlink():
        return None
    try:
        known = load_json(file)
    except (OSError, ScheduleError):  # there is no job any more, or none that can be gone on with
        return None
    schedule = path.to_schedule("path", "any")
    route = Route(schedule.computed, schedule.rules)
    errors = known.get(route.key) if isinstance(known, dict) else None
    values = tuple(errors.values()) if isinstance(errors, dict) else ()
    if len(values) < len(graph.samples) or not all(isinstance(value, float) for value in values):
        return None
    return Figures(**Outcome(route, values).figures)
