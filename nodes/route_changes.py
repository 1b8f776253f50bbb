"""What the routes change: schedules and calibrations of the user are saved, renamed, deleted, merged, imported."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import PurePath
from typing import TypeVar

from aiohttp import web

from ..calibration.graph_file import MAX_BYTES as MAX_GRAPH
from ..calibration.job_folder import folder_name
from ..calibration.solutions import solution
from ..calibration.store import SUFFIX
from ..schedules import PRESETS, Schedule, dump_json
from ..schedules.schedule import SCHEMA, check_name
from ..schedules.select import SCOPES
from ..schedules.store import MAX_BYTES as MAX_SCHEDULE
from ..schedules.store import file_name
from .library import RESERVED, calibrations, changing, check_not_reserved, library, records
from .route_answer import Body, RequestError, TakenError, TooLargeError, checked_name, short
from .route_views import options_of

KINDS = ("schedule", "calibration")
UNFINISHED, RECORD = "job", "record"

T = TypeVar("T")


def one_at_a_time(change: Callable[[T], object]) -> Callable[[T], object]:
    """Whether a name is free is asked before it is taken: no other change comes between the two."""

    @wraps(change)
    def locked(request: T) -> object:
        with changing():
            return change(request)

    return locked


def save(body: Body) -> dict[str, object]:
    """Save a schedule as it came, or one that is solved for it; of a preset also what ``undo`` takes."""
    if ("schedule" in body) == ("calibration" in body):
        raise RequestError("The request has to hold either a schedule or the name of a calibration to solve.")
    name = body.text("name")
    schedule = _sent(body, name) if "schedule" in body else _solved(body, name)
    replaces = body.flag("replace", False)

    @one_at_a_time
    def keep(made: Schedule) -> Schedule | None:
        replaced = next((known for known in library().own() if known.name == name), None)
        if replaced is None or not replaces:
            _check_free(name)
        library().save(made)
        return replaced

    replaced = keep(schedule)
    if "preset" not in body:
        return {"name": name}
    return {"name": name, "saved": schedule.to_json(), "replaced": None if replaced is None else replaced.to_json()}


@one_at_a_time
def undo(body: Body) -> dict[str, object]:
    """Take back a save: ``replaced`` is there again as it was, or nothing, unless ``saved`` is no longer there."""
    saved, replaced = (_read(body.get(key), key) if key in body else None for key in ("saved", "replaced"))
    if saved is None:
        raise RequestError("saved is missing: give the schedule that was saved.")
    if replaced is not None and replaced.name != saved.name:
        raise RequestError(f"replaced is {short(replaced.name)}, saved is {short(saved.name)}: give two of one name.")
    if saved not in library().own():
        raise TakenError(f"{short(saved.name)} has changed since it was saved: nothing is undone.")
    if replaced is None:
        library().delete(saved.name)
    else:
        library().save(replaced)
    return {"name": saved.name}


@one_at_a_time
def rename(body: Body) -> dict[str, object]:
    """Give a schedule or a calibration another name, or a record, by its file, a title."""
    old, new = body.text("old"), body.text("new")
    if body.one_of("kind", (*KINDS, RECORD), "") == RECORD:
        records().change(old, title=new)
        return {"name": old}
    store = library() if body.one_of("kind", KINDS, "") == "schedule" else calibrations()
    store.get(old)
    if old != new:
        check_name(new, "new")
        _check_free(new)
        store.rename(old, new)
    return {"name": new}


@one_at_a_time
def delete(body: Body) -> dict[str, object]:
    """Remove a schedule, a calibration, what was measured of one that is not finished, by its folder, or a record."""
    kind, name = body.one_of("kind", (*KINDS, UNFINISHED, RECORD), ""), body.text("name")
    if kind == UNFINISHED:
        calibrations().delete_unfinished(name)
    elif kind == RECORD:
        records().delete(name)
    else:
        (library() if kind == "schedule" else calibrations()).delete(name)
    return {}


@one_at_a_time
def leave_out(body: Body) -> dict[str, object]:
    """Leave a record out of what is learned, by its file, or count it again."""
    name = body.text("name")
    records().change(name, left_out=body.flag("left_out", True))
    return {"name": name}


@one_at_a_time
def merge(body: Body) -> dict[str, object]:
    """Make one calibration of two."""
    first, second, name = body.text("first"), body.text("second"), body.text("name")
    if first == second:
        raise RequestError(f"Both calibrations are {short(first)}: choose two different ones.")
    calibrations().get(first), calibrations().get(second)
    check_name(name, "name")
    _check_free(name)
    calibrations().merge(first, second, name)
    return {"name": name}


@one_at_a_time
def import_file(field: web.FileField) -> dict[str, object]:
    """Save a schedule or a calibration from a file, under its name or a free one; one that is there ``existed``."""
    suffix = PurePath(field.filename).suffix.lower()
    if suffix not in (".json", SUFFIX):
        raise RequestError(f"The file is {short(field.filename)}: give a schedule (.json) or a calibration ({SUFFIX}).")
    kind, limit = ("schedule", MAX_SCHEDULE) if suffix == ".json" else ("calibration", MAX_GRAPH)
    with field.file as file:
        size = file.seek(0, 2)
        file.seek(0)
        if size > limit:
            raise TooLargeError(f"The file has {size} bytes: a {kind} takes at most {limit}.")
        taken = _taken()
        if kind == "schedule":
            name = library().import_bytes(file.read(), taken).name
        else:
            name = calibrations().import_file(file, field.filename, taken)
        return {"kind": kind, "name": name, "existed": name in taken}


def export(query: Mapping[str, str]) -> web.StreamResponse:
    """The file of a schedule or a calibration."""
    kind, name = query.get("kind"), checked_name("name", query.get("name"))
    if kind == "schedule":
        schedule = library().get(name)
        content = dump_json(schedule.to_json())
        return web.Response(text=content, content_type="application/json", headers=_download(file_name(name)))
    if kind == "calibration":
        file = calibrations().file(name)
        return web.FileResponse(file, headers=_download(f"{folder_name(name)}{SUFFIX}"))
    raise RequestError(f"kind is {short(kind)}: give one of {', '.join(KINDS)}.")


def _download(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}


def _sent(body: Body, name: str) -> Schedule:
    return _read(body.get("schedule"), "schedule", name=name)


def _read(fields: object, key: str, **changed: str) -> Schedule:
    if not isinstance(fields, dict):
        raise RequestError(f"{key} is {short(fields)}: give an object.")
    return Schedule.from_json({"schema": SCHEMA, **fields, **changed})


def _solved(body: Body, name: str) -> Schedule:
    calibration, options = body.text("calibration"), options_of(body)
    graph = calibrations().get(calibration)
    path = solution(graph, body.count("budget"), options)
    scope = body.one_of("scope", SCOPES, SCOPES[0])
    source = {**graph.provenance(calibration), "objective": options.objective, "scope": scope}
    if "preset" in body:
        source |= {"preset": body.one_of("preset", PRESETS, ""), "saved": time.time()}
    return path.to_schedule(name, graph.family, graph.sigmas, source)


def _taken() -> set[str]:
    """Schedules and calibrations are offered in one list, so a name stands for one of them."""
    return {*RESERVED, *calibrations().names(), *(schedule.name for schedule in library().schedules())}


def _check_free(name: str) -> None:
    check_not_reserved(name)
    if name in _taken():
        raise TakenError(f"The name {short(name)} is in use: choose another one.")
