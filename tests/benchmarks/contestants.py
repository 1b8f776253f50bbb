"""Everything that spends a budget of model calls on one model and sampler, in one order for all tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import peers
import torch
from arena import Arena, Run, on_sigmas
from lemica.calibration import ErrorGraph, solve
from lemica.calibration.outcome import Route, uniform
from lemica.schedules import Library, Rule, Schedule, resample

if TYPE_CHECKING:

    from lemica.calibration.job import Result

RESIDUAL = Rule("residual", "hold")
PUBLISHED = "residual hold"
UNIFORM = ("output hold", "output half", "residual hold", "residual half")
"""The rules that uniform spacing is tried with; the full slope is worse than these in results/calibration_50.md."""

Entry = tuple[str, str, Callable[[], tuple[Run, str]]]
"""A contestant's name, what tells it from others of that name, and what makes its run and a remark on it."""


class Contestants:
    """Makes the runs of every contestant.

    Args:
        arena: where they run.
        result: the calibration of this model and sampler.
        library: the packaged schedules.
        seen: prompt and seed of the samples that the calibration saw; peers may fit their numbers on the first six.
    """

    def __init__(self, arena: Arena, result: Result, library: Library, seen: Sequence[tuple[int, int]]) -> None:
        self._arena, self._result, self._library = arena, result, library
        self._graph: ErrorGraph = result.graph
        self._seen = seen[:6]
        self._steps = arena.steps

    def of(self, budget: int) -> Iterator[Entry]:
        """All that can spend this budget; those of this pack are told apart by their paths, which may change."""
        route = self._result.outcomes[budget].route
        yield "this pack: calibrated", route.key, lambda: (self._arena.scheduled(route.schedule(self._steps)), route.found)
        packaged = self._packaged(budget)
        if packaged is not None:
            shipped = Route(packaged.computed, packaged.rules)
            yield "this pack: as shipped", shipped.key, lambda: (self._arena.scheduled(packaged), packaged.name)
        for name, make in self._others(budget):
            yield name, "", make

    def _others(self, budget: int) -> Iterator[tuple[str, Callable[[], tuple[Run, str]]]]:
        yield "this pack: the solver's path", lambda: self._solved(budget, self._graph.edges())
        yield "LeMiCa as published", lambda: self._solved(budget, self._first_order())
        for name, scheduler in (("simple", "simple"), ("beta", "beta")):
            yield f"fewer steps, {name}", lambda scheduler=scheduler: self._fewer(budget, self._sigmas(scheduler, budget))
        if self._arena.model.family == "lemica-demo":
            yield "fewer steps, optimal steps", lambda: self._fewer(budget, optimal_steps(budget))
        for rule in UNIFORM:
            yield f"uniform, {rule}", lambda rule=rule: self._path(uniform(self._steps, budget), [Rule.parse(rule)] * budget)
        yield "EasyCache", lambda: self._searched(peers.core_cache(self._arena, budget, lazy=False))
        yield "LazyCache", lambda: self._searched(peers.core_cache(self._arena, budget, lazy=True))
        for order in ("hold", "linear"):
            yield f"cache-dit SCM mask, {order}", lambda order=order: self._scm(budget, order)
        yield "TeaCache-like", lambda: self._searched(peers.teacache(self._arena, budget, self._polynomial))
        yield "MagCache-like", lambda: self._schedule(peers.magcache(self._ratios, budget))
        yield "MeanCache-like", lambda: self._average_velocity(budget)

    def full(self) -> Run:
        return self._arena.full_run()

    @cached_property
    def _polynomial(self):
        return peers.teacache_polynomial(self._arena, self._seen)

    @cached_property
    def _ratios(self) -> list[float]:
        return peers.magnitude_ratios(self._arena, self._seen)

    def _packaged(self, budget: int) -> Schedule | None:
        if self._arena.sampler != "euler":
            return None
        found = self._library.schedules(self._arena.model.family) if self._arena.model.family == "lemica-demo" else ()
        return next((one for one in found if one.steps == self._steps and one.budget == budget), None)

    def _solved(self, budget: int, edges: list, objective: str = "minimax") -> tuple[Run, str]:
        found = solve(edges, self._steps, budget, objective=objective)
        return self._schedule(found.to_schedule("path", "any", self._graph.sigmas))

    def _first_order(self) -> list:
        """Hold on the block residual, as in the published lists."""
        return [edge._replace(before=-1) for edge in self._graph.edges() if str(edge.rule) == PUBLISHED]

    def _average_velocity(self, budget: int) -> tuple[Run, str]:
        """Reused velocities with half the slope or none, on the shortest path of squared errors: peaks count for more."""
        edges = [
            edge._replace(error=edge.error**2) for edge in self._graph.edges()
            if str(edge.rule) in ("output hold", "output half")
        ]
        return self._solved(budget, edges, "shortest")

    def _scm(self, budget: int, order: str) -> tuple[Run, str]:
        """The nearest of the masks for 50 steps, fitted to the budget."""
        masks = scm_masks()
        nearest = min(masks, key=lambda one: abs(one.budget - budget))
        fitted = resample(nearest, self._arena.sigmas, budget)
        return self._path(fitted.computed, [Rule("residual", order)] * budget)

    def _fewer(self, budget: int, sigmas: torch.Tensor) -> tuple[Run, str]:
        return fewer_steps(self._arena, budget, sigmas), f"{len(sigmas) - 1} steps"

    def _sigmas(self, scheduler: str, steps: int) -> torch.Tensor:
        import comfy.samplers

        model_sampling = self._arena.model.model.get_model_object("model_sampling")
        return comfy.samplers.calculate_sigmas(model_sampling, scheduler, steps)

    def _path(self, computed: Sequence[int], rules: Sequence[Rule]) -> tuple[Run, str]:
        return self._schedule(Schedule("path", "any", self._steps, tuple(computed), tuple(rules), "custom"))

    def _schedule(self, schedule: Schedule) -> tuple[Run, str]:
        return self._arena.scheduled(schedule), ",".join(map(str, schedule.computed))

    @staticmethod
    def _searched(found: tuple[Run, float]) -> tuple[Run, str]:
        run, threshold = found
        return run, f"threshold {threshold:.4g}"


def fewer_steps(arena: Arena, steps: int, sigmas: torch.Tensor | None = None) -> Run:
    """Plain sampling with this many steps, on these sigmas or those of the simple scheduler."""
    import comfy.samplers
    from lemica.cache.placement import Placement
    from lemica.cache.run import SamplingRun

    if sigmas is None:
        model_sampling = arena.model.model.get_model_object("model_sampling")
        sigmas = comfy.samplers.calculate_sigmas(model_sampling, "simple", steps)

    def run(place: int) -> tuple[torch.Tensor, int]:
        sampling = on_sigmas(arena.model, arena.pairs[place], arena.sampler, sigmas)
        every = peers.everything(len(sigmas) - 1)
        return sampling.run(lambda found: SamplingRun(every, found, Placement("auto"))), sampling.report.calls

    return run


def optimal_steps(steps: int) -> torch.Tensor:
    """ComfyUI's node, by its list for Wan."""
    from comfy_extras.nodes_optimalsteps import OptimalStepsScheduler

    return OptimalStepsScheduler.execute("Wan", steps, 1.0).args[0]


def scm_masks() -> list[Schedule]:
    """cache-dit's masks for 50 steps, by policy (its `steps_mask`)."""
    from pathlib import Path

    found = json.loads((Path(__file__).parent / "scm_masks.json").read_text(encoding="utf-8"))
    return [
        Schedule(name, "any", found["steps"], tuple(computed), (RESIDUAL,) * len(computed), "published")
        for name, computed in found["policies"].items()
    ]
