"""The errors of all segments under all rules, from Gram matrices alone: an ErrorGraph without a model call."""

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

    Args:
        segments: of the sampler and its grid.
        grams: of every sample, [K * C, K * C].
        rows: [edges, 4], as ErrorGraph has its segments.
        rules: those that the last column counts; fitted ones get their weights by least squares over all samples.
    """
    grams = np.stack(grams)
    errors = np.full((len(grams), len(rows)), np.nan)
    by_start: dict[int, dict[int, list[int]]] = {}
    for edge, (_, start, end, _) in enumerate(rows.tolist()):
        by_start.setdefault(start, {}).setdefault(end, []).append(edge)
    for start, by_end in by_start.items():
        ends = sorted(by_end)
        for end, arrival in zip(ends, segments.arrivals(start, ends), strict=True):
            edges = by_end[end]
            errors[:, edges] = _errors(segments, grams, arrival, start, rows[edges], rules)
    return errors


def _errors(
    segments: Segments, grams: np.ndarray, arrival: Arrival, start: int, rows: np.ndarray, rules: Sequence[Rule]
) -> np.ndarray:
    """The errors of the edges of one segment, [samples, edges]."""
    befores = sorted(set(rows[:, 0].tolist()) - {-1})
    place = {before: index for index, before in enumerate(befores)}
    own = _held(segments, arrival, start, start)
    held = np.stack([_held(segments, arrival, before, start) for before in befores]) if befores else np.empty((0, *own.shape))
    slopes = np.stack([_slope(segments, arrival, before, start) for before in befores]) if befores else held
    base = arrival.derivatives.reshape(own.shape)
    squares = np.zeros((len(grams), len(rows)))
    fits: dict[int, list[np.ndarray]] = {}
    for moment in range(len(base)):
        vectors = np.concatenate([base[None, moment], own[None, moment], held[:, moment], slopes[:, moment]])
        products = vectors @ grams @ vectors.T  # [samples, U, U]
        fits.setdefault(0, []).append(products)
    count = len(befores)
    for edge, (before, _, _, kind) in enumerate(rows.tolist()):
        rule = rules[kind]
        index = place.get(before)
        if rule.order == "fitted":
            taken = [1] if index is None else [1, 2 + index]
            weights = _least_squares(fits[0], taken)
            numbers = {0: 1.0, **dict(zip(taken, weights))}
        else:
            numbers = {0: 1.0, 1: 1.0}
            if rule.slope and index is not None:
                numbers[2 + count + index] = rule.slope
        used, values = list(numbers), np.array(list(numbers.values()))
        for products in fits[0]:
            squares[:, edge] += np.einsum("a,sab,b->s", values, products[:, used][:, :, used], values)
    return np.sqrt(np.maximum(squares, 0.0) / len(base))


def _held(segments: Segments, arrival: Arrival, step: int, start: int) -> np.ndarray:
    """What the derivatives of a computed step make of the arrival, [M, K * C], for a weight of one."""
    found = np.zeros((len(arrival.held), segments.kinds, segments.calls))
    for stage in range(segments.stages):
        if (start, stage) in segments.call_of:
            found[:, :, segments.past(step, stage, start)] += arrival.held[:, :, stage]
    return found.reshape(len(found), -1)


def _slope(segments: Segments, arrival: Arrival, before: int, start: int) -> np.ndarray:
    """What the whole slope between two computed steps makes of the arrival, [M, K * C]."""
    found = np.zeros((len(arrival.slope), segments.kinds, segments.calls))
    sigmas = segments.response.sigmas
    for stage in range(segments.stages):
        if (start, stage) in segments.call_of and (before, stage) in segments.call_of:
            newest, older = segments.call_of[start, stage], segments.call_of[before, stage]
            part = arrival.slope[:, :, stage] / (sigmas[newest] - sigmas[older])
            found[:, :, newest] += part
            found[:, :, older] -= part
    return found.reshape(len(found), -1)


def _least_squares(products: Sequence[np.ndarray], taken: Sequence[int]) -> np.ndarray:
    """The weights of these vectors that bring the first one nearest to nothing, over all samples and moments."""
    total = sum(each.sum(axis=0) for each in products)
    normal = total[np.ix_(taken, taken)]
    return np.linalg.solve(normal + RIDGE * np.trace(normal) * np.eye(len(taken)), -total[taken, 0])
