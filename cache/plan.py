"""Which sampler call belongs to which step, found by rehearsing the sampler before the run."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import comfy.samplers
import torch

from .stand_in import check_stateless, restored_generators, stand_in_options

logger = logging.getLogger("LeMiCa")

CPU = torch.device("cpu")

CALLS_PER_STEP_LIMIT = 16
"""A rehearsal that asks for more model calls per step than this has no fixed plan."""


@dataclass(frozen=True, slots=True)
class Call:
    """One model call of the sampler: its step, its stage within the step, and the sigma it is made at."""

    step: int
    stage: int
    sigma: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The calls of a sampler in their order, and whether its latents depend on noise that it draws."""

    calls: tuple[Call, ...]
    noise: bool


class NoFixedPlan(ValueError):
    """The sampler's calls cannot be told apart by step before the run."""


class _RehearsalModel:
    """Stands where a sampler function expects the model and notes the order of model calls and step callbacks."""

    def __init__(self, guider: comfy.samplers.CFGGuider, limit: int) -> None:
        self.inner_model = guider
        self.events: list[tuple[str, float]] = []
        self._limit = limit

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, model_options: dict | None = None, **_: object) -> torch.Tensor:
        if len(self.events) >= self._limit:
            raise NoFixedPlan(f"more than {self._limit} calls")
        self.events.append(("call", float(sigma.flatten()[0])))
        denoised = x * 0.5
        for function in (model_options or {}).get("sampler_post_cfg_function", []):
            denoised = function({
                "denoised": denoised, "cond_denoised": denoised, "uncond_denoised": denoised, "cond": None,
                "uncond": None, "cond_scale": 1.0, "model": self.inner_model, "sigma": sigma, "input": x,
                "model_options": model_options,
            })
        return denoised

    def callback(self, state: dict) -> None:
        self.events.append(("step", state["i"]))


def assign_steps(events: Sequence[tuple[str, float]], steps: int) -> tuple[Call, ...]:
    """Name the step and stage of every model call in a rehearsal's events.

    The last call before the callback of step i is stage 0 of step i; the calls between that callback and the next
    stage 0 are its further stages.

    Raises:
        NoFixedPlan: the callbacks do not count the steps 0, 1, 2, ... of ``steps``, as with dpm_fast, which makes its own.
    """
    calls: list[Call] = []
    pending: list[float] = []
    step, stage = -1, 0

    def append_stages(sigmas: Sequence[float]) -> None:
        nonlocal stage
        for sigma in sigmas:
            calls.append(Call(step, stage, sigma))
            stage += 1

    for kind, value in events:
        if kind == "call":
            pending.append(value)
            continue
        if not pending or value != step + 1 or value >= steps or (step < 0 and len(pending) > 1):
            raise NoFixedPlan(f"callback {value} follows step {step} with {len(pending)} calls between them")
        append_stages(pending[:-1])
        step, stage = step + 1, 0
        append_stages(pending[-1:])
        pending = []
    if step + 1 != steps:
        raise NoFixedPlan(f"{step + 1} callbacks for {steps} steps")
    append_stages(pending)
    return tuple(calls)


def rehearse(
    sampler: comfy.samplers.Sampler, guider: comfy.samplers.CFGGuider, sigmas: Sequence[float], seed: int | None,
    device: torch.device = CPU,
) -> Plan | None:
    """Run the sampler's own function once on a few numbers and return what it did.

    Nothing of the run on ``device`` is drawn or changed: the rehearsal has its own noise sampler, and the default
    generators are restored. None means that the sampler has no plan known beforehand: it is no KSAMPLER, it chooses its
    own steps, it needs more of the model than its output, or it holds something that a rehearsal could use up.
    """
    if not isinstance(sampler, comfy.samplers.KSAMPLER):
        return None
    steps = len(sigmas) - 1
    model = _RehearsalModel(guider, limit=2 * CALLS_PER_STEP_LIMIT * steps)
    start = torch.linspace(0.5, 1.5, 16).reshape(1, 4, 2, 2) * sigmas[0]
    # Two lanes that begin alike, of which one alone is given noise: they end apart where noise counts.
    x, noise = start.repeat(2, 1, 1, 1), torch.stack([torch.zeros(4, 2, 2), torch.ones(4, 2, 2)])

    def noises(*_: object, **__: object) -> torch.Tensor:
        return noise.clone()

    extra_args = {"model_options": {}, "seed": seed, "denoise_mask": None}
    try:
        check_stateless(sampler.sampler_function)
        options = stand_in_options(sampler.extra_options, noises)
        if "noise_sampler" in inspect.signature(sampler.sampler_function).parameters:
            options["noise_sampler"] = noises
        with restored_generators(device):
            final = sampler.sampler_function(
                model, x, torch.tensor(sigmas), extra_args=extra_args, callback=model.callback, disable=True, **options
            )
        return Plan(assign_steps(model.events, steps), not torch.equal(final[0], final[1]))
    # What a sampler of another pack does with a stand-in model is not ours to know; it then runs without a plan.
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        logger.debug("No call plan for %s: %s", sampler, error)
        return None
