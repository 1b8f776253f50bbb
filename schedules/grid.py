"""Placing computed steps on a sigma grid: comparing grids, reading between their points, rounding to free steps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

GRID_TOLERANCE = 1e-3
STEP_TOLERANCE = 0.1


def same_grid(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two grids of sigmas are one grid, apart from rounding.

    They are when every sigma of one lies within a thousandth of the whole range, or within a tenth of the shorter
    step beside it, of its counterpart: schedulers that read their sigmas from a table of 1000 differ by up to that.
    """
    if len(first) != len(second):
        return False
    span = GRID_TOLERANCE * max(first[0] - first[-1], second[0] - second[-1])
    steps = [above - below for above, below in zip(first, first[1:], strict=False)]
    for k, (one, other) in enumerate(zip(first, second, strict=True)):
        beside = min(steps[max(k - 1, 0)], steps[min(k, len(steps) - 1)])
        if abs(one - other) > max(span, STEP_TOLERANCE * beside):
            return False
    return True


def interpolate(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """The piecewise linear function through (xs, ys) at x; xs increase strictly, outside them the end values hold."""
    if x <= xs[0]:
        return ys[0]
    if x >= xs[-1]:
        return ys[-1]
    right = bisect_right(xs, x)
    left = right - 1
    share = (x - xs[left]) / (xs[right] - xs[left])
    return ys[left] + share * (ys[right] - ys[left])


def position_of(sigma: float, sigmas: Sequence[float]) -> float:
    """Where a sigma lies on a strictly decreasing grid, in steps: 0 at its first sigma, N at its last."""
    return interpolate(-sigma, [-value for value in sigmas], range(len(sigmas)))


def sigma_at(position: float, sigmas: Sequence[float]) -> float:
    """The sigma at a position in steps; the inverse of ``position_of``."""
    return interpolate(position, range(len(sigmas)), sigmas)


def place(targets: Sequence[float], steps: int, *, keep_last: bool) -> tuple[int, ...]:
    """Strictly increasing steps, as near to the wanted positions as they fit, by least squares.

    ``targets``: non-decreasing positions in steps, at most N of them. The first one becomes step 0, and with
    ``keep_last`` the last one step N-1. The distances of strictly increasing steps from their own index never
    decrease, so this is isotonic regression (pool adjacent violators), rounded.
    """
    room = steps - len(targets)
    pools: list[tuple[float, int]] = []
    for index, target in enumerate(targets):
        total, count = target - index, 1
        while pools and pools[-1][0] * count >= total * pools[-1][1]:
            before, size = pools.pop()
            total, count = total + before, count + size
        pools.append((total, count))
    offsets = [min(max(round(total / count), 0), room) for total, count in pools for _ in range(count)]
    offsets[0] = 0
    if keep_last:
        offsets[-1] = room
    return tuple(index + offset for index, offset in enumerate(offsets))
