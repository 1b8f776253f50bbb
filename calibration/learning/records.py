"""The records of this installation, and the error graphs that follow from them."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...schedules import Rule, same_grid
from ...schedules.atomic import remove_left, write_atomically
from ...schedules.folder import Folder, Stamp
from ..graph import ErrorGraph
from ..references.segment_errors import segment_errors
from ..sample import Sample
from ..segments import GraphError, all_segments
from .kind import Kind
from .record import Record, read_record

logger = logging.getLogger("LeMiCa")

SUFFIX = ".safetensors"

NEEDED = 3
"""From how many runs of a kind schedules are made."""

KEPT = 16
"""How many runs of a kind on one grid are kept, the newest ones."""

RULES = (Rule("output", "hold"), Rule("output", "half"), Rule("output", "linear"))
"""Fixed ones: nothing that follows from full runs alone says what fitted weights do to a whole path."""

LONGEST, LONGEST_OF_MANY, MANY = 16, 8, 64
"""The longest segment, in steps; in runs of more than MANY steps, so that they are solved in seconds."""


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

    def stamps(self) -> list[tuple[str, Stamp]]:
        """Another list whenever one of the files is another."""
        return self._folder.stamps()

    def of(self, kind: Kind, sigmas: Sequence[float] | None = None) -> list[Record]:
        """The records that teach about a kind of run, the newest first; with ``sigmas`` those of that grid alone."""
        return [
            record for _, record in self.all()
            if record.kind.alike(kind) and (sigmas is None or same_grid(record.sigmas, sigmas))
        ]

    def save(self, record: Record) -> str:
        """Keep a record, in place of one of the same picture; of its kind and grid the oldest go. Returns its file's name.

        Raises:
            GraphError: it is too large.
            OSError: the disk refuses.
        """
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
        if all(known != name for known, _ in self.all()):
            raise UnknownRecordError(f"There is no record {name[:80]!r}: it may be deleted already.")
        (self.root / name).unlink(missing_ok=True)

    def graphs(self, kind: Kind) -> list[ErrorGraph]:
        """The error graphs for a kind of run, one for each grid that enough of its records have."""
        return _graphs(self.of(kind))

    def graphs_of_family(self, family: str) -> list[ErrorGraph]:
        """The graphs of the kind that a family's newest record is of: what its next run will most likely be."""
        newest = self._newest(family)
        return [] if newest is None else self.graphs(newest.kind)

    def count_of_family(self, family: str, sigmas: Sequence[float]) -> int:
        """How many records of that kind there are on a grid."""
        newest = self._newest(family)
        return 0 if newest is None else len(self.of(newest.kind, sigmas))

    def _newest(self, family: str) -> Record | None:
        return next((record for _, record in self.all() if record.kind.family == family), None)


def _graphs(records: Sequence[Record]) -> list[ErrorGraph]:
    grids: list[list[Record]] = []
    for record in records:
        like = next((grid for grid in grids if grid[0].same_grid(record)), None)
        if like is None:
            grids.append([record])
        else:
            like.append(record)
    return [_graph(tuple(grid)) for grid in grids if len(grid) >= NEEDED]


@lru_cache(maxsize=8)
def _graph(records: tuple[Record, ...]) -> ErrorGraph:
    """The error graph of records of one grid, made once for as long as their files stay the same."""
    newest = records[0]
    steps = len(newest.sigmas) - 1
    longest = min(steps, LONGEST if steps <= MANY else LONGEST_OF_MANY)
    rows = all_segments(steps, longest, RULES)
    errors = segment_errors(newest.segments, [record.gram for record in records], rows, RULES)
    samples = tuple(
        Sample(f"{datetime.fromtimestamp(record.made):%Y-%m-%d %H:%M:%S.%f}", record.seed) for record in records
    )
    kind = newest.kind
    return ErrorGraph(
        family=kind.family, model=kind.model, sigmas=newest.sigmas, mode="short", metric="l2", rules=RULES,
        samples=samples, segments=rows, errors=np.asarray(errors),
        setup={"sampler": kind.sampler, **kind.guidance, "latent": list(kind.latent)}, source={"learned": True},
    )


def _load(path: Path) -> Record | str:
    """The record, or what is wrong with a file that cannot be used; this runs once per version of a file."""
    try:
        return read_record(path)
    except GraphError as error:
        logger.warning("record left out: %s: %s", path.name, error)
        return str(error)
