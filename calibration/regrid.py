"""An error graph on another sigma grid, interpolated: so one calibration serves any step count.

To leading order the error of a segment is a property of the model times a sum over the steps that it reuses. With hold
the value at a reused step k is off in proportion to sigma[i] - sigma[k], with the line through h and i in proportion to
(sigma[i] - sigma[k]) * (sigma[h] - sigma[k]), the remainder of Newton's interpolation; each counts by the width of its
step::

    extent(h, i, j) = sum over k = i+1 .. j-1 of (sigma[i] - sigma[k]) * (sigma[k] - sigma[k+1])               hold, half
    extent(h, i, j) = sum over k = i+1 .. j-1 of (sigma[i] - sigma[k]) * (sigma[h] - sigma[k]) * (sigma[k] - sigma[k+1])
                                                                                                                   linear

The extent is all that depends on how finely the grid is cut. So every error is divided by the extent of its segment on
the grid that it was measured on, what remains is interpolated, and multiplied by the extent on the new grid. What
remains changes slowly with the sigmas of h, i and j; it is interpolated in its logarithm, per sample, at their real
positions in steps of the old grid, linearly in the simplices of Kuhn's triangulation. Their corners lie no further apart
than the floor and the ceiling of the distances wanted, so that none falls outside of what was measured. Segments shorter
than two old steps, or longer than the longest one measured, take what remains of the nearest one with the same middle:
the extent alone tells how their errors shrink or grow. Much longer ones are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..schedules import Rule
from ..schedules.grid import same_grid
from ..schedules.schedule import check_sigmas
from .graph import ErrorGraph
from .segments import GraphError, check_edges

STRETCH = 1.5
"""How many times longer than the longest one measured a segment may be; it takes what remains of the longest one."""

MAX_CELLS = 1 << 23
"""Errors of an interpolated graph, of all samples together, which take some 50 bytes each while they are made."""

MAX_TABLE = 1 << 24
"""Places of the table that is interpolated in, of one rule."""

SMALLEST = 1e-9
"""Errors below this share of the largest one count as that, for their logarithm."""


def regrid(graph: ErrorGraph, sigmas: Sequence[float], longest: int | None = None) -> ErrorGraph:
    """The graph on a grid of N'+1 strictly decreasing sigmas; itself on its own grid.

    The new grid may be a part of the old one; segments with slope rules that start at its first step then behave as
    with hold, whose errors they take. Samples, errors' unit, rules and setup stay, the source says where they are from.

    Args:
        longest: leaves out longer segments, in steps of the new grid.

    Raises:
        GraphError: the new grid reaches beyond the old one, or the old one has measured nothing as short as two steps
            of the new one; or the graph would be too large, which is told before it is made.
        GridError: the sigmas cannot carry a schedule.
    """
    grid = check_sigmas(sigmas)
    if same_grid(graph.sigmas, grid):
        return graph
    problem = out_of_reach(graph, grid)
    if problem:
        raise GraphError(problem)
    count = sum(int((ends * befores).sum()) for ends, befores in fans(graph, grid, longest))
    check_edges(count)
    if count * len(graph.samples) > MAX_CELLS:
        raise GraphError(f"{count} segments of {len(graph.samples)} samples are too many to be interpolated: up to {MAX_CELLS}")
    positions = _positions(graph, grid)
    lengths = graph.segments[:, 2] - graph.segments[:, 1]
    segments, errors = [], []
    for place, rule in enumerate(graph.rules):
        own, reach, second = _of_rule(graph, place)
        rows = _rows(positions, reach, second, longest)
        found = np.full((len(graph.samples), len(rows)), np.nan)
        first = rows[:, 1] == 0
        found[:, ~first] = _interpolated(graph, place, positions, grid, rows[~first], rule.order == "linear")
        found[:, first] = _first_step(graph, rule, positions, grid, rows[first])
        known = ~np.isnan(found).all(axis=0)
        segments.append(np.column_stack([rows[known], np.full(known.sum(), place)]))
        errors.append(found[:, known])
    if not any(map(len, segments)):
        raise GraphError(
            f"its segments have up to {lengths.max(initial=0)} of {graph.steps} steps, and two of {len(grid) - 1} steps are "
            "longer"
        )
    source = {**graph.source, "interpolated_from": graph.steps}
    return replace(graph, sigmas=grid, segments=np.concatenate(segments), errors=np.concatenate(errors, 1), source=source)


def fans(
    graph: ErrorGraph, sigmas: Sequence[float], longest: int | None = None, rule: Rule | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """How large the graph on another grid would be, without making it: two arrays [steps] for every rule, or for one.

    How many segments start at each step of the new grid, and from how many steps before it.
    """
    positions, found = _positions(graph, sigmas), []
    for place, own in enumerate(graph.rules):
        if rule in (None, own):
            _, reach, second = _of_rule(graph, place)
            lasts, earliest = _bounds(positions, reach, longest)
            starts = np.arange(len(positions) - 1)
            befores = np.where(second, np.maximum(starts - earliest, 1), 1)
            found.append((np.maximum(lasts - starts - 1, 0), befores))
    return found


def out_of_reach(graph: ErrorGraph, sigmas: Sequence[float]) -> str:
    """Why a grid is beyond that of the graph: by more than the graph's own step there; empty if it is not."""
    old = graph.sigmas
    if sigmas[0] > old[0] + (old[0] - old[1]) or sigmas[-1] < old[-1] - (old[-2] - old[-1]):
        return f"it covers sigmas {old[0]:.4g} to {old[-1]:.4g}, the run goes from {sigmas[0]:.4g} to {sigmas[-1]:.4g}"
    return ""


def _positions(graph: ErrorGraph, sigmas: Sequence[float]) -> np.ndarray:
    """Where the sigmas lie, in steps of the graph's grid."""
    places = np.interp(-np.asarray(sigmas), -np.asarray(graph.sigmas), np.arange(len(graph.sigmas)))
    return np.round(places, 9)


def _of_rule(graph: ErrorGraph, place: int) -> tuple[np.ndarray, float, bool]:
    """Which edges are of a rule, how long its segments may be in old steps, and whether they name the step before."""
    own = graph.segments[:, 3] == place
    lengths = graph.segments[own, 2] - graph.segments[own, 1]
    return own, STRETCH * float(lengths.max(initial=0)), bool((graph.segments[own, 0] >= 0).any())


def _bounds(positions: np.ndarray, reach: float, longest: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The last end and the earliest step before, for the segments from every step, [steps] each."""
    steps = len(positions) - 1
    most = steps if longest is None else longest
    starts = np.arange(steps)
    lasts = np.minimum(np.searchsorted(positions, positions[:-1] + reach, side="right") - 1, starts + most)
    return lasts, np.maximum(np.searchsorted(positions, positions[:-1] - reach), starts - most)


def _rows(positions: np.ndarray, reach: float, second: bool, longest: int | None) -> np.ndarray:
    """(before, start, end) of every segment of two steps or more that is no longer than ``reach`` old steps, [rows, 3]."""
    lasts, earliest = (bound.tolist() for bound in _bounds(positions, reach, longest))
    found = [np.empty((0, 3), dtype=np.int64)]
    for start in range(len(positions) - 2):
        ends = np.arange(start + 2, lasts[start] + 1)
        befores = np.arange(earliest[start], start) if second and start else np.array([-1])
        pairs = np.stack(np.meshgrid(ends, befores, indexing="ij"), -1).reshape(-1, 2)
        found.append(np.column_stack([pairs[:, 1], np.full(len(pairs), start), pairs[:, 0]]))
    return np.concatenate(found)


def _first_step(
    graph: ErrorGraph, rule: Rule, positions: np.ndarray, grid: Sequence[float], rows: np.ndarray
) -> np.ndarray:
    """Errors of segments from the new grid's first step on, [samples, rows]: no step before them, so all rules hold."""
    hold = Rule(rule.target, "hold")
    if hold in graph.rules:
        return _interpolated(graph, graph.rules.index(hold), positions, grid, rows, linear=False)
    place = graph.rules.index(rule)
    if positions[0] < 1:
        at_zero = np.concatenate([[0.0], positions[1:]])
        return _interpolated(graph, place, at_zero, grid, rows, linear=False)
    return np.full((len(graph.samples), len(rows)), np.nan)


def _interpolated(
    graph: ErrorGraph, place: int, positions: np.ndarray, grid: Sequence[float], rows: np.ndarray, linear: bool
) -> np.ndarray:
    """Errors of one rule's segments, [samples, rows]; NaN where nothing was measured."""
    table = _table(graph, place)
    before, start, end = rows.T
    second = before >= 0
    length = np.clip(positions[end] - positions[start], 2, table.shape[3] - 1)
    gap = np.where(second, np.clip(positions[start] - positions[before], 1, max(table.shape[1] - 1, 1)), 0)
    short = length - (positions[end] - positions[start])
    i = np.minimum(positions[start] - short / 2, graph.steps - length)
    i = np.maximum(i, np.where(second, 1, 0))
    h = i - np.minimum(gap, i)
    corners = np.where(second, h, -1), i, i + length
    logs = _in_simplices(table, *corners)
    return np.exp(logs) * _extent(np.asarray(grid), rows, linear)


def _table(graph: ErrorGraph, place: int) -> np.ndarray:
    """Logarithms of a rule's errors over their extents: [samples, start - before or 0, start, length], NaN if unknown."""
    own = graph.segments[:, 3] == place
    rows = graph.segments[own, :3].astype(np.int64)
    before, start, end = rows.T
    linear = graph.rules[place].order == "linear"
    extents = np.where(
        start > 0, _extent(np.asarray(graph.sigmas), rows, linear), _extent(np.asarray(graph.sigmas), rows, False)
    )
    errors = graph.errors[:, own]
    floor = max(SMALLEST * float(np.nanmax(errors, initial=0.0)), 1e-300)
    gaps = np.where(before >= 0, start - before, 0)
    shape = (len(errors), gaps.max(initial=0) + 1, graph.steps + 1, (end - start).max(initial=2) + 1)
    if math.prod(map(int, shape)) > MAX_TABLE:
        raise GraphError("its segments lie too far apart to be interpolated between")
    table = np.full(shape, np.nan)
    table[:, gaps, start, end - start] = np.log(np.maximum(errors, floor)) - np.log(extents)
    return table


def _extent(sigmas: np.ndarray, rows: np.ndarray, linear: bool) -> np.ndarray:
    """The extents of segments (before, start, end) on a grid, [rows]; where there is no step before, start stands in."""
    before, start, end = rows.T
    widths = -np.diff(sigmas)
    # Summed from the end, where sigmas are small, so that differences of the sums are exact there.
    sums = [np.cumsum((sigmas[:-1] ** power * widths)[::-1])[::-1] for power in range(3)]
    zeroth, first, square = (np.append(one, 0.0)[start + 1] - np.append(one, 0.0)[end] for one in sums)
    at_start = sigmas[start]
    if not linear:
        return at_start * zeroth - first
    at_before = sigmas[np.where(before >= 0, before, start)]
    return at_start * at_before * zeroth - (at_start + at_before) * first + square


def _in_simplices(table: np.ndarray, before: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The table at real positions, [samples, rows]: linear between the corners of the simplex around each."""
    wanted = np.round(np.stack([before, start, end]), 9)
    corner = np.floor(wanted).astype(np.int64)
    shares = wanted - corner
    order = np.argsort(-shares, axis=0, kind="stable")
    descending = np.take_along_axis(shares, order, 0)
    columns = np.arange(corner.shape[1])
    weight = 1 - descending[0]
    total = np.zeros((len(table), corner.shape[1]))
    for turn in range(4):
        if turn:
            corner[order[turn - 1], columns] += 1
            weight = descending[turn - 1] - (descending[turn] if turn < 3 else 0)
        h, i, j = corner
        gap = np.where(before >= 0, i - h, 0)
        places = [np.clip(value, 0, size - 1) for value, size in zip((gap, i, j - i), table.shape[1:])]
        inside = np.all([value == place for value, place in zip((gap, i, j - i), places)], axis=0)
        values = np.where(inside, table[:, places[0], places[1], places[2]], np.nan)
        total += np.where(weight > 1e-8, weight * values, 0.0)
    return total
