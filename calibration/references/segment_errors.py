"""The errors of all segments under all rules, from Gram matrices alone: no model call, and no run of the sampler."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...schedules import Rule
from .arrival import Arrival, Segments

RIDGE = 1e-9
"""Of the trace, so that two derivatives that are nearly one have a fit."""


def segment_errors(
    segments: Segments, grams: Sequence[np.ndarray], rows: np.ndarray, rules: Sequence[Rule]
) -> np.ndarray:
    """The root mean square by which the latent is off after each segment alone, [samples, edges].

    A fitted rule looks back on the segment's start and the computed step before it, with the weights that are best for
    all samples.

    Args:
        segments: of the sampler and its grid.
        grams: of every sample, [K * C, K * C].
        rows: [edges, 4], as ErrorGraph has its segments.
        rules: those that the last column counts.
    """
    stacked = np.stack(grams)
    errors = np.full((len(stacked), len(rows)), np.nan)
    order = np.lexsort((rows[:, 2], rows[:, 1]))
    starts, first = np.unique(rows[order, 1], return_index=True)
    for start, of_start in zip(starts.tolist(), np.split(order, first[1:]), strict=True):
        ends, first_of_end = np.unique(rows[of_start, 2], return_index=True)
        arrivals = segments.arrivals(start, ends.tolist())
        for arrival, edges in zip(arrivals, np.split(of_start, first_of_end[1:]), strict=True):
            errors[:, edges] = _errors(segments, stacked, arrival, start, rows[edges], rules)
    return errors


def _errors(
    segments: Segments, grams: np.ndarray, arrival: Arrival, start: int, rows: np.ndarray, rules: Sequence[Rule]
) -> np.ndarray:
    """The errors of the edges of one segment, [samples, edges]."""
    befores, place = np.unique(rows[:, 0], return_inverse=True)
    known = befores >= 0
    own = _held(segments, arrival, np.array([start]), start)[0]
    held = np.where(known[:, None, None], _held(segments, arrival, befores, start), 0.0)
    slopes = np.where(known[:, None, None], _slope(segments, arrival, befores, start), 0.0)
    vectors = np.stack([arrival.derivatives.reshape(own.shape), own, *held, *slopes], axis=1)  # [M, U, K * C]
    used = np.flatnonzero(vectors.any(axis=(0, 1)))  # of a long run few: those inside the segment and the computed ones
    vectors = vectors[..., used]
    products = (vectors @ grams[:, None, used[:, None], used] @ vectors.transpose(0, 2, 1)).mean(axis=1)
    fitted = np.array([rules[kind].fitted for kind in rows[:, 3].tolist()])
    slope = np.array([0.0 if rules[kind].fitted else rules[kind].slope for kind in rows[:, 3].tolist()])
    other = 2 + place + np.where(fitted, 0, len(befores))
    weights = np.stack([np.ones(len(rows)), slope * known[place]], axis=1)
    if fitted.any():
        weights[fitted] = _least_squares(products.sum(axis=0), other[fitted], known[place[fitted]])
    first, second = weights.T
    squares = (
        products[:, 0, 0, None] + first**2 * products[:, 1, 1, None] + second**2 * products[:, other, other]
        + 2 * (first * products[:, 0, 1, None] + second * products[:, 0, other] + first * second * products[:, 1, other])
    )
    return np.sqrt(np.maximum(squares, 0.0))


def _held(segments: Segments, arrival: Arrival, steps: np.ndarray, start: int) -> np.ndarray:
    """What the derivatives of each computed step make of the arrival, [steps, M, K * C], for a weight of one."""
    found = np.zeros((len(steps), len(arrival.held), segments.kinds, segments.calls))
    for stage in segments.stages_of(start):
        for place, step in enumerate(steps.tolist()):
            found[place, :, :, segments.past(step, stage, start)] += arrival.held[:, :, stage]
    return found.reshape(*found.shape[:2], -1)


def _slope(segments: Segments, arrival: Arrival, befores: np.ndarray, start: int) -> np.ndarray:
    """What the whole slope from each of the steps before makes of the arrival, [steps, M, K * C]."""
    found = np.zeros((len(befores), len(arrival.slope), segments.kinds, segments.calls))
    for stage in segments.stages_of(start):
        newest = segments.call_of[start, stage]
        for place, before in enumerate(befores.tolist()):
            older = segments.past(before, stage, start)
            if newest != older:
                part = arrival.slope[:, :, stage] / (segments.sigmas[newest] - segments.sigmas[older])
                found[place, :, :, newest] += part
                found[place, :, :, older] -= part
    return found.reshape(*found.shape[:2], -1)


def _least_squares(products: np.ndarray, other: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The weights of the start and of another step, [edges, 2], that leave least over all samples.

    Args:
        products: of the vectors with one another: the deviation, the start's effect, those of the other steps.
        other: [edges], which of them is the other step's.
        known: [edges], whether there is another step.
    """
    normal = np.empty((len(other), 2, 2))
    normal[:, 0, 0], normal[:, 1, 1] = products[1, 1], np.where(known, products[other, other], 1.0)
    normal[:, 0, 1] = normal[:, 1, 0] = np.where(known, products[1, other], 0.0)
    normal += RIDGE * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(2)
    right = np.stack([np.full(len(other), products[0, 1]), np.where(known, products[0, other], 0.0)], axis=1)
    return -np.linalg.solve(normal, right[..., None])[..., 0]
