"""The segments of a run, in rows: all that may be measured, and whether given ones are segments at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..schedules.schedule import Rule

MAX_EDGES = 1 << 20
"""Of a graph: as many as can be solved, listed and merged in the memory of a small machine."""


class GraphError(ValueError):
    """An error graph, or a file that should hold one, is not valid, or two of them do not go together."""


def all_segments(steps: int, longest: int, rules: Sequence[Rule]) -> np.ndarray:
    """Every segment of up to ``longest`` steps for every rule, as rows for ``ErrorGraph.segments``.

    Rules with a slope get the second order: a row for every computed step within ``longest`` before the segment.
    GraphError for more than a graph may have.
    """
    count = sum(
        max(min(longest, steps - start) - 1, 0) * (min(start, longest) if rule.past > 1 and start else 1)
        for rule in rules for start in range(steps)
    )
    check_edges(count)
    rows = [np.empty((0, 4), dtype=np.int32)]
    for place, rule in enumerate(rules):
        for start in range(steps):
            ends = np.arange(start + 2, min(start + longest, steps) + 1, dtype=np.int32)
            befores = np.arange(max(start - longest, 0), start, dtype=np.int32)
            if rule.past == 1 or not start:
                befores = np.array([-1], dtype=np.int32)
            ends, befores = (one.ravel() for one in np.meshgrid(ends, befores, indexing="ij"))
            rows.append(np.stack([befores, np.full_like(ends, start), ends, np.full_like(ends, place)], axis=1))
    return np.concatenate(rows)


def check_edges(count: int) -> None:
    """GraphError for more segments than a graph may have."""
    if count > MAX_EDGES:
        raise GraphError(f"These are {count} segments, a graph takes {MAX_EDGES}: measure shorter ones, or fewer rules.")


def checked_segments(segments: np.ndarray, steps: int, rules: tuple[Rule, ...]) -> np.ndarray:
    """A copy of [edges, 4] rows that cannot be written to; GraphError when they are not segments of such a run."""
    segments = np.array(segments)
    if segments.dtype.kind not in "iu" or segments.ndim != 2 or segments.shape[1] != 4:
        raise GraphError(
            f"segments are {segments.dtype} of shape {segments.shape}: give whole numbers in rows of before, start, end, "
            "place of the rule."
        )
    check_edges(len(segments))
    before, start, end, place = (column.astype(np.int64) for column in segments.T)
    wrong = (start < 0) | (end < start + 2) | (end > steps) | (before < -1) | (before >= start) & (before >= 0)
    wrong |= (place < 0) | (place >= len(rules))
    if wrong.any():
        raise GraphError(f"{segments[wrong][0].tolist()} is no segment of {steps} steps with {len(rules)} rules.")
    if len(np.unique(segments, axis=0)) < len(segments):
        raise GraphError("A segment is listed twice for one rule: list each one once.")
    for index, rule in enumerate(rules):
        named = before[(place == index) & (start > 0)] >= 0
        if named.any() and not named.all():
            raise GraphError(f"Only some segments of {rule} name the computed step before them: give all or none.")
    segments = segments.astype(np.int32)
    segments.flags.writeable = False
    return segments
