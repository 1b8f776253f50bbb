"""The prior: a schedule for a model that has none, from what the published lists have in common.

Derivation of ``library/prior.json`` (``derive`` recomputes it): every published list is a quantile function u(q), the
computed step number q * (B-1) as a share u = k / (N-1) of the run. Within a family it is interpolated linearly
between the budget ratios B/N of its lists, from the smallest one down held, and from the largest one up towards the
run that computes every step, u(q) = q at B/N = 1. The prior is the mean over the families, each counted once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from .grid import interpolate, place
from .schedule import MAX_NAME, Rule, Schedule, ScheduleError, check_sigmas, is_count

PRIOR_FILE = Path(__file__).parent / "library" / "prior.json"
BUDGET_RATIOS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
QUANTILES = tuple(k / 20 for k in range(21))
DIGITS = 4


def estimate(family: str, sigmas: Sequence[float], budget: int, rule: Rule) -> Schedule:
    """An estimated schedule for N+1 sigmas with exactly ``budget`` computed steps, the same rule everywhere.

    From a budget of 3 up the last step computes, as in the published lists. Raises GridError for sigmas that cannot
    carry a schedule, ScheduleError for a budget outside 1 .. N.
    """
    grid = check_sigmas(sigmas)
    steps = len(grid) - 1
    if not is_count(budget) or not 1 <= budget <= steps:
        raise ScheduleError(f"budget is {budget!r}: give a whole number from 1 to {steps}.")
    ratios, quantiles, rows = _table()
    row = [interpolate(budget / steps, ratios, column) for column in zip(*rows, strict=True)]
    keep_last = budget >= 3
    intervals = budget - 1 if keep_last else budget
    targets = [(steps - 1) * interpolate(b / intervals, quantiles, row) for b in range(budget)]
    suffix = f"/estimated-{steps}b{budget}"
    return Schedule(
        name=f"{family[: MAX_NAME - len(suffix)].rstrip()}{suffix}",
        family=family,
        steps=steps,
        computed=place(targets, steps, keep_last=keep_last),
        rules=(rule,) * budget,
        origin="estimated",
        sigmas=grid,
        source={"method": "mean of the published LeMiCa lists at this budget ratio"},
    )


def derive(schedules: Iterable[Schedule]) -> dict[str, object]:
    """The content of ``library/prior.json``, recomputed from published schedules; other origins are left out."""
    families: dict[str, list[Schedule]] = {}
    for schedule in schedules:
        if schedule.origin == "published":
            families.setdefault(schedule.family, []).append(schedule)
    if not families:
        raise ScheduleError("There is no published schedule to derive the prior from: pass the packaged library's.")
    curves = [_curves(family) for family in families.values()]
    return {
        "kind": "prior",
        "schema": 1,
        "about": "Mean quantile function of the computed steps over the families with published lists, "
        "by budget ratio B/N; positions are shares k/(N-1) of the run. Recompute with schedules.prior.derive.",
        "lists": sum(len(family) for family in families.values()),
        "families": sorted(families),
        "budget_ratios": list(BUDGET_RATIOS),
        "quantiles": list(QUANTILES),
        "positions": [_mean_curve(curves, ratio) for ratio in BUDGET_RATIOS],
    }


def _curves(family: Iterable[Schedule]) -> list[tuple[float, list[float]]]:
    """The quantile functions of one family, by increasing budget ratio, up to the run that computes every step."""
    curves = {schedule.budget / schedule.steps: _quantile_function(schedule) for schedule in family}
    curves[1.0] = list(QUANTILES)
    return sorted(curves.items())


def _quantile_function(schedule: Schedule) -> list[float]:
    last = schedule.budget - 1
    steps = [interpolate(q * last, range(schedule.budget), schedule.computed) for q in QUANTILES]
    return [step / (schedule.steps - 1) for step in steps]


def _mean_curve(curves: Sequence[list[tuple[float, list[float]]]], ratio: float) -> list[float]:
    """The mean of the families' quantile functions at one budget ratio, each read between its lists."""
    at_ratio = []
    for curve in curves:
        ratios, rows = zip(*curve, strict=True)
        at_ratio.append([interpolate(ratio, ratios, column) for column in zip(*rows, strict=True)])
    return [round(sum(values) / len(values), DIGITS) for values in zip(*at_ratio, strict=True)]


@cache
def _table() -> tuple[list[float], list[float], list[list[float]]]:
    data = json.loads(PRIOR_FILE.read_text(encoding="utf-8"))
    return data["budget_ratios"], data["quantiles"], data["positions"]
