"""The schedule that a run gets: named, saved as a preset, made for it, resampled, or else estimated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .claim import MADE, claimed, difference, origin_in_words, other_file, other_patches
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
SCOPES = ("these steps", "all steps")
"""Which runs may get what the user saved: those on its sigmas only, or by resampling any other one as well."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The schedule for a run, on the run's own sigmas, and a note on where it came from.

    ``saved``: whether the user saved it as the wanted preset for these very sigmas and this model.
    """

    schedule: Schedule
    note: str
    saved: bool = False


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
    read. Otherwise the first of these that the family has, where ``exact`` is for these sigmas and this model:

    1. the exact schedule that the user saved as this preset, with its own budget;
    2. an exact one of the wanted budget, a measured one before a predicted one, the user's before a packaged one, of
       packaged ones one with fitted weights before one of fixed rules;
    3. what the user saved as this preset for all numbers of steps, or with other patches, with its own share;
    4. the user's nearest measured or predicted one for this file, or else the nearest of all;
    5. an estimate.

    Nearest is by budget ratio, then by steps, then in sigma, of equals one of fixed rules, since weights are not
    resampled; those of another model come last. What the user saved for its own steps only is not resampled. ``rule``
    takes the place of all rules of what was found.

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
        selection = _found(library, match, grid, wanted, (preset or DEFAULT_PRESET) if budget is None else None)
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
    selection = _fitted(schedule, match, grid, budget, "chosen by name: ")
    if schedule.family == match.key:
        return selection
    return replace(selection, note=f"{selection.note}; it was made for {schedule.family}, the model is {match.key}")


def _found(library: Library, match: Match, grid: tuple[float, ...], budget: int, preset: str | None) -> Selection:
    users, packaged = ([one for one in found if one.family == match.key] for found in library.contents()[:2])
    own = [schedule for schedule in users if _applies(schedule, grid)]
    made = [schedule for schedule in own if schedule.origin in MADE]
    saved = [] if preset is None else [schedule for schedule in own if _saved_as(schedule, preset, match)]
    exact = [schedule for schedule in saved if _exact(schedule, match, grid)]
    if exact:
        nearest = max(exact, key=_when_saved)
        return replace(_fitted(nearest, match, grid, nearest.budget, f"saved as {preset}: "), saved=True)
    ready = (*made, *sorted(packaged, key=lambda one: not one.weights))
    exact = [one for one in ready if one.budget == budget and _exact(one, match, grid)]
    if exact:
        return _fitted(min(exact, key=lambda one: MADE.index(one.origin)), match, grid, budget)
    if saved:
        nearest = min(saved, key=lambda one: (*_steps_away(one, grid), -_when_saved(one)))
        share = nearest.budget / nearest.steps * (len(grid) - 1)
        return _fitted(nearest, match, grid, min(max(_half_up(share), 1), len(grid) - 1), f"saved as {preset}: ")
    here = [schedule for schedule in made if not other_file(schedule.source.get("file"), match.identity)]
    if near := here or [*made, *packaged]:
        return _fitted(_nearest(near, match, grid, budget), match, grid, budget)
    title = match.identity.model_class if match.family is None else match.family.title
    note = f"no schedule for {title}: estimated from published lists until this model is calibrated"
    return Selection(estimate(match.key, grid, budget, ESTIMATED_RULE), note)


def _fitted(
    schedule: Schedule, match: Match, grid: tuple[float, ...], budget: int | None, about: str = ""
) -> Selection:
    """A schedule on the run's sigmas, with no more than what it may claim on this model."""
    original, why = claimed(schedule, match.identity)
    fitted = resample(original, grid, budget)
    return Selection(fitted, about + "; ".join(filter(None, [_where_from(original, fitted), why])))


def _applies(schedule: Schedule, grid: tuple[float, ...]) -> bool:
    return schedule.source.get("scope") != SCOPES[0] or _on(schedule, grid)


def _saved_as(schedule: Schedule, preset: str, match: Match) -> bool:
    source = schedule.source
    return source.get("preset") == preset and not other_file(source.get("file"), match.identity)


def _exact(schedule: Schedule, match: Match, grid: tuple[float, ...]) -> bool:
    """Whether a schedule was made on this model and these sigmas."""
    source = schedule.source
    same_model = not difference(source.get("file"), source.get("patches"), match.identity)
    return schedule.origin in MADE and same_model and _on(schedule, grid)


def _on(schedule: Schedule, grid: tuple[float, ...]) -> bool:
    return schedule.sigmas is not None and same_grid(schedule.sigmas, grid)


def _when_saved(schedule: Schedule) -> float:
    when = schedule.source.get("saved")
    return when if isinstance(when, int | float) else 0.0


def _steps_away(schedule: Schedule, grid: tuple[float, ...]) -> tuple[float, ...]:
    return abs(schedule.steps - (len(grid) - 1)), _sigma_distance(schedule.sigmas, grid)


def _nearest(schedules: Iterable[Schedule], match: Match, grid: tuple[float, ...], budget: int) -> Schedule:
    def distance(schedule: Schedule) -> tuple[float, ...]:
        source, identity = schedule.source, match.identity
        return (
            other_file(source.get("file"), identity),
            schedule.origin in MADE and other_patches(source.get("patches"), identity),
            abs(schedule.budget / schedule.steps - budget / (len(grid) - 1)),
            *_steps_away(schedule, grid),
            bool(schedule.weights),
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
    origin = origin_in_words(original)
    if fitted.name == original.name:
        return f"{original.name}, {origin}, {counts}"
    return f"{original.name}, {origin} for {original.budget} of {original.steps} steps, resampled to {counts}"


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
    schedule = schedule.with_rules((rule,) * schedule.budget)
    schedule = replace(schedule, source={**schedule.source, "rules_replaced_by": str(rule)})
    return Selection(schedule, f"{selection.note}; its rules replaced by {rule}")


def _half_up(value: float) -> int:
    return int(value + 0.5)
