"""Where schedules live: the packaged library, which is read only, and the user's directory beside it."""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NoReturn

from .atomic import remove_left, write_changed
from .folder import Folder, Stamp
from .match import Family
from .packaged import read_family
from .schedule import MAX_NAME, Schedule, ScheduleError, check_name

MAX_BYTES = 1 << 20

NEAREST_OF = 500
"""Among how many names those near to an unknown one are looked for: comparing texts takes long."""

log = logging.getLogger("LeMiCa")


class UnknownNameError(ScheduleError):
    """There is no schedule of this name."""


class NameTakenError(ScheduleError):
    """There is a schedule of this name already, or the one of this name is packaged and read only."""


class Library:
    """The schedules at hand: those of ``packaged``, and those of ``user``, a directory that may not exist yet.

    Files are read when asked for, and again when they have changed. A broken file of the user's is left out, named
    by ``problems`` and logged once.
    """

    def __init__(self, packaged: Path, user: Path | None = None) -> None:
        self._packaged = packaged
        self._user = user
        self._files = None if user is None else Folder(user, ".json", _load_or_complain)
        self._read: dict[Path, tuple[Stamp, tuple[Family, tuple[Schedule, ...]]]] = {}

    def families(self) -> tuple[Family, ...]:
        """The packaged families, in the order in which ties between them are decided."""
        return tuple(sorted((family for family, _ in self._families()), key=lambda family: (family.order, family.key)))

    def schedules(self, family: str | None = None) -> tuple[Schedule, ...]:
        """All schedules, or those of one family key: the user's before the packaged; of equal names the first."""
        own, packaged, _ = self.contents()
        return tuple(schedule for schedule in (*own, *packaged) if family in (None, schedule.family))

    def contents(self) -> tuple[tuple[Schedule, ...], tuple[Schedule, ...], list[str]]:
        """Of one look at the files: the user's schedules, the packaged ones of other names, and the problems."""
        found, problems = self._user_schedules()
        own = tuple(found.values())
        named = {schedule.name: schedule for schedule in own}
        for schedule in self._packaged_schedules():
            named.setdefault(schedule.name, schedule)
        return own, tuple(named.values())[len(own) :], problems

    def own(self, family: str | None = None) -> tuple[Schedule, ...]:
        """The user's schedules, all of them or those of one family key, by file name."""
        schedules = self._user_schedules()[0].values()
        return tuple(schedule for schedule in schedules if family in (None, schedule.family))

    def get(self, name: str) -> Schedule:
        """The schedule of this name; ScheduleError with the nearest names when there is none."""
        schedules = {schedule.name: schedule for schedule in self.schedules()}
        if name in schedules:
            return schedules[name]
        raise UnknownNameError(unknown("schedule", name, schedules, "choose one from the list of the library."))

    def problems(self) -> list[str]:
        """What is wrong with files in the user's directory, one line per file that was left out."""
        return self._user_schedules()[1]

    def stamps(self) -> list[tuple[str, Stamp]]:
        """Another list whenever one of the user's files is another."""
        return [] if self._files is None else self._files.stamps()

    def save(self, schedule: Schedule) -> Path:
        """Write a schedule to the user's directory, replacing the user's schedule of that name; returns its file.

        A crash leaves the old file or the new one, never half of one. Raises ScheduleError for the name of a packaged
        schedule, for one whose file holds something else, or without a user's directory; OSError when the disk refuses.
        """
        if self._user is None:
            raise ScheduleError("There is no user directory for schedules: start the library with one to save.")
        if any(packaged.name == schedule.name for packaged in self._packaged_schedules()):
            raise NameTakenError(f"{schedule.name!r} is a packaged schedule, which is read only: choose another name.")
        self.check_file(schedule.name)
        path = self._file_of(schedule.name) or self._user / file_name(schedule.name)
        text = dump_json(schedule.to_json())
        if len(text.encode()) > MAX_BYTES:
            raise ScheduleError(f"Schedule {schedule.name!r} takes more than {MAX_BYTES} bytes: shorten its source.")
        self._user.mkdir(parents=True, exist_ok=True)
        remove_left(self._user)
        write_changed(path, text.encode())
        return path

    def check_file(self, name: str) -> None:
        """NameTakenError where the file for a name is there and holds anything but the user's schedule of that name.

        It may be of a newer version of the pack, or broken: it is not for this one to replace.
        """
        path = None if self._user is None else self._user / file_name(name)
        if path is not None and os.path.lexists(path) and self._file_of(name) is None:
            raise NameTakenError(taken_file("schedule", name, path))

    def delete(self, name: str) -> None:
        """Remove the user's schedule of this name; ScheduleError when there is none, or it is a packaged one."""
        path = self._file_of(name)
        if path is None:
            self.get(name)
            raise NameTakenError(f"{name!r} is a packaged schedule, which is read only: it cannot be deleted.")
        path.unlink(missing_ok=True)

    def rename(self, old: str, new: str) -> Schedule:
        """Give the user's schedule another name; written under the new name first, then removed under the old one."""
        path = self._file_of(old)
        if path is None:
            self.get(old)
            raise NameTakenError(f"{old!r} is a packaged schedule, which is read only: save a copy under another name.")
        check_name(new, "name")
        if any(schedule.name == new for schedule in self.schedules()):
            raise NameTakenError(f"There is a schedule {new!r} already: choose another name.")
        renamed = replace(self.get(old), name=new)
        self.save(renamed)
        path.unlink(missing_ok=True)
        return renamed

    def import_bytes(self, content: bytes, taken: Collection[str] = ()) -> Schedule:
        """Save the schedule that a JSON file's content holds, under its name or, where that is taken, a free one.

        It is marked as imported: where it comes from is what the file says. ``taken``: names that are not to be used
        besides those of the schedules. Raises ScheduleError, OSError.
        """
        schedule = Schedule.from_json(parse_json(content))
        origin = "imported" if schedule.origin == "published" else schedule.origin
        schedule = replace(schedule, origin=origin, source={**schedule.source, "imported": True})
        names = {*taken, *(known.name for known in self.schedules())}
        schedule = replace(schedule, name=free_name(schedule.name, names, self.check_file))
        self.save(schedule)
        return schedule

    def _families(self) -> list[tuple[Family, tuple[Schedule, ...]]]:
        files = [path for path in sorted(self._packaged.glob("*.json")) if path.name != "prior.json"]
        for path in files:
            status = path.stat()
            stamp = status.st_mtime_ns, status.st_size, status.st_ino
            if path not in self._read or self._read[path][0] != stamp:
                self._read[path] = stamp, read_family(load_json(path))
        return [self._read[path][1] for path in files]

    def _packaged_schedules(self) -> list[Schedule]:
        return [schedule for _, schedules in self._families() for schedule in schedules]

    def _user_schedules(self) -> tuple[dict[Path, Schedule], list[str]]:
        """The user's readable schedules by file, one per name, and what is wrong with the other files."""
        schedules: dict[Path, Schedule] = {}
        problems: list[str] = []
        named: dict[str, Path] = {}
        for found in () if self._files is None else self._files.files():
            schedule, problem = found.content, found.problem
            if isinstance(schedule, str):
                problem = schedule
            elif not problem and schedule.name in named:
                twin = named[schedule.name].name
                problem = f"{twin} holds a schedule of the same name {schedule.name!r}: remove one."
            if problem:
                problems.append(f"{found.path.name}: {problem}")
            else:
                schedules[found.path] = schedule
                named[schedule.name] = found.path
        return schedules, problems

    def _file_of(self, name: str) -> Path | None:
        return next((path for path, schedule in self._user_schedules()[0].items() if schedule.name == name), None)


def load_schedule_file(path: Path) -> Schedule:
    """The schedule in a JSON file; ScheduleError naming the file when it holds none, OSError when it cannot be read."""
    try:
        return Schedule.from_json(load_json(path))
    except ScheduleError as error:
        raise ScheduleError(f"{path.name}: {error}") from None


def load_json(path: Path) -> object:
    """The JSON value in a regular UTF-8 file of up to 1 MiB; ScheduleError for anything else, NaN and Infinity too."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ScheduleError("this is not a regular file: give a JSON file.")
    with path.open("rb") as file:
        return parse_json(file.read(MAX_BYTES + 1))


def parse_json(content: bytes) -> object:
    """The JSON value in a file's content, by the rules of ``load_json``."""
    if len(content) > MAX_BYTES:
        raise ScheduleError(f"the file has more than {MAX_BYTES} bytes: a schedule takes at most that.")
    if not content.strip():
        raise ScheduleError("the file is empty: save the schedule again.")
    try:
        return json.loads(content.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except ScheduleError:
        raise
    except RecursionError:
        raise ScheduleError("the file is nested too deeply: this is not a schedule.") from None
    except ValueError as error:
        raise ScheduleError(f"the file is not valid JSON: {error}.") from None


def dump_json(value: object) -> str:
    """JSON with sorted keys and 2-space indent, lists of plain values on one line, a newline at the end."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    text = re.sub(r"\[\n\s+[^\[\]{}]*?\n\s+\]", _join_lines, text)
    return f"{text}\n"


def file_name(name: str) -> str:
    """The file name for a schedule name: letters, digits, dots and dashes of it, and a digest that keeps it unique."""
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:60]
    return f"{slug or 'schedule'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"


def free_name(name: str, taken: Collection[str], check: Callable[[str], None]) -> str:
    """The name, or where it is taken the name with the first free number after it.

    A name is taken as well where ``check`` raises ValueError.
    """
    number, free = 2, name
    while free in taken or _refused(check, free):
        suffix = f" ({number})"
        free = f"{name[: MAX_NAME - len(suffix)].rstrip()}{suffix}"
        number += 1
    return free


def taken_file(kind: str, name: str, path: Path) -> str:
    """What to tell of a name whose file holds something else than what is to be replaced."""
    return (
        f"The file {path.name}, which a {kind} {name!r} would have, is there and holds something else or cannot be read: "
        "choose another name, or move that file away."
    )


def unknown(kind: str, name: object, known: Iterable[str], otherwise: str) -> str:
    """What to tell of a name that nothing has: those that are near to it, or else what to do."""
    shown = str(name)[:MAX_NAME]
    near = difflib.get_close_matches(shown, list(islice(known, NEAREST_OF)), n=3, cutoff=0.4)
    advice = f"did you mean {' or '.join(near)}?" if near else otherwise
    return f"There is no {kind} {shown!r}: {advice}"


def _refused(check: Callable[[str], None], name: str) -> bool:
    try:
        check(name)
    except ValueError:
        return True
    return False


def _load_or_complain(path: Path) -> Schedule | str:
    """The schedule, or what is wrong with the file; this runs once per version of a file, and so does the log line."""
    try:
        return Schedule.from_json(load_json(path))
    except ScheduleError as error:
        log.warning("schedule file %s left out: %s", path.name, error)
        return str(error)


def _join_lines(found: re.Match[str]) -> str:
    return re.sub(r"\n\s+", "", found[0].replace(",\n", ", \n"))


def _refuse_constant(constant: str) -> NoReturn:
    raise ScheduleError(f"the file holds {constant}, which is not JSON: every number has to be finite.")
