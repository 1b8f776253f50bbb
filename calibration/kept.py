"""What is on the disk of the calibration that a node asks for, before it is queued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..schedules import Rule
from ..schedules.store import load_json
from .estimate import replay_calls, replayed_edges
from .fit_folder import FitFolder
from .job_folder import JobFolder, folder_name, sample_id
from .segments import all_segments

MOST_STEPS = 1000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a node asks for, as far as it is known before it runs.

    ``effort``: as ``effort_of`` gives it. ``settings``: those parts of a job's identity that are known, ``steps`` among them
    where they are; ``setup`` likewise. ``samples``: seed and prompt each, None for a prompt that is connected.
    """

    effort: Mapping[str, object]
    samples: Sequence[tuple[int, str | None]]
    settings: Mapping[str, object] = field(default_factory=dict)
    setup: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kept:
    """How many steps need not be computed again, and whether nothing at all has to be.

    ``different``: the settings in which what is there differs; then it is of no use.
    """

    steps: int = 0
    finished: bool = False
    different: tuple[str, ...] = ()


def kept_of(root: Path, name: str, wanted: Wanted) -> Kept:
    """What there is of the calibration of this name in ``root``: nothing where its folder cannot be read."""
    folder = root / folder_name(name)
    try:
        if folder.is_symlink():
            return Kept()
        identity = _identity(folder)
        steps = len(identity["sigmas"]) - 1
        if not 2 <= steps <= MOST_STEPS:
            return Kept()
        theirs = {"steps": steps, **identity}
        different = _different(wanted.settings, theirs) + _different(wanted.setup, identity.get("setup") or {})
        if different:
            return Kept(different=different)
        segments = all_segments(steps, identity["longest"], [Rule.parse(rule) for rule in identity["rules"]])
        return _count(FitFolder(folder, identity, len(segments)), segments, steps, wanted)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # whatever else may stand in these files
        return Kept()


def _identity(folder: Path) -> dict[str, object]:
    return load_json(folder / "job.json")["identity"]


def _different(asked: Mapping[str, object], known: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(sorted(key for key, value in asked.items() if known.get(key) != value))


def _count(job: FitFolder, segments: np.ndarray, steps: int, wanted: Wanted) -> Kept:
    prompts = dict(wanted.samples)
    fits = wanted.effort["mode"] != "exact"
    edges = np.empty(0, dtype=np.int64) if fits else replayed_edges(segments)
    count, ids, whole = 0, set(), set()
    for measured in job.load_all():
        full = measured.full
        if full.sample.seed not in prompts or prompts[full.sample.seed] not in (None, full.sample.prompt):
            continue
        done = edges[~np.isnan(measured.replayed[edges])]
        count += replay_calls(segments, steps, done)
        if len(done) == len(edges):
            count += steps
            whole.add(full.sample.seed)
        ids.add(sample_id(full.sample, full.conds))
    for key, errors in (job.fit_errors() if fits else job.path_errors()).items():
        count += len(key.partition("|")[0].split(",")) * len(ids & errors.keys())
    return Kept(count, whole == set(prompts) and _finished(job, wanted))


def _finished(job: JobFolder, wanted: Wanted) -> bool:
    """Whether the last job that came to its end had all of this to do."""
    file = job.path / "finished.json"
    if not file.exists():
        return False
    known = load_json(file)
    seeds = {seed for seed, _ in known["samples"]}
    enough = all(known[key] >= value if key == "tries" else known[key] == value for key, value in wanted.effort.items())
    return enough and seeds == {seed for seed, _ in wanted.samples}
