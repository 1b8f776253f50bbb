"""How far off a whole path ends, from full runs alone: as if the model were deaf to what the path has done before.

A computed step then carries what it carries in the full run, at whatever latent it is asked. That holds where errors are
small, so for budgets of a third of the steps and more; with fewer it says little.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...schedules import Schedule
from .arrival import Segments


def final_deviation(segments: Segments, schedule: Schedule) -> np.ndarray:
    """The deviation of the final latent, as a sum of the full run's derivatives with these weights, [K * C].

    Args:
        segments: of the sampler and its grid.
        schedule: of fixed rules of the output.
    """
    kinds, calls = segments.kinds, segments.calls
    moves, sigmas = segments.response.moves, segments.sigmas
    answers = np.zeros((kinds, calls, kinds, calls))
    opened = {step: place for place, segment in enumerate(schedule.segments()) for step in range(*segment)}

    def latent(moment: int) -> np.ndarray:
        return sum(np.tensordot(moves[kind, moment, :moment], answers[kind, :moment], 1) for kind in range(kinds))

    for call, (step, stage, sigma) in enumerate(segments.response.calls):
        place = opened[step]
        start = schedule.computed[place]
        own, scale = 0.0 if segments.response.noise else latent(call), segments.scale(sigma)
        source = segments.call_of.get((start, stage))
        for kind in range(kinds):
            answers[kind, call] = own
            if step == start or source is None or sigma <= 0:
                continue
            answers[kind, call, kind, call] += scale
            answers[kind, call, kind, source] -= scale
            slope = schedule.rules[place].slope
            older = segments.past(schedule.computed[place - 1], stage, start) if place else source
            if slope and older != source:
                part = slope * scale * (sigma - sigmas[source]) / (sigmas[source] - sigmas[older])
                answers[kind, call, kind, source] -= part
                answers[kind, call, kind, older] += part
    return latent(calls).reshape(-1)


def final_error(segments: Segments, grams: Sequence[np.ndarray], schedule: Schedule) -> float:
    """The root mean square of that deviation, mean over samples with these Gram matrices, [K * C, K * C]."""
    weights = final_deviation(segments, schedule)
    return float(np.mean([np.sqrt(max(weights @ gram @ weights, 0.0)) for gram in grams]))
