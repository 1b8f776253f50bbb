"""What the routes show: the library, one calibration, solved paths, running calibrations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from ..calibration import OBJECTIVES, ErrorGraph, Path
from ..calibration.half_run import half_run
from ..calibration.learning.record import Record
from ..calibration.measured import figures_of
from ..calibration.solutions import Options, solution, solutions
from ..calibration.view import calibration_entry, calibration_view, curve_point, path_view, schedule_view
from ..schedules import PRESETS, Rule, find_family, preset_budget
from .calibration_progress import running
from .library import calibrations, library, records
from .route_answer import Body, checked_name


def show_library(query: Mapping[str, str]) -> dict[str, object]:
    """Everything that there is to choose from, and what is wrong with the rest."""
    own, packaged, problems = library().contents()
    schedules = [
        {**schedule_view(schedule), "own": mine, "source": dict(schedule.source)}
        for mine, found in ((True, own), (False, packaged)) for schedule in found
    ]
    graphs, unreadable = calibrations().contents()
    jobs, broken = half_run(calibrations().root, {path.stem for _, _, path in graphs})
    learned = records().all()
    titles = {family.key: family.title for family in library().families()}
    for key in (
        *(schedule["family"] for schedule in schedules), *(graph.family for _, graph, _ in graphs),
        *(record.kind.family for _, record in learned),
    ):
        titles.setdefault(key, key)
    return {
        "families": [{"key": key, "title": title} for key, title in titles.items()],
        "schedules": schedules,
        "calibrations": [calibration_entry(name, graph) for name, graph, _ in graphs],
        "jobs": jobs,
        "records": [record_entry(name, record) for name, record in learned],
        "problems": [*problems, *unreadable, *broken, *records().problems()],
    }


def record_entry(name: str, record: Record) -> dict[str, object]:
    """A full run that was learned from; ``name`` is that of its file."""
    kind = record.kind
    return {
        "name": name, "family": kind.family, "steps": len(record.sigmas) - 1, "made": record.made, "seed": record.seed,
        "sampler": kind.sampler, "guidance": dict(kind.guidance), "latent": list(kind.latent), "file": kind.model.file,
        "title": record.title, "left_out": record.left_out, "refined": sorted(len(one.computed) for one in record.refined),
    }


def show_calibration(query: Mapping[str, str]) -> dict[str, object]:
    """One calibration with its cells and its curve."""
    name = checked_name("name", query.get("name"))
    graph = calibrations().get(name)
    match = find_family(graph.model, library().families())
    presets = {preset: preset_budget(match, preset, graph.steps) for preset in PRESETS}
    return {**calibration_view(name, graph, solutions(graph)), "presets": presets}


def show_solution(body: Body) -> dict[str, object]:
    """The best path of a budget; with ``curve`` that of the nearest one that has any, and what every budget costs."""
    graph, options = calibrations().get(body.text("calibration")), options_of(body)
    budget = body.count("budget")
    if not body.flag("curve", False):
        return _solved(body.text("calibration"), graph, solution(graph, budget, options))
    paths = solutions(graph, options)
    nearest = min(paths, key=lambda feasible: abs(feasible - budget))
    curve = [curve_point(path) for _, path in sorted(paths.items())]
    return {**_solved(body.text("calibration"), graph, paths[nearest]), "curve": curve}


def _solved(name: str, graph: ErrorGraph, path: Path) -> dict[str, object]:
    """A path with what is predicted and what was measured of it."""
    measured = figures_of(path, name, graph, library().own(graph.family), calibrations().root)
    return {**path_view(path), "measured": None if measured is None else asdict(measured)}


def show_running(query: Mapping[str, str]) -> dict[str, object]:
    """Where every calibration of this process stands."""
    return {"running": running()}


def options_of(body: Body) -> Options:
    """What a request asks of a path."""
    rule = body.text("rule") if "rule" in body else None
    return Options(
        rule=None if rule is None else Rule.parse(rule),
        objective=body.one_of("objective", OBJECTIVES, "minimax"),
        tail=body.flag("tail", True),
        fixed=tuple(sorted(set(body.counts("fixed")))),
        reused=tuple(sorted(set(body.counts("reused")))),
    )
