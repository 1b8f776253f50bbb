"""How a reused segment arrives: the deviation of a latent after it, as a sum of vectors that are known without the model.

With the derivative d = (x - D) / sigma of an answer D at the latent x, a reused call returns D' = x' - sigma * s, where s
comes from the derivatives of earlier calls. It is off the full run's answer by its latent's own deviation and by
sigma * (d - s). Under a sampler that draws noise what is carried over is D itself: a reused call returns D' = s, from the
answers of earlier calls, which is off by s - D. Both are called the carried values below. The sampler is affine in its
answers, so any later deviation is a sum of such vectors, with numbers that follow from the sampler's response alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Answer(NamedTuple):
    """Where the model answers: the step and stage of a call, and its sigma."""

    step: int
    stage: int
    sigma: float


@dataclass(frozen=True, eq=False, slots=True)
class Response:
    """What a sampler makes of the answers to its C calls.

    Args:
        calls: in their order.
        moves: [kinds, C + 1, C], float64: by how much the latent of a call, or the final one, moves with an answer. The
            first kind is the denoised latent that guidance gives; samplers with "cfg_pp" in their name have a second one,
            that of the negative conditioning alone.
        noise: whether the sampler draws noise besides, so that answers are carried over, and not derivatives.
    """

    calls: tuple[Answer, ...]
    moves: np.ndarray
    noise: bool = False


def euler_response(sigmas: Sequence[float]) -> Response:
    """The response of Euler's method on N + 1 sigmas: x[k+1] = x[k] + (sigma[k+1] - sigma[k]) * d[k]."""
    steps = len(sigmas) - 1
    moves = np.zeros((1, steps + 1, steps))
    for call, (sigma, after) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        moves[0, call + 1, call] = 1.0 - after / sigma
        for moment in range(call + 1, steps):
            moves[0, moment + 1, call] = moves[0, moment, call] * sigmas[moment + 1] / sigmas[moment]
    return Response(tuple(Answer(step, 0, sigma) for step, sigma in enumerate(sigmas[:-1])), moves)


@dataclass(frozen=True, eq=False, slots=True)
class Arrival:
    """The deviation at M moments after a segment, in numbers for K kinds of answers, C calls and G stages.

    Args:
        earlier: [M, K, C], for the deviations of the answers before the segment.
        derivatives: [M, K, C], for what the full run's calls inside of it carry.
        held: [M, K, G], for the part of s that stays the same through the segment, by stage.
        slope: [M, K, G], for the part of s that grows with sigma, from the segment's computed step on.
    """

    earlier: np.ndarray
    derivatives: np.ndarray
    held: np.ndarray
    slope: np.ndarray


class Segments:
    """The arrivals of the segments of one sampler's run.

    Args:
        response: of the sampler on the run's sigmas.
        steps: N.
    """

    def __init__(self, response: Response, steps: int) -> None:
        self.response, self.steps = response, steps
        self.kinds, self.calls = response.moves.shape[0], len(response.calls)
        self.stages = 1 + max(call.stage for call in response.calls)
        self.call_of = {(call.step, call.stage): place for place, call in enumerate(response.calls)}
        self.sigmas = [call.sigma for call in response.calls]

    def scale(self, sigma: float) -> float:
        """By how much an answer falls where its carried value is higher by one."""
        return -1.0 if self.response.noise else sigma

    def stages_of(self, step: int) -> list[int]:
        """The stages that a step has."""
        return [stage for stage in range(self.stages) if (step, stage) in self.call_of]

    def moment(self, step: int) -> int:
        """The first call of a step, or the end of the run for N."""
        return self.calls if step >= self.steps else self.call_of[step, 0]

    def moments(self, end: int) -> list[int]:
        """Where the arrival of a segment counts: at the next computed step, and one later.

        A multistep sampler still looks at the segment's last answers there.
        """
        return sorted({self.moment(end), self.moment(end + 1)})

    def past(self, before: int, stage: int, newest: int) -> int:
        """The call of an earlier step that a reused one of this stage looks at; the newest step's where it has none."""
        return self.call_of.get((before, stage), self.call_of[newest, stage])

    def arrivals(self, start: int, ends: Sequence[int], earlier: bool = False) -> list[Arrival]:
        """The arrivals of the segments from ``start`` to each of the ``ends``, in increasing order.

        Args:
            earlier: whether deviations of earlier answers are asked for; without, the run is the full one up to the start.
        """
        kinds, calls, stages = self.kinds, self.calls, self.stages
        count = kinds * calls
        columns = (count if earlier else 0) + count + 2 * kinds * stages
        first = count if earlier else 0
        held, slope = first + count, first + count + kinds * stages
        moves = self.response.moves
        answers = np.zeros((kinds, calls, columns))
        after = self.moment(start + 1)
        if earlier:
            for kind in range(kinds):
                answers[kind, range(after), range(kind * calls, kind * calls + after)] = 1.0

        def deviation(moment: int, known: int) -> np.ndarray:
            return sum(moves[kind, moment, :known] @ answers[kind, :known] for kind in range(kinds))

        found, call = [], after
        for end in ends:
            while call < self.moment(end):
                stage, sigma = self.response.calls[call].stage, self.sigmas[call]
                source = self.call_of.get((start, stage))
                if source is not None and sigma > 0:
                    scale = self.scale(sigma)
                    own = 0.0 if self.response.noise else deviation(call, call)
                    for kind in range(kinds):
                        answers[kind, call] = own
                        answers[kind, call, first + kind * calls + call] += scale
                        answers[kind, call, held + kind * stages + stage] -= scale
                        answers[kind, call, slope + kind * stages + stage] -= scale * (sigma - self.sigmas[source])
                call += 1
            rows = np.stack([deviation(moment, self.moment(end)) for moment in self.moments(end)])
            parts = np.split(rows, [first, held, slope], axis=1)
            found.append(Arrival(*(part.reshape(len(rows), kinds, part.shape[1] // kinds) for part in parts)))
        return found
