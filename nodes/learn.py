"""What the LeMiCa node learns from the pictures that users make."""

from __future__ import annotations

from dataclasses import replace

import comfy.samplers

from ..cache.setting import RunSetting
from ..cache.wrapper import Choice, Lesson, full_schedule
from ..calibration.learning.kind import Kind, kind_of
from ..calibration.learning.learned import Learned
from ..calibration.learning.lesson import FullRunLesson
from ..calibration.learning.records import KEPT, NEEDED
from ..calibration.references.response import NoResponseError
from ..schedules import ModelIdentity, Schedule
from .library import records

OFF, ON, REFINE, EVERY_RUN = "off", "on", "refine", "every run"
LEARN = (ON, REFINE, EVERY_RUN, OFF)

LEARNED_INSTEAD = {ON: ("estimated",), REFINE: ("estimated", "published", "resampled", "borrowed")}
"""In place of schedules of which origins a run is made in full."""


class Learner:
    """Of one model: what is known of runs like one, and whether that one is to be learned from.

    Args:
        identity: of the model.
        family: the key that its schedules go under.
        learn: one of LEARN.
    """

    def __init__(self, identity: ModelIdentity, family: str, learn: str) -> None:
        self._identity, self._family, self._learn = identity, family, learn

    def learned(self, setting: RunSetting) -> list[Learned]:
        """What earlier runs of this kind taught."""
        if self._learn == OFF or self._unfit(setting):
            return []
        return records().learned(self._kind(setting))

    def choice(self, setting: RunSetting, schedule: Schedule, note: str) -> Choice:
        """What was chosen for a run, or the full run where that is learned from."""
        if not wants_full_run(self._learn, schedule):
            return Choice(schedule, note)
        why = self._unfit(setting)
        if why:
            return Choice(schedule, f"{note}; nothing is learned: {why}")
        kind = self._kind(setting)
        known = len(records().of(kind, setting.sigmas))
        if not wants_full_run(self._learn, schedule, known):
            return Choice(schedule, note)
        budget = refined_budget(self._learn, schedule)
        try:
            lesson: Lesson = FullRunLesson(records(), kind, setting, budget)
        except NoResponseError as error:
            return Choice(schedule, f"{note}; nothing is learned under this sampler: {error}")
        return Choice(learning(setting.sigmas), lesson_note(known, budget), lesson)

    def _kind(self, setting: RunSetting) -> Kind:
        return kind_of(self._family, self._identity, setting)

    def _unfit(self, setting: RunSetting) -> str:
        """Why nothing can be learned from runs like this one, empty where something can."""
        if len(setting.sigmas) < 3:
            return "a run of one step has nothing to reuse"
        if self._identity.file is None:
            return "it cannot be told which file this model is from"
        if self._identity.patches is None:
            return "it cannot be told which LoRAs or other patches this model has"
        if not isinstance(setting.sampler, comfy.samplers.KSAMPLER):
            return "this sampler is none of KSampler's kind"
        return ""


def wants_full_run(learn: str, schedule: Schedule, known: int = 0) -> bool:
    """Whether a run that would get this schedule is made in full instead, where so many of its kind are known.

    A budget that is not refined yet takes one more, but not for ever, in case it cannot be.
    """
    if learn == REFINE and schedule.origin == "learned":
        return known < KEPT and not schedule.weights and refined_budget(learn, schedule) is not None
    return learn == EVERY_RUN or known < NEEDED and schedule.origin in LEARNED_INSTEAD.get(learn, ())


def refined_budget(learn: str, schedule: Schedule) -> int | None:
    """The budget at which a run is made once more after the full one, to fit weights; None where it is not."""
    return schedule.budget if learn == REFINE and schedule.budget < schedule.steps else None


def learning(sigmas: tuple[float, ...]) -> Schedule:
    """The schedule of a full run that is learned from."""
    return replace(full_schedule(sigmas), origin="learning")


def lesson_note(known: int, budget: int | None = None) -> str:
    """Where learning stands in the run that comes after so many, and whether one with this budget follows it."""
    if known < NEEDED:
        note = f"a full run, to learn from: {known + 1} of {NEEDED}"
    else:
        note = f"a full run, to learn from, after {known} others"
    return note if budget is None else f"{note}; then one with {budget} steps, to refine"
