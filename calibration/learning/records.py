"""The records of this installation, and what follows from them."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from ...schedules import same_grid
from ...schedules.atomic import remove_left, write_atomically
from ...schedules.folder import Folder
from ..segments import GraphError
from .kind import Kind
from .learned import Learned, learned_from
from .record import Record, read_record

logger = logging.getLogger("LeMiCa")

SUFFIX = ".safetensors"

NEEDED = 3
"""From how many runs of a kind schedules are made."""

KEPT = 16
"""How many runs of a kind on one grid are kept, the newest ones."""


class UnknownRecordError(GraphError):
    """There is no record of this name."""


class Records:
    """Records in ``root``, a directory that may not exist yet. A broken file is left out, named by ``problems``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = Folder(root, SUFFIX, _load)

    def all(self) -> list[tuple[str, Record]]:
        """All readable records with the names of their files, the newest first."""
        found = [(one.path.name, one.content) for one in self._folder.files() if isinstance(one.content, Record)]
        return sorted(found, key=lambda pair: (-pair[1].made, pair[0]))

    def problems(self) -> list[str]:
        """What is wrong with files in the directory, one line per file that was left out."""
        return [
            f"{one.path.name}: {one.problem or one.content}" for one in self._folder.files()
            if one.problem or isinstance(one.content, str)
        ]

    def of(self, kind: Kind, sigmas: Sequence[float] | None = None) -> list[Record]:
        """The records that teach about a kind of run, the newest first; with ``sigmas`` those of that grid alone.

        Of several of one picture, as where a file was copied, one counts; those that the user leaves out do not.
        """
        found: list[Record] = []
        for _, record in self.all():
            wanted = not record.left_out and record.kind.alike(kind) and (sigmas is None or same_grid(record.sigmas, sigmas))
            if wanted and not any(record.same_run(other) for other in found):
                found.append(record)
        return found

    def save(self, record: Record) -> str:
        """Keep a record, in place of one of the same picture, from which other paths and what the user says of it go over; of
        its kind and grid the oldest go. Returns its file's name.

        Raises:
            GraphError: it is too large.
            OSError: the disk refuses.
        """
        own = {len(one.computed) for one in record.refined}
        former = next((one for _, one in self.all() if one.same_run(record)), None)
        if former is not None:
            paths = [one for one in former.refined if len(one.computed) not in own]
            record = replace(
                record, refined=(*record.refined, *paths), title=former.title, left_out=former.left_out
            )
        content = record.content()
        self.root.mkdir(parents=True, exist_ok=True)
        remove_left(self.root)
        # No two servers on one folder choose the same.
        name = f"{datetime.fromtimestamp(record.made):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}{SUFFIX}"
        write_atomically(self.root / name, content)
        others = [(known, one) for known, one in self.all() if known != name and one.same_grid(record)]
        again = [known for known, one in others if one.same_run(record)]
        kept = [known for known, _ in others if known not in again]
        for old in (*again, *kept[KEPT - 1 :]):
            (self.root / old).unlink(missing_ok=True)
        return name

    def delete(self, name: str) -> None:
        """Remove the record in the file of this name.

        Raises:
            UnknownRecordError: ``all`` lists none.
        """
        self._get(name)
        (self.root / name).unlink(missing_ok=True)

    def change(self, name: str, title: str | None = None, left_out: bool | None = None) -> None:
        """Give the record in the file of this name a title, or leave it out, or count it again; None leaves it as it is.

        Raises:
            UnknownRecordError: ``all`` lists none.
            ScheduleError: the title is no name.
            OSError: the disk refuses.
        """
        record = self._get(name)
        changed = replace(
            record, title=record.title if title is None else title, left_out=record.left_out if left_out is None else left_out
        )
        write_atomically(self.root / name, changed.content())

    def _get(self, name: str) -> Record:
        for known, record in self.all():
            if known == name:
                return record
        raise UnknownRecordError(f"There is no record {name[:80]!r}: it may be deleted already.")

    def learned(self, kind: Kind) -> list[Learned]:
        """What is known of a kind of run, for each grid that enough of its records have."""
        return _learned(self.of(kind))

    def learned_of_family(self, family: str) -> list[Learned]:
        """The same of the kind that a family's newest record is of: what its next run will most likely be."""
        newest = self._newest(family)
        return [] if newest is None else self.learned(newest.kind)

    def count_of_family(self, family: str, sigmas: Sequence[float]) -> int:
        """How many records of that kind there are on a grid."""
        newest = self._newest(family)
        return 0 if newest is None else len(self.of(newest.kind, sigmas))

    def _newest(self, family: str) -> Record | None:
        return next((record for _, record in self.all() if record.kind.family == family), None)


def _learned(records: Sequence[Record]) -> list[Learned]:
    grids: list[list[Record]] = []
    for record in records:
        like = next((grid for grid in grids if grid[0].same_grid(record)), None)
        if like is None:
            grids.append([record])
        else:
            like.append(record)
    learned = []
    for grid in grids:
        try:
            learned += [learned_from(tuple(grid))] if len(grid) >= NEEDED else []
        except GraphError as error:  # numbers that no run of ours has
            logger.warning("records left out: %s", error)
    return learned


def _load(path: Path) -> Record | str:
    """The record, or what is wrong with a file that cannot be used; this runs once per version of a file."""
    try:
        return read_record(path)
    except GraphError as error:
        logger.warning("record left out: %s: %s", path.name, error)
        return str(error)
