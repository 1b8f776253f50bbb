"""Rules of other caches, written from their papers, at a threshold that is searched until the model calls match.

TeaCache: Liu et al. 2025, arXiv 2411.19108. MagCache: Ma et al. 2025, arXiv 2506.09045. EasyCache and LazyCache are
ComfyUI's own nodes. Where a rule decides during the run it sees each sample for itself; so its calls match the budget in
the mean over the samples only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np
import torch
from arena import Arena, Run, on_sigmas
from lemica.cache.placement import Placement
from lemica.cache.run import SamplingRun
from lemica.cache.steps import Action
from lemica.cache.trajectory import Trajectory
from lemica.schedules import Rule, Schedule

RESIDUAL = Rule("residual", "hold")
SEARCH = 8
"""Halvings of a threshold's range."""
SEARCH_SAMPLES = 3


def everything(steps: int) -> Schedule:
    """Every step computed."""
    return Schedule("full", "any", steps, tuple(range(steps)), (RESIDUAL,) * steps, "custom")


def search(calls_at: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """The threshold at which the calls come nearest to ``wanted``; they fall as it rises."""
    best, distance = high, float("inf")
    for _ in range(SEARCH):
        middle = (low + high) / 2
        calls = calls_at(middle)
        if abs(calls - wanted) < distance:
            best, distance = middle, abs(calls - wanted)
        if calls == wanted:
            break
        low, high = (middle, high) if calls > wanted else (low, middle)
    return best


def matched(make: Callable[[float], Run], budget: int, low: float, high: float) -> tuple[Run, float]:
    """The run whose mean calls come nearest to those of ``budget`` steps with two conds, and its threshold."""
    def calls_at(threshold: float) -> float:
        run = make(threshold)
        return fmean(run(place)[1] for place in range(SEARCH_SAMPLES))

    threshold = search(calls_at, 2 * budget, low, high)
    return make(threshold), threshold


# TeaCache


def modulated_wan(model, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """What the first block of Wan is given after its modulation."""
    from comfy.ldm.wan.model import sinusoidal_embedding_1d

    time = model.time_embedding(sinusoidal_embedding_1d(model.freq_dim, sigma * 1000))
    modulation = model.blocks[0].modulation + model.time_projection(time).unflatten(1, (6, model.dim))
    tokens = model.patch_embedding(x).flatten(2).transpose(1, 2)
    return model.blocks[0].norm1(tokens) * (1 + modulation[:, 1:2]) + modulation[:, 0:1]


def modulated_lumina(model, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """What the first block of Lumina 2 is given after its modulation; text and refiner left out."""
    time = model.t_embedder((1 - sigma) * model.time_scale, dtype=x.dtype)
    patches = torch.nn.functional.pixel_unshuffle(x, model.patch_size)
    channels = x.shape[1]
    tokens = patches.unflatten(1, (channels, -1)).transpose(1, 2).flatten(1, 2).flatten(2).transpose(1, 2)
    block = model.layers[0]
    scale = block.adaLN_modulation(time).chunk(4, dim=1)[0]
    return block.attention_norm1(model.x_embedder(tokens)) * (1 + scale[:, None])


MODULATED = {"WanModel": modulated_wan, "NextDiT": modulated_lumina}


class TeaCacheRun(SamplingRun):
    """Computes a step once the predicted changes since the last computed one add up to the threshold."""

    def __init__(self, model, sigmas: Sequence[float], threshold: float, polynomial: np.ndarray) -> None:
        held = Schedule("teacache", "any", len(sigmas) - 1, (0,), (RESIDUAL,), "custom")
        super().__init__(held, sigmas, Placement("auto"))
        self._model, self._threshold, self._polynomial = model, threshold, polynomial
        self._last: torch.Tensor | None = None
        self._sum = 0.0

    def begin_call(self, x: torch.Tensor, timestep: torch.Tensor, unfit: str = "") -> None:
        """Settles the action by the change of the first block's input."""
        super().begin_call(x, timestep, unfit)
        if self.call is None or self.call.stage:
            return
        seen = MODULATED[type(self._model).plain_class.__name__](self._model, x, timestep)
        if self._last is not None:
            change = relative(seen, self._last)
            self._sum += abs(float(np.polyval(self._polynomial, change)))
        self._last = seen
        if self.call.step in (0, self.schedule.steps - 1) or self._sum >= self._threshold:
            self.action, self._sum = Action.COMPUTE, 0.0


def relative(new: torch.Tensor, old: torch.Tensor) -> float:
    return float((new - old).abs().mean() / old.abs().mean())


def teacache_polynomial(arena: Arena, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Degree four, from changes of the first block's input to changes of the residual, as the paper fits it."""
    inputs, outputs = [], []
    for prompt, seed in pairs:
        sampling = arena.model.sampling(prompt, seed, arena.steps, arena.sampler)
        trajectory, seen = Trajectory(residuals_wanted=True), []
        network = arena.model.attached.patcher.model.diffusion_model

        def observe(call, x, seen=seen, network=network) -> None:
            if call is not None and call.stage == 0:
                sigma = torch.full((x.shape[0],), call.sigma)
                seen.append(MODULATED[type(network).plain_class.__name__](network, x, sigma))

        sampling.run(lambda sigmas: SamplingRun(
            everything(arena.steps), sigmas, Placement("auto"), record=trajectory, observe=observe  # noqa: B023
        ))
        residuals = residuals_by_step(trajectory)
        inputs += [relative(new, old) for old, new in zip(seen, seen[1:])]
        outputs += [relative(new, old) for old, new in zip(residuals, residuals[1:])]
    return np.polyfit(inputs, outputs, 4)


def residuals_by_step(trajectory: Trajectory) -> list[torch.Tensor]:
    """The residuals of every step, those of both conds one after the other."""
    steps: dict[int, list[torch.Tensor]] = {}
    for batch in trajectory.batches:
        if batch.stage == 0:
            residuals = (residual.float() for _, residual in trajectory.residuals(batch).values())
            steps.setdefault(batch.step, []).extend(residuals)
    return [torch.cat(steps[step]) for step in sorted(steps)]


def teacache(arena: Arena, budget: int, polynomial: np.ndarray) -> tuple[Run, float]:
    network = arena.model.attached.patcher.model.diffusion_model

    def make(threshold: float) -> Run:
        def run(place: int) -> tuple[torch.Tensor, int]:
            sampling = arena.samplings[place]
            flat = sampling.run(lambda sigmas: TeaCacheRun(network, sigmas, threshold, polynomial))
            return flat, sampling.report.calls

        return run

    return matched(make, budget, 0.0, 10.0)


# MagCache


def magnitude_ratios(arena: Arena, pairs: Sequence[tuple[int, int]]) -> list[float]:
    """Mean magnitude of each step's residual over that of the step before; the first is 1."""
    every = []
    for prompt, seed in pairs:
        sampling = arena.model.sampling(prompt, seed, arena.steps, arena.sampler)
        trajectory = Trajectory(residuals_wanted=True)
        sampling.run(lambda sigmas: SamplingRun(everything(arena.steps), sigmas, Placement("auto"), record=trajectory))  # noqa: B023
        norms = [residual.norm(dim=-1) for residual in residuals_by_step(trajectory)]
        every.append([1.0, *(float((new / old).mean()) for old, new in zip(norms, norms[1:]))])
    return np.mean(every, axis=0).tolist()


def magcache(ratios: Sequence[float], budget: int) -> Schedule:
    """Skips while the accumulated error stays below the threshold, at most K in a row, after a part that is retained.

    K is twice the mean segment, and the retained part a fifth of the run or half of the budget where that is less: with
    the paper's fifth, 10 of 50 steps would be computed before the first one could be skipped.
    """
    steps = len(ratios)
    retained = max(1, min(steps // 5, budget // 2))
    longest = -(-2 * steps // budget)

    def computed_at(threshold: float) -> tuple[int, ...]:
        computed, product, error, skipped = [], 1.0, 0.0, 0
        for step in range(steps):
            if step >= retained:
                product *= ratios[step]
                error += abs(1 - product)
                skipped += 1
                if error < threshold and skipped <= longest:
                    continue
            computed.append(step)
            product, error, skipped = 1.0, 0.0, 0
        return tuple(computed)

    found = computed_at(search(lambda threshold: len(computed_at(threshold)), budget, 0.0, 20.0))
    return Schedule("magcache", "any", steps, found, (RESIDUAL,) * len(found), "custom")


# EasyCache, LazyCache


def core_cache(arena: Arena, budget: int, lazy: bool) -> tuple[Run, float]:
    """ComfyUI's node at its own start and end, compared on every pixel: of latents this small 8 x 8 would be one."""
    from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
    from graphs import rows_through
    from lemica.cache.blocks import stack_family
    from lemica.calibration.sampling import AttachedModel

    node = LazyCacheNode if lazy else EasyCacheNode

    def make(threshold: float) -> Run:
        model = node.execute(arena.model.model, threshold, 0.15, 0.95, False).args[0]
        model.model_options["transformer_options"]["easycache"] = _on_every_pixel(model)
        attached = AttachedModel(model)
        blocks = stack_family(model).lists[0]

        def run(place: int) -> tuple[torch.Tensor, int]:
            sigmas = torch.tensor(arena.sigmas)
            sampling = on_sigmas(arena.model, arena.pairs[place], arena.sampler, sigmas, attached)
            with rows_through(model, f"{blocks}.0") as rows:
                flat = sampling.run(lambda sigmas: SamplingRun(everything(arena.steps), sigmas, Placement("auto")))
            return flat, sum(rows)

        return run

    return matched(make, budget, 0.0, 3.0)


def _on_every_pixel(model):
    """EasyCache adds to its input in place, which at float32 is the sampler's latent too: it gets a copy."""
    from copy import copy

    holder = model.model_options["transformer_options"]["easycache"]

    class Every(type(holder)):
        def clone(self):
            new = copy(self)
            new.subsample_factor = 1
            return new

        def apply_cache_diff(self, x, *args, **kwargs):
            return super().apply_cache_diff(x.clone(), *args, **kwargs)

    holder = copy(holder)
    holder.__class__ = Every
    return holder
