"""Tells every call of a sampler to its step, and says when it no longer can."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .clock import Read, SigmaCheck, read, same_sigma
from .plan import Call

LEFT = "the sampler leaves the sigmas of its rehearsal"



LEFT = "the sampler leaves the sigmas of its rehearsal"


class CallLocator:
    """Follows the sampler's calls along its rehearsed plan or, without one, along its sigmas.

    Once a call cannot be told to a step, none after it can: ``lost`` then says why. On a device that may show late:
    ``strayed`` are the calls, by number, that were told to a step before it did, though they may not belong to it.

    Args:
        sigmas: the N + 1 sigmas of the run.
        plan: the calls of the rehearsal, or None.
        read: begins to read the sigma of a call.
    """

    def __init__(self, sigmas: Sequence[float], plan: Sequence[Call] | None, read: Read = read) -> None:
        self.lost = ""
        self.strayed: dict[int, Call] = {}
        self._sigmas = sigmas
        self._plan = plan
        self._calls = 0
        self._sigma_check = SigmaCheck(read)

    def next(self, timestep: torch.Tensor) -> Call | None:
        """The call that the sampler now makes at ``timestep``, [B], or None where that is unknown."""
        if self.lost:
            return None
        call = self._by_sigma(float(timestep.flatten()[0])) if self._plan is None else self._by_plan(timestep)
        self._calls += 1
        return call

    def _by_plan(self, timestep: torch.Tensor) -> Call | None:
        if self._calls >= len(self._plan):
            return self.lose("the sampler makes more calls than it made in rehearsal")
        call = self._plan[self._calls]
        wrong = self._sigma_check.wrong(timestep, call)
        if wrong is None:
            return call
        self._stray(wrong)
        return self.lose(LEFT)

    def settle(self) -> bool:
        """The sampler has made its last call: wait for what is not known yet of its calls; False where some strayed."""
        wrong = self._sigma_check.rest()
        if wrong is not None and not self.strayed:
            self._stray(wrong)
            self.lost = self.lost or f"{LEFT}, which showed at its end"
        return not self.strayed

    def _stray(self, wrong: int) -> None:
        self.strayed = dict(enumerate(self._plan[wrong : self._calls], wrong))

    def _by_sigma(self, sigma: float) -> Call | None:
        """Without a plan a call is step k only where k calls came before it, each at the sigma of its step."""
        step = self._calls
        if step < len(self._sigmas) - 1 and same_sigma(sigma, self._sigmas[step]):
            return Call(step, 0, sigma)
        return self.lose("the sampler's calls do not follow its sigmas one by one")

    def lose(self, why: str) -> None:
        """No call from here on is to be told to a step."""
        self.lost = self.lost or f"{why}: computing every step from call {self._calls} on"
