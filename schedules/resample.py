"""A schedule on another sigma grid, or with another budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .grid import interpolate, place, position_of, same_grid, sigma_at
from .schedule import MAX_NAME, Schedule, ScheduleError, check_sigmas, is_count, without_figures

SHORTEST_OVERLAP = 1e-6


def resample(schedule: Schedule, sigmas: Sequence[float], budget: int | None = None) -> Schedule:
    """The schedule on a grid of N'+1 strictly decreasing sigmas, with the wanted budget B'.

    The computed steps of the old schedule, read as a function of their number (its quantile function), are read
    again at B' evenly spaced numbers; every position found goes through sigma to the nearest free step of the new
    grid. So it stays dense where it was dense. A schedule without sigmas is mapped on the share k/N of the run
    instead. A new grid that covers only a part of the old one (img2img, ``start_at_step``) is read from that part.

    Without ``budget`` the share of computed steps is kept: B * N'/N, or for a part of the old grid in proportion to
    the computed steps that the old schedule has in that part, its first step among them; at least 1. A budget above
    N' computes every step. A schedule that computes its last step goes on doing so, from a budget of 3 up.

    Equal grids (see ``same_grid``) and equal budgets give the schedule itself. On others its fitted weights do not apply:
    its like without a fit is resampled. A schedule without sigmas whose
    steps and budget are equal only gets the sigmas. Anything else is marked: origin ``resampled`` (an estimated
    schedule stays ``estimated``) and ``source`` with ``resampled_from`` and ``origin``, without what was measured.

    Raises GridError for sigmas that cannot carry a schedule, ScheduleError for a budget below 1.
    """
    grid = check_sigmas(sigmas)
    steps = len(grid) - 1
    if budget is not None and (not is_count(budget) or budget < 1):
        raise ScheduleError(f"budget is {budget!r}: give a whole number from 1 to {steps}.")

    old_steps = schedule.steps
    located = _located(schedule, grid)
    positions = [_old_position(k, schedule, grid, located) for k in range(steps + 1)]
    first, last = positions[0], positions[-1]
    inside = [step for step in schedule.computed if first + 0.5 <= step < last - 0.5]
    marks = [first, *inside, last]
    old_budget = len(marks) - 1

    if budget is None:
        budget = round(old_budget * steps / (last - first))
    budget = min(max(budget, 1), steps)

    if steps == old_steps and budget == schedule.budget:
        if schedule.sigmas is None:
            return replace(schedule, sigmas=grid)
        if same_grid(schedule.sigmas, grid):
            return schedule

    schedule = schedule.unfitted()
    keep_last = budget >= 3 and marks[-2] == old_steps - 1
    old_intervals, intervals = (old_budget - 1, budget - 1) if keep_last else (old_budget, budget)
    wanted = [interpolate(old_intervals * b / intervals, range(len(marks)), marks) for b in range(budget)]
    targets = [_new_position(position, schedule, grid, located) for position in wanted]
    computed = place(targets, steps, keep_last=keep_last)
    return Schedule(
        name=_resampled_name(schedule, steps, budget),
        family=schedule.family,
        steps=steps,
        computed=computed,
        rules=tuple(schedule.rules[_segment_at(positions[step], schedule)] for step in computed),
        origin="estimated" if schedule.origin == "estimated" else "resampled",
        sigmas=grid,
        source={"resampled_from": schedule.name, "origin": schedule.origin, **without_figures(schedule.source)},
    )


def _located(schedule: Schedule, grid: Sequence[float]) -> bool:
    """Whether the new grid can be found on the old one: the old one has sigmas, and the two ranges overlap."""
    if schedule.sigmas is None:
        return False
    overlap = min(grid[0], schedule.sigmas[0]) - max(grid[-1], schedule.sigmas[-1])
    return overlap > SHORTEST_OVERLAP * (schedule.sigmas[0] - schedule.sigmas[-1])


def _old_position(step: int, schedule: Schedule, grid: Sequence[float], located: bool) -> float:
    """The position in the old run, in steps, of a step of the new one."""
    if located:
        return position_of(grid[step], schedule.sigmas)
    return step * schedule.steps / (len(grid) - 1)


def _new_position(position: float, schedule: Schedule, grid: Sequence[float], located: bool) -> float:
    """The position in the new run, in steps, of a position in the old one; the inverse of ``_old_position``."""
    if located:
        return position_of(sigma_at(position, schedule.sigmas), grid)
    return position * (len(grid) - 1) / schedule.steps


def _segment_at(position: float, schedule: Schedule) -> int:
    """The index of the old segment that covers a position, rounded to whole steps."""
    step = round(position)
    return max(index for index, start in enumerate(schedule.computed) if start <= step)


def _resampled_name(schedule: Schedule, steps: int, budget: int) -> str:
    suffix = f"@{steps}b{budget}"
    return f"{schedule.name[: MAX_NAME - len(suffix)].rstrip()}{suffix}"
