"""What is replayed in each mode, what that costs, and the error of every segment from what was replayed.

The error of a segment in the final latent is close to its gain times its delta: the L1 distance that its reuse makes at
its own end, which costs no model call with output rules. The gain says what the rest of the trajectory makes of a
distance there; it depends on the end step far more than on the segment, and its shape differs between models and
samples, so it is measured for every sample: ``quick`` at a few ends, ``standard`` at every end, ``exact`` for every
segment and rule. Where a rule looks at the computed step before the segment, ``exact`` replays one such step and
carries the gain that it finds over to the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..schedules import Rule
from .graph import MODES
from .segments import GraphError

QUICK_ENDS = 6
"""How many ends ``quick`` replays."""


def replayed_edges(segments: np.ndarray, steps: int, rules: Sequence[Rule], mode: str, tails: bool = False) -> np.ndarray:
    """The places of the edges to replay for one sample, in the order in which that is done.

    Args:
        segments: [edges, 4], as ErrorGraph has them.
        steps: N.
        rules: those that the segments' last column counts.
        mode: one of MODES.
        tails: whether edges that end at N are replayed too; a latent's distance there is the final error as it is.
    """
    if mode not in MODES:
        raise GraphError(f"mode is {mode!r}: choose one of {', '.join(MODES)}.")
    before, start, end, rule = segments.astype(np.int64).T
    inner = end < steps if not tails else np.full(len(segments), True)
    lengths = end - start
    # The step before the segment that is replayed for all of them: as far before it as its own length.
    wanted = np.where(before < 0, before, np.maximum(start - lengths, 0))
    own = inner & (before == wanted)
    if mode == "exact":
        return np.flatnonzero(own)
    ends = np.unique(end[own])
    if mode == "quick" and len(ends) > QUICK_ENDS:
        ends = np.unique(ends[np.linspace(0, len(ends) - 1, QUICK_ENDS).round().astype(int)])
    half = (lengths.max(initial=2) + 1) // 2
    chosen = []
    for target in dict.fromkeys(one.target for one in rules):
        kind = next(index for index, one in enumerate(rules) if one.target == target)
        found = np.flatnonzero(own & np.isin(end, ends) & (rule == kind))
        found = found[np.lexsort((found, np.abs(lengths[found] - half), end[found]))]
        chosen.append(found[np.unique(end[found], return_index=True)[1]])
    return np.sort(np.concatenate(chosen))


def errors_of(
    segments: np.ndarray, steps: int, rules: Sequence[Rule], deltas: np.ndarray, replayed: np.ndarray,
    latent_metric: bool = True,
) -> np.ndarray:
    """The error of every edge for one sample, [edges]; NaN where nothing speaks for it.

    An error that was replayed stands. A tail's delta is the final error itself, with a latent metric. Other errors are
    the delta times a gain: that of the same segment and rule if one was replayed, else that of its end for rules of
    its target, interpolated over the ends in its logarithm.

    Args:
        deltas: [edges], the L1 distance at every segment's end.
        replayed: [edges], the errors that were replayed, NaN elsewhere.
        latent_metric: whether the errors are L1 distances of the final latent, as the deltas at N are.
    """
    errors = replayed.copy()
    tails = segments[:, 2] == steps
    if latent_metric:
        errors = np.where(tails & np.isnan(errors), deltas, errors)
    with np.errstate(divide="ignore", invalid="ignore"):
        gains = np.where(deltas > 0, replayed / deltas, np.nan)
    usable = np.isfinite(gains) & (gains > 0)
    own = {tuple(segments[place, 1:].tolist()): gains[place] for place in np.flatnonzero(usable)}
    per_end = {
        target: _gains_by_end(segments, gains, usable & np.isin(segments[:, 3], kinds))
        for target, kinds in _kinds_by_target(rules).items()
    }
    ends = np.arange(steps + 1)
    curves = {
        target: np.exp(np.interp(ends, list(found), np.log(list(found.values())))) if found else np.full(steps + 1, np.nan)
        for target, found in per_end.items()
    }
    for place in np.flatnonzero(np.isnan(errors)):
        _, start, end, kind = segments[place].tolist()
        gain = own.get((start, end, kind), curves[rules[kind].target][end])
        errors[place] = 0.0 if deltas[place] == 0.0 else gain * deltas[place]
    return errors


def replay_calls(segments: np.ndarray, steps: int, replays: np.ndarray) -> int:
    """The steps that are computed for one sample when the edges at these places are replayed."""
    return int((steps - segments[replays, 2].astype(np.int64)).sum())


def _kinds_by_target(rules: Sequence[Rule]) -> dict[str, list[int]]:
    kinds: dict[str, list[int]] = {}
    for index, rule in enumerate(rules):
        kinds.setdefault(rule.target, []).append(index)
    return kinds


def _gains_by_end(segments: np.ndarray, gains: np.ndarray, usable: np.ndarray) -> dict[int, float]:
    """The median gain at every end that has one."""
    ends = segments[:, 2]
    return {int(end): float(np.median(gains[usable & (ends == end)])) for end in np.unique(ends[usable])}
