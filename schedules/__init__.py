"""Schedules: what they are, where they live, which one fits a model and a run. Standard library only."""

from .claim import claimed, other_file, other_patches
from .grid import same_grid
from .match import ANY_MODEL, PRESETS, Family, Match, ModelIdentity, find_family
from .prior import derive, estimate
from .resample import resample
from .rules import DENOISED, FIXED, OUTPUT_FITTED, RULES, Rule
from .schedule import ORIGINS, GridError, Schedule, ScheduleError, nominal_sigmas
from .select import Selection, preset_budget, select
from .store import Library, dump_json, load_schedule_file

__all__ = [
    "ANY_MODEL",
    "DENOISED",
    "ORIGINS",
    "PRESETS",
    "FIXED",
    "OUTPUT_FITTED",
    "RULES",
    "Family",
    "GridError",
    "Library",
    "Match",
    "ModelIdentity",
    "Rule",
    "Schedule",
    "ScheduleError",
    "Selection",
    "claimed",
    "derive",
    "dump_json",
    "estimate",
    "find_family",
    "load_schedule_file",
    "nominal_sigmas",
    "other_file",
    "other_patches",
    "preset_budget",
    "resample",
    "same_grid",
    "select",
]
