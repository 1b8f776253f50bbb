"""What a calibration asks of the model, known before it begins."""

from __future__ import annotations

from collections.abc import Sequence

from ..schedules import Schedule
from .outcome import most_candidates
from .settings import Cost, Settings

NORMAL_RUNS = 40
"""How many full runs mode normal takes at most, where one fit a budget takes less."""

FEW = 0.4
"""Budgets of up to this share of the steps are worth other paths; at higher ones the first is as good as any."""


def tries_of(settings: Settings, budget: int, others: Sequence[Schedule]) -> int:
    """How many paths are measured for a budget in mode exact, at most."""
    fitting = sum(schedule.budget == budget for schedule in others)
    return most_candidates(len(settings.rules), fitting) + settings.tries


def fits_of(settings: Settings, steps: int, samples: int, judges: int) -> dict[int, int]:
    """How many paths are fitted for every budget: one, and in mode normal as many as there is room for.

    What is left of NORMAL_RUNS is shared by the low budgets alike, in model calls.
    """
    fits = {budget: 1 for budget in sorted(set(settings.budgets))}
    low = [budget for budget in fits if budget <= FEW * steps]
    if settings.mode != "normal" or not low:
        return fits
    once = (samples + judges) * (steps + sum(fits))
    left = max(NORMAL_RUNS * steps - once, 0)
    return fits | {budget: 1 + int(left / len(low) / ((samples + judges) * budget)) for budget in low}


def cost_of(
    settings: Settings, steps: int, samples: int, judges: int, replays: int, others: Sequence[Schedule]
) -> Cost:
    """The cost of a whole calibration.

    Args:
        replays: computed steps of one sample, for its replays.
    """
    every = samples + judges
    if settings.fits:
        paths = {budget: every * budget * fits for budget, fits in fits_of(settings, steps, samples, judges).items()}
    else:
        paths = {budget: every * budget * tries_of(settings, budget, others) for budget in set(settings.budgets)}
    return Cost(steps=steps, references=every * steps, replays=samples * replays, paths=paths)
