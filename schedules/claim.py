"""What a schedule may claim in a run: measured or predicted on this very model, or borrowed from another one."""

from __future__ import annotations

from dataclasses import replace

from .match import ANY_MODEL, ModelIdentity
from .schedule import Schedule, without_figures

MADE = ("calibrated", "predicted", "learned")
"""Origins that speak of one model: that of ``source``, by its ``file`` and ``patches``."""


def other_file(file: object, identity: ModelIdentity) -> bool:
    """Whether both files are known, and not the same."""
    return None not in (file, identity.file) and file != identity.file


def other_patches(patches: object, identity: ModelIdentity) -> bool:
    """Whether something may have been made with other patches than a model has.

    What was written down before patches were, None, fits a model without any.
    """
    if identity == ANY_MODEL:
        return False
    return identity.patches is None or (patches or "") != identity.patches


def difference(file: object, patches: object, identity: ModelIdentity) -> str:
    """How the model that something was made on differs from this one, in words; empty where it does not."""
    if identity == ANY_MODEL:
        return ""
    if file != identity.file:
        return f"it was made on {file or 'an unknown file'}, this model is {identity.file or 'of an unknown file'}"
    if not other_patches(patches, identity):
        return ""
    if identity.patches is None:
        return "it cannot be told which LoRAs or other patches this model has"
    if identity.patches == "":
        return "it was made with LoRAs or other patches that this model does not have"
    if patches == "":
        return "it was made without the LoRAs or other patches of this model"
    return "it was made with other LoRAs or patches than this model has, or at other strengths"


def claimed(schedule: Schedule, identity: ModelIdentity) -> tuple[Schedule, str]:
    """The schedule with the origin that it may have on a model, and what there is to say of that.

    One that was measured or predicted on another model becomes ``borrowed``, without the figures of that other model, and
    without weights that were fitted there.
    """
    file, patches = schedule.source.get("file"), schedule.source.get("patches")
    if not {schedule.origin, schedule.source.get("origin")} & set(MADE):
        return schedule, ""
    if identity == ANY_MODEL:
        return schedule, f"made on {file}{' with LoRAs or other patches' if patches else ''}" if file else ""
    why = difference(file, patches, identity)
    if why and schedule.origin in MADE:
        source = {**without_figures(schedule.source), "borrowed_from": source_name(schedule)}
        if schedule.weights:
            why = f"{why}; the half slope stands in for the weights that were fitted there"
        schedule = replace(schedule.unfitted(), origin="borrowed", source=source)
    return schedule, why


def source_name(schedule: Schedule) -> str:
    """What a schedule was made from: its calibration, or else itself."""
    return str(schedule.source.get("calibration") or schedule.name)


def origin_in_words(schedule: Schedule) -> str:
    """The origin, of a borrowed schedule with whose it is."""
    if schedule.origin != "borrowed":
        return schedule.origin
    return f"borrowed from {schedule.source.get('borrowed_from', schedule.name)}"
