"""Everything that spends a budget of model calls on one model and sampler, in one order for all tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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
UNIFORM = ("output hold", "output half", "residual hold", "residual half")
"""The rules that uniform spacing is tried with; the full slope is worse than these in results/calibration_50.md."""

Entry = tuple[str, str, Callable[[], tuple[Run, str]]]
"""A contestant's name, what tells it from others of that name, and what makes its run and a remark on it."""


class Contestants:
    """Makes the runs of every contestant.

    Args:
        arena: where they run.
        results: the calibrations of this model and sampler, by mode.
        replayed: the error graph of replays that hold the block residual.
        library: the packaged schedules.
        seen: prompt and seed of the samples that the calibrations saw; peers fit their numbers on them too.
    """

    def __init__(
        self, arena: Arena, results: Mapping[str, Result], replayed: ErrorGraph, library: Library,
        seen: Sequence[tuple[int, int]],
    ) -> None:
        self._arena, self._results, self._replayed, self._library = arena, results, replayed, library
        self._graph: ErrorGraph = results["short"].graph
        self._seen = seen
        self._steps = arena.steps

    def of(self, budget: int) -> Iterator[Entry]:
        """All that can spend this budget; those of calibrations are told apart by their paths, which may change."""
        for name, route in self._routes(budget).items():
            yield name, route.key, lambda route=route: (self._arena.scheduled(route.schedule(self._steps)), route.found)
        for name, make in self._others(budget):
            yield name, "", make

    def _routes(self, budget: int) -> dict[str, Route]:
        routes = {f"this pack: {mode}": result.outcomes[budget].route for mode, result in self._results.items()}
        packaged = self._packaged(budget)
        if packaged is not None:
            routes["this pack: as shipped"] = Route(packaged.computed, packaged.rules, packaged.name, packaged.weights)
        return routes | {
            "this pack: the solver's path": self._solved(budget, self._graph.edges()),
            "LeMiCa as published": self._solved(budget, self._replayed.edges()),
            "MeanCache-like": self._average_velocity(budget),
        }

    def _others(self, budget: int) -> Iterator[tuple[str, Callable[[], tuple[Run, str]]]]:
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

    def _solved(self, budget: int, edges: list, objective: str = "minimax") -> Route:
        found = solve(edges, self._steps, budget, objective=objective)
        schedule = found.to_schedule("path", "any", self._graph.sigmas)
        return Route(schedule.computed, schedule.rules, ",".join(map(str, schedule.computed)))

    def _average_velocity(self, budget: int) -> Route:
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
