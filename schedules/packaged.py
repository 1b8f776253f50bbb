"""The files of ``library/``: one family each, with its schedules written short."""

from __future__ import annotations

from collections.abc import Mapping

from .match import Family
from .schedule import Rule, Schedule, ScheduleError, nominal_sigmas

PUBLISHED = {
    "made_by": "the LeMiCa authors (arXiv 2511.00090)",
    "read_in": "a fork of their repository, UnicomAI/LeMiCa: repo, path and commit name it",
}
"""What every published list has in common; its entry in the file names the repository, path and commit."""

_FIELDS = {"name", "computed", "origin", "steps", "rules", "sigmas", "source", "weights"}


def read_family(data: object) -> tuple[Family, tuple[Schedule, ...]]:
    """The family in a file of ``library/`` and its schedules, in the file's order.

    A schedule names itself, its computed steps and its source. What it leaves out comes from the family: ``origin``
    published, the family's ``steps``, its ``rule`` for every segment, and the nominal sigmas of ``flow_shift``. Where that
    rule is fitted, ``weights`` are those of the segments.
    Raises ScheduleError.
    """
    family = Family.from_json(data)
    return family, tuple(_read_schedule(entry, family, data.get("rule")) for entry in data.get("schedules", ()))


def _read_schedule(entry: Mapping[str, object], family: Family, rule: str | None) -> Schedule:
    if not isinstance(entry, Mapping) or not {"name", "computed"} <= entry.keys() <= _FIELDS:
        raise ScheduleError(f"A schedule of {family.key} is {entry!r}: give name, computed and source.")
    computed = tuple(entry["computed"])
    rules = entry.get("rules", [rule] * len(computed))
    steps = entry.get("steps", family.steps)
    sigmas = entry.get("sigmas")
    shift = family.defaults.get("flow_shift")
    if sigmas is None and shift is not None:
        sigmas = nominal_sigmas(shift, steps)
    origin = entry.get("origin", "published")
    return Schedule(
        name=entry["name"],
        family=family.key,
        steps=steps,
        computed=computed,
        rules=tuple(Rule.parse(text) for text in rules),
        origin=origin,
        sigmas=sigmas,
        source={**(PUBLISHED if origin == "published" else {}), **entry.get("source", {})},
        weights=entry.get("weights", ()),
    )
