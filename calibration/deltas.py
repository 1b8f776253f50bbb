"""Deltas: how far a reuse has led off the reference at the end of its segment, before any further step.

With output rules this costs no model call, but thousands of runs of the sampler for one sample. Those that reuse the same
start differ only by their rule and by the computed step before it, so a batch of them shares a run, each in its own lane.
Batches are proven before they are trusted: every lane has to arrive at the start with the reference's latent, which no
sampler that draws noise does, and some have to end where a run of one ends.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..cache.lanes import Lane, LaneRun, LanesError
from ..cache.placement import Placement
from ..cache.plan import Call
from ..cache.run import SamplingRun
from ..cache.steps import segment_actions
from ..schedules import Rule, Schedule
from .latents import flat, l1

if TYPE_CHECKING:
    from .replay import Reference
    from .sampling import Sampling

logger = logging.getLogger("LeMiCa")

SAME_LATENT = 1e-4
"""How far a lane may be off the reference at its start, of the latent's mean size: rounding, not noise."""

SAME_DELTA = 0.01
"""How far a lane's delta may be off that of a run of one, of its size, where SAME_LATENT does not cover it."""

BATCH_ERRORS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Of a batch that does not fit into memory, or that a model or one of its conds cannot make; alone they show, or do not."""

Observe = Callable[[Call | None, torch.Tensor], None]
NewRun = Callable[[Sequence[float], Observe], SamplingRun]


class _Enough(Exception):
    """Ends a run whose rest is of no interest."""


class Deltas:
    """Measures deltas of one sample.

    Args:
        sampling: the sample.
        reference: its full run.
    """

    def __init__(self, sampling: Sampling, reference: Reference) -> None:
        self._sampling, self._reference = sampling, reference
        self._steps = len(sampling.sigmas) - 1

    def of_segments(self, segments: np.ndarray, rules: Sequence[Rule]) -> np.ndarray:
        """The L1 distance at the end of every segment, [edges]; ``segments`` are [edges, 4], as ErrorGraph has them."""
        most = self._sampling.most_lanes
        if most > 1:
            try:
                return self._of_segments(segments, rules, most)
            except BATCH_ERRORS as error:
                logger.info("Segments of seed %d are measured one by one: %s", self._sampling.sample.seed, error)
        return self._of_segments(segments, rules, 1)

    def _of_segments(self, segments: np.ndarray, rules: Sequence[Rule], most: int) -> np.ndarray:
        """As ``of_segments``, with up to ``most`` lanes a run."""
        edges: dict[tuple[int, Lane], dict[int, int]] = {}
        for edge, (before, start, end, kind) in enumerate(segments.tolist()):
            edges.setdefault((start, Lane(before, rules[kind])), {})[end] = edge
        found = np.full(len(segments), np.nan)
        proven: set[str] = set()
        for start, lanes in _batches(edges, most):
            ends = sorted({end for lane in lanes for end in edges[start, lane]})
            if len(lanes) == 1:
                deltas = [self.of_one(start, lanes[0], ends)]
            else:
                target = lanes[0].rule.target
                deltas = self._of_lanes(start, lanes, ends, target not in proven)
                proven.add(target)
            for lane, by_end in zip(lanes, deltas, strict=True):
                for end, edge in edges[start, lane].items():
                    found[edge] = by_end[end]
        return found

    def of_one(self, start: int, lane: Lane, ends: Sequence[int]) -> dict[int, float]:
        """The deltas at ``ends``, N being the final latent, from a run of their own."""
        schedule = segment_schedule(self._steps, lane.before, start, self._steps, lane.rule)
        actions = segment_actions(self._steps, start, self._steps)
        found = self._run(
            lambda sigmas, observe: SamplingRun(
                schedule, sigmas, Placement("auto"), actions, self._reference.trajectory, observe=observe
            ),
            start, 1, ends,
        )
        return found[0]

    def _of_lanes(self, start: int, lanes: Sequence[Lane], ends: Sequence[int], prove: bool) -> list[dict[int, float]]:
        """The deltas of every lane at ``ends``, from one run; LanesError where they are not to be trusted."""
        found = self._run(
            lambda sigmas, observe: LaneRun(start, lanes, sigmas, self._reference.trajectory, observe),
            start, len(lanes), ends,
        )
        for place in (0, -1) if prove else ():
            self._prove(found[place], self.of_one(start, lanes[place], ends))
        return found

    def _prove(self, lane: dict[int, float], alone: dict[int, float]) -> None:
        size = SAME_LATENT * self._reference.latents[self._steps].abs().mean().item()
        for end, delta in alone.items():
            if not math.isclose(lane[end], delta, rel_tol=SAME_DELTA, abs_tol=size):
                raise LanesError(f"in a batch one ends {lane[end]:.3g} off the full run, alone {delta:.3g}.")

    def _run(self, new_run: NewRun, start: int, lanes: int, ends: Sequence[int]) -> list[dict[int, float]]:
        """The deltas of every lane of one run."""
        latents = self._reference.latents
        found: list[dict[int, float]] = [{} for _ in range(lanes)]

        def measure(step: int, x: torch.Tensor) -> None:
            for lane, row in zip(found, flat(x).view(lanes, -1)):
                lane[step] = l1(row, latents[step])

        def observe(call: Call | None, x: torch.Tensor) -> None:
            if call is None and lanes > 1:
                raise LanesError("a call cannot be told to its step.")
            if call is not None and call.stage == 0:
                if call.step == start and lanes > 1:
                    self._check_start(start, x, lanes)
                if call.step in ends:
                    measure(call.step, x)
            if call is None or call.step >= ends[-1]:
                raise _Enough

        try:
            final = self._sampling.run(lambda sigmas: new_run(sigmas, observe), lanes=lanes)
        except _Enough:
            return found
        for end in [end for end in ends if end not in found[0]]:
            measure(end, final)
        return found

    def _check_start(self, start: int, x: torch.Tensor, lanes: int) -> None:
        """LanesError unless every lane is where the reference was."""
        latent = self._reference.latents[start]
        off = (flat(x).view(lanes, -1) - latent).abs().max().item()
        if not off <= SAME_LATENT * latent.abs().mean().item():
            raise LanesError("the sampler gives the parts of a batch different latents, as one that draws noise does.")


def _batches(edges: Iterable[tuple[int, Lane]], most: int) -> Iterator[tuple[int, list[Lane]]]:
    """What may share a run, the last starts first: lanes of one start and target, one at step 0.

    There no sampler has drawn noise yet, so that nothing would show it.
    """
    places: dict[tuple[int, str], list[Lane]] = {}
    for start, lane in edges:
        places.setdefault((start, lane.rule.target), []).append(lane)
    for (start, _), lanes in sorted(places.items(), key=lambda item: item[0], reverse=True):
        size = most if start > 0 else 1
        yield from ((start, lanes[place : place + size]) for place in range(0, len(lanes), size))


def segment_schedule(steps: int, before: int, start: int, end: int, rule: Rule) -> Schedule:
    """The schedule whose rules act on the segment: computed before it at ``before`` only, and from its end on."""
    computed = tuple(sorted({0, max(before, 0), start, *range(end, steps)}))
    return Schedule("segment", "any", steps, computed, (rule,) * len(computed), "custom")
