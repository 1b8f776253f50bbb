"""Weights of a path's segments, fitted in closed loop: from where the accelerated run really is, to where the full one was.

All samples walk along the path in lockstep. At every segment each tells, in a few inner products, how far it is off and
what its last derivatives can do about it; the weights that bring all of them nearest to the full run are the segment's,
and every sample goes on with them. So later segments put right what earlier ones did, like the corrector of a
predictor-corrector solver, and the whole costs one accelerated run a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .arrival import Segments

PAST = 5
"""How many computed steps a segment's weights look back on, at most."""

RIDGE = 1e-3
"""How strongly weights are drawn to those of the half slope, as a share of what the samples say."""

OVER = 1.2
"""By how much of the deviation at its start a segment is to correct: a little more than all of it lifts the worst sample."""


@dataclass(frozen=True, slots=True)
class Products:
    """What one sample tells of a segment: the mean products of its derivatives' effects, [M, M], theirs with the deviation
    that is to be undone, [M], and that deviation's own square."""

    normal: np.ndarray
    right: np.ndarray
    square: float

    def __add__(self, other: Products) -> Products:
        return Products(self.normal + other.normal, self.right + other.right, self.square + other.square)


class Deviations:
    """How far the answers of an accelerated run are off those of the full one, call by call, at sketched elements.

    Args:
        segments: of the sampler and its grid.
        derivatives: of the full run, [K, C, S].
    """

    def __init__(self, segments: Segments, derivatives: np.ndarray) -> None:
        self._segments = segments
        self._full = derivatives
        self._moves = segments.response.moves.astype(np.float32)
        self._own: list[np.ndarray] = []
        self._off = np.zeros_like(derivatives)

    @property
    def known(self) -> int:
        """How many calls were answered."""
        return len(self._own)

    def answered(self, derivatives: np.ndarray) -> None:
        """The next call has these derivatives, [K, S]."""
        call = self.known
        scale = np.float32(self._segments.scale(self._segments.response.calls[call].sigma))
        latent = 0.0 if self._segments.response.noise else self.latent(call)
        self._own.append(derivatives)
        self._off[:, call] = latent + scale * (self._full[:, call] - derivatives)

    def latent(self, moment: int) -> np.ndarray:
        """How far the latent at a call is off, [S], as far as it comes from answers so far."""
        known = min(self.known, moment)
        return sum(self._moves[kind, moment, :known] @ self._off[kind, :known] for kind in range(len(self._off)))

    def products(self, computed: Sequence[int], end: int) -> Products:
        """What is to be known for the weights of a segment.

        Args:
            computed: the steps that its weights look back on, the newest first: the segment's start.
            end: where it ends.
        """
        segments, start = self._segments, computed[0]
        (arrival,) = segments.arrivals(start, [end], earlier=True)
        kinds, calls, elements = self._full.shape
        undone, full = self._off.reshape(-1, elements), self._full.reshape(-1, elements)
        effects = []
        normal, right, square = np.zeros((len(computed),) * 2), np.zeros(len(computed)), 0.0
        for place, moment in enumerate(segments.moments(end)):
            base = arrival.earlier[place].reshape(-1).astype(np.float32) @ undone
            base += arrival.derivatives[place].reshape(-1).astype(np.float32) @ full
            target = base + (OVER - 1) * self.latent(moment)
            effects = np.stack([
                sum(
                    np.float32(arrival.held[place, kind, stage]) * self._own[segments.past(step, stage, start)][kind]
                    for kind in range(kinds) for stage in segments.stages_of(start)
                )
                for step in computed
            ]).astype(np.float64)
            normal += effects @ effects.T / elements
            right += effects @ target.astype(np.float64) / elements
            square += float(np.square(target, dtype=np.float64).mean())
        return Products(normal, right, square)


def fit(products: Products, prior: Sequence[float]) -> tuple[float, ...]:
    """The weights, newest first, that leave the smallest deviation at the segment's end, drawn to ``prior``."""
    towards = np.asarray(prior, dtype=np.float64)
    strength = products.normal + RIDGE * np.diag(np.diag(products.normal))
    return tuple((towards - np.linalg.solve(strength, products.right + products.normal @ towards)).tolist())


def half_slope(sigmas: Sequence[float], computed: Sequence[int], end: int) -> tuple[float, ...]:
    """The weights that follow half the slope of the last two computed steps, over a segment as a whole.

    Args:
        sigmas: [N + 1], of the steps.
        computed: the steps to look back on, the newest first.
        end: of the segment.
    """
    weights = [1.0] + [0.0] * (len(computed) - 1)
    if len(computed) > 1:
        start, before = computed[:2]
        middle = float(np.mean([sigmas[step] for step in range(start + 1, end)]))
        share = 0.5 * (middle - sigmas[start]) / (sigmas[start] - sigmas[before])
        weights[0] += share
        weights[1] -= share
    return tuple(weights)


Told = tuple[Products | None, ...]
"""Of a path, what samples tell of each of its segments; None of one that reuses nothing."""


def added(told: Sequence[Told]) -> Told:
    """What several samples tell of one path, together."""
    first, *others = told
    for other in others:
        first = tuple(None if one is None else one + more for one, more in zip(first, other, strict=True))
    return first


def fitted(sigmas: Sequence[float], computed: Sequence[int], told: Told) -> tuple[tuple[float, ...], ...]:
    """The weights of a path's segments, as Schedule has them.

    Raises:
        numpy.linalg.LinAlgError: the products are none of real vectors.
    """
    return tuple(
        () if one is None else fit(one, prior_of(sigmas, computed, place)) for place, one in enumerate(told)
    )


def prior_of(sigmas: Sequence[float], computed: Sequence[int], place: int) -> tuple[float, ...]:
    """The weights that a segment has before anything is known of it: half the slope."""
    end = (*computed, len(sigmas) - 1)[place + 1]
    return half_slope(sigmas, computed[place::-1][:PAST], end)
