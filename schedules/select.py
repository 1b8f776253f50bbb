"""The schedule that a run gets: named, calibrated, published, resampled, or else estimated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .grid import same_grid, sigma_at
from .match import PRESETS, Match
from .prior import estimate
from .resample import resample
from .schedule import Rule, Schedule, ScheduleError, check_sigmas, is_count, shown
from .store import Library

DEFAULT_PRESET = "medium"
PRESET_RATIOS = {"slow": 0.6, "medium": 0.45, "fast": 0.35, "ultra": 0.28}
ULTRA_OF_FAST = 0.7
ESTIMATED_RULE = Rule("output", "half")
FEW_STEPS = 8


@dataclass(frozen=True, slots=True)
class Selection:
    """The schedule for a run, on the run's own sigmas, and a note on where it came from."""

    schedule: Schedule
    note: str


def select(
    library: Library,
    match: Match,
    sigmas: Sequence[float],
    *,
    preset: str | None = None,
    budget: int | None = None,
    name: str | None = None,
    rule: Rule | None = None,
) -> Selection:
    """The schedule for a run with these N+1 sigmas.

    ``budget`` asks for that many computed steps, else ``preset`` for a share of them (medium when nothing is asked).
    ``name`` takes that schedule; without ``budget`` it keeps its own share of computed steps, and ``preset`` is not
    read. Otherwise the first of these that the family has: the schedule that the user saved as this preset, with its
    own share of computed steps, the nearest calibrated schedule of the user's, the nearest packaged one, an estimate.
    Nearest is by budget ratio, then by steps, then in sigma; calibrations of another model file come last. ``rule``
    replaces all rules of what was found.

    Raises GridError when the sigmas cannot carry a schedule, so that the caller computes every step; ScheduleError
    for a budget outside 1 .. N, an unknown preset or an unknown name. The note tells what a run of few steps can gain.
    """
    grid = check_sigmas(sigmas)
    steps = len(grid) - 1
    if steps < 2:
        return Selection(_every_step(match.key, grid), "a run of one step has nothing to reuse: it computes")
    if budget is not None and (not is_count(budget) or not 1 <= budget <= steps):
        raise ScheduleError(
            f"The budget is {shown(budget)} in a run of {steps} steps: give a whole number from 1 to {steps}."
        )
    if name is not None:
        selection = _named(library.get(name), match, grid, budget)
    else:
        wanted = preset_budget(match, preset or DEFAULT_PRESET, steps) if budget is None else budget
        saved = _saved_as(library, match, preset or DEFAULT_PRESET, grid) if budget is None else None
        selection = _found(library, match, grid, wanted) if saved is None else saved
    if rule is not None:
        selection = _with_rule(selection, rule)
    few = few_steps_note(selection.schedule)
    return replace(selection, note=f"{selection.note}; {few}") if few else selection


def few_steps_note(schedule: Schedule) -> str:
    """What a run of 8 steps or fewer can gain, which is little, and that it costs; empty for a longer run."""
    steps, budget = schedule.steps, schedule.budget
    if steps > FEW_STEPS:
        return ""
    if budget == steps:
        return f"all of its {steps} steps compute: nothing is gained, and nothing lost"
    return (
        f"with {steps} steps at most {steps / budget:.3g} times faster, and visibly: each of so few steps changes much, "
        "so none of them repeats another"
    )


def preset_budget(match: Match, preset: str, steps: int) -> int:
    """The budget of a preset in a run of N steps: the family's, scaled by N over the family's steps; 2 or more.

    A preset that the family does not name lies between its neighbours: ultra at 0.7 of fast, medium half way between
    slow and fast. A family without presets, and a model of no family, takes a fixed share of N.
    """
    if preset not in PRESETS:
        raise ScheduleError(f"Preset {shown(preset)} is unknown: choose one of {', '.join(PRESETS)}.")
    family = match.family
    wanted = PRESET_RATIOS[preset] * steps
    if family is not None and family.presets:
        budgets = dict(family.presets)
        if "fast" in budgets:
            budgets.setdefault("ultra", _half_up(ULTRA_OF_FAST * budgets["fast"]))
        if {"slow", "fast"} <= budgets.keys():
            budgets.setdefault("medium", _half_up((budgets["slow"] + budgets["fast"]) / 2))
        if preset in budgets:
            wanted = budgets[preset] * steps / family.steps
    return min(max(_half_up(wanted), 2), steps)


def _named(schedule: Schedule, match: Match, grid: tuple[float, ...], budget: int | None) -> Selection:
    fitted = resample(schedule, grid, budget)
    note = f"chosen by name: {_where_from(schedule, fitted)}"
    if schedule.family != match.key:
        note += f"; it was made for {schedule.family}, the model is {match.key}"
    return Selection(fitted, note)


def _found(library: Library, match: Match, grid: tuple[float, ...], budget: int) -> Selection:
    candidates = library.schedules(match.key)
    own = library.own(match.key)
    calibrated = [schedule for schedule in own if schedule.origin == "calibrated"]
    names = {schedule.name for schedule in own}
    packaged = [schedule for schedule in candidates if schedule.name not in names]
    found = [_nearest(schedules, match, grid, budget) for schedules in (calibrated, packaged) if schedules]
    if found:
        # One that was calibrated for this very run goes before one that has to be resampled.
        nearest = next((one for one in found if _made_for(one, grid, budget)), found[0])
        fitted = resample(nearest, grid, budget)
        return Selection(fitted, _where_from(nearest, fitted))
    title = match.identity.model_class if match.family is None else match.family.title
    note = f"no schedule for {title}: estimated from published lists until this model is calibrated"
    return Selection(estimate(match.key, grid, budget, ESTIMATED_RULE), note)


def _saved_as(library: Library, match: Match, preset: str, grid: tuple[float, ...]) -> Selection | None:
    """The schedule of the user's whose source names this preset, unless it is of another model file."""
    file = match.identity.file
    saved = [
        schedule
        for schedule in library.own(match.key)
        if schedule.source.get("preset") == preset
        and (None in (file, schedule.source.get("file")) or schedule.source["file"] == file)
    ]
    if not saved:
        return None

    def distance(schedule: Schedule) -> tuple[float, ...]:
        when = schedule.source.get("saved")
        newest = -when if isinstance(when, int | float) else 0.0
        return abs(schedule.steps - (len(grid) - 1)), _sigma_distance(schedule.sigmas, grid), newest

    nearest = min(saved, key=distance)
    share = nearest.budget / nearest.steps * (len(grid) - 1)
    fitted = resample(nearest, grid, min(max(_half_up(share), 1), len(grid) - 1))
    return Selection(fitted, f"saved as {preset}: {_where_from(nearest, fitted)}")


def _made_for(schedule: Schedule, grid: tuple[float, ...], budget: int) -> bool:
    calibrated = schedule.origin == "calibrated" and schedule.budget == budget
    return calibrated and schedule.sigmas is not None and same_grid(schedule.sigmas, grid)


def _nearest(schedules: Iterable[Schedule], match: Match, grid: tuple[float, ...], budget: int) -> Schedule:
    steps = len(grid) - 1

    def distance(schedule: Schedule) -> tuple[float, ...]:
        file = schedule.source.get("file")
        return (
            None not in (file, match.identity.file) and file != match.identity.file,
            abs(schedule.budget / schedule.steps - budget / steps),
            abs(schedule.steps - steps),
            _sigma_distance(schedule.sigmas, grid),
        )

    return min(schedules, key=distance)


def _sigma_distance(sigmas: tuple[float, ...] | None, grid: tuple[float, ...]) -> float:
    """How far apart two grids lie at their start, middle and end, in sigma; 0 for a schedule without sigmas."""
    if sigmas is None:
        return 0.0
    ends = ((share * (len(sigmas) - 1), share * (len(grid) - 1)) for share in (0, 0.5, 1))
    return sum(abs(sigma_at(old, sigmas) - sigma_at(new, grid)) for old, new in ends)


def _where_from(original: Schedule, fitted: Schedule) -> str:
    counts = f"{fitted.budget} of {fitted.steps} steps"
    if fitted.name == original.name:
        return f"{original.name}, {original.origin}, {counts}"
    return f"{original.name}, {original.origin} for {original.budget} of {original.steps} steps, resampled to {counts}"


def _every_step(family: str, grid: tuple[float, ...]) -> Schedule:
    steps = len(grid) - 1
    return Schedule(
        name=f"{family}/every-step",
        family=family,
        steps=steps,
        computed=tuple(range(steps)),
        rules=(ESTIMATED_RULE,) * steps,
        origin="custom",
        sigmas=grid,
    )


def _with_rule(selection: Selection, rule: Rule) -> Selection:
    schedule = selection.schedule
    if all(own == rule for own in schedule.rules):
        return selection
    rules = (rule,) * schedule.budget
    source = {**schedule.source, "rules_replaced_by": str(rule)}
    note = f"{selection.note}; its rules replaced by {rule}"
    return Selection(replace(schedule, rules=rules, source=source), note)


def _half_up(value: float) -> int:
    return int(value + 0.5)
