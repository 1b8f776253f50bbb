"""Which segments a calibration in mode ``exact`` replays, and the errors of all others from those.

Where a rule looks at the computed step before the segment, one such step is replayed: as far before the segment as its own
length. To the others its error is carried over in the proportion that the Gram matrices give.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..schedules import Rule


def replayed_edges(segments: np.ndarray) -> np.ndarray:
    """The places of the edges to replay for one sample; ``segments`` are [edges, 4], as ErrorGraph has them."""
    before, start, end, _ = segments.astype(np.int64).T
    return np.flatnonzero(before == np.where(before < 0, before, np.maximum(2 * start - end, 0)))


def errors_of(segments: np.ndarray, rules: Sequence[Rule], replayed: np.ndarray, local: np.ndarray | None) -> np.ndarray:
    """The error of every edge for one sample, [edges]; NaN where nothing speaks for it.

    Args:
        replayed: [edges], the errors that were replayed, NaN elsewhere.
        local: [edges], by how much the latent is off after each segment of an output rule; None for a sampler without a
            response. Without it, and for residual rules, an error holds for every step before.
    """
    errors = replayed.copy()
    own = {tuple(segments[edge, 1:].tolist()): edge for edge in np.flatnonzero(~np.isnan(replayed))}
    for edge in np.flatnonzero(np.isnan(errors)):
        source = own.get(tuple(segments[edge, 1:].tolist()))
        if source is None:
            continue
        errors[edge] = replayed[source]
        if local is not None and rules[segments[edge, 3]].target == "output" and local[source] > 0:
            errors[edge] *= local[edge] / local[source]
    return errors


def replay_calls(segments: np.ndarray, steps: int, replays: np.ndarray) -> int:
    """The steps that are computed for one sample when the edges at these places are replayed."""
    return int((steps - segments[replays, 2].astype(np.int64)).sum())
