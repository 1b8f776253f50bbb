"""What the tests of graphs share: schedules by hand, counts from outside, and reuse written a second time."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from operator import attrgetter

import comfy.patcher_extension
import comfy.samplers
import torch
from comfy_extras import nodes_custom_sampler
from lemica.cache.report import RunReport
from lemica.cache.wrapper import install
from lemica.schedules import Rule, Schedule

STEPS = 8
COMPUTED = (0, 1, 3, 6)
EVERY = range(1000)
REFERENCE_KEY = "test_reference"


def scheduled(model, computed: Iterable[int] = COMPUTED, rule: str = "output hold", reports: list | None = None):
    """``model`` under one schedule for whatever sigmas come, as far as they go."""

    def choose(setting):
        steps = len(setting.sigmas) - 1
        kept = tuple(step for step in computed if step < steps)
        return Schedule("test", "test", steps, kept, (Rule.parse(rule),) * len(kept), "custom"), ""

    return install(model, choose, on_report=lambda report: None if reports is None else reports.append(report))


def equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a, b)


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-4) -> bool:
    return ((a - b).abs().max() <= tolerance * b.abs().max()).item()


@contextmanager
def rows_through(model, module: str = "blocks.1") -> Iterator[list[int]]:
    """How many samples went through a module of the diffusion model, at every evaluation."""
    rows: list[int] = []
    hook = attrgetter(module)(model.model.diffusion_model).register_forward_hook(
        lambda module, args, output: rows.append((output[0] if isinstance(output, tuple) else output).shape[0])
    )
    try:
        yield rows
    finally:
        hook.remove()


def sigmas_of(model, steps: int = STEPS, scheduler: str = "simple") -> torch.Tensor:
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)


def sample_with(guider, sigmas: torch.Tensor, latent: dict, sampler="euler", seed: int = 1) -> torch.Tensor:
    """The SamplerCustomAdvanced node's output."""
    if isinstance(sampler, str):
        (sampler,) = nodes_custom_sampler.KSamplerSelect.execute(sampler).args
    (noise,) = nodes_custom_sampler.RandomNoise.execute(seed).args
    samples, _ = nodes_custom_sampler.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).args
    return samples["samples"]


def reusing_outputs(model, computed: Iterable[int] = COMPUTED, reused: Container[int] = EVERY):
    """Holding outputs, written a second time: each batch of a step is known by its place in the order of the step.

    Right for a sampler of one call a step and graphs that ask for the same batches at every step. Batches at other
    places than ``reused`` are computed at every step.
    """
    model, place, known = model.clone(), [-1, 0], {}

    def next_step(executor, *args):
        place[:] = place[0] + 1, 0
        return executor(*args)

    def batch(executor, model, conds, x, timestep, options):
        step, number = place
        place[1] += 1
        sigma = timestep[0].item()
        if step in computed or number not in reused:
            outputs = executor(model, conds, x, timestep, options)
            known[number] = [(x - output) / sigma for output in outputs]
            return outputs
        return [x - d * sigma if cond is not None else torch.zeros_like(x) for d, cond in zip(known[number], conds)]

    wrappers = comfy.patcher_extension.WrappersMP
    model.add_wrapper_with_key(wrappers.PREDICT_NOISE, REFERENCE_KEY, next_step)
    model.add_wrapper_with_key(wrappers.CALC_COND_BATCH, REFERENCE_KEY, batch)
    return model


@contextmanager
def reusing_residuals(model, computed: Iterable[int] = COMPUTED) -> Iterator:
    """Holding residuals of Wan's blocks, written a second time: every block runs, then its result is replaced.

    Each evaluation of a step is known by its place in the order of the step.
    """
    clone, place, known, entered = model.clone(), [-1, 0], {}, []
    blocks = model.model.diffusion_model.blocks

    def next_step(executor, *args):
        place[:] = place[0] + 1, 0
        return executor(*args)

    def leave(module, args, output):
        step, number = place
        place[1] += 1
        if step in computed:
            known[number] = output - entered[-1]
            return output
        return entered[-1] + known[number]

    clone.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREDICT_NOISE, REFERENCE_KEY, next_step)
    hooks = [
        blocks[0].register_forward_pre_hook(lambda module, args: entered.append(args[0].clone())),
        blocks[-1].register_forward_hook(leave),
    ]
    try:
        yield clone
    finally:
        for hook in hooks:
            hook.remove()


def check_graph(
    model, sample: Callable[..., torch.Tensor], rules: Iterable[str] = ("output hold", "residual hold"),
    module: str = "blocks.1",
) -> list[RunReport]:
    """A graph whose steps are all alike: plain at full budget, by the schedule below it, and right when it reuses.

    Args:
        sample: samples with a model that it is given.
        module: runs once at every evaluation of the model.
    """
    with rows_through(model, module) as rows:
        plain = sample(model)
        full = sum(rows)
    assert plain.isfinite().all()
    reports: list[RunReport] = []
    for rule in rules:
        assert equal(sample(scheduled(model, EVERY, rule)), plain), rule
        with rows_through(model, module) as rows:
            got = sample(scheduled(model, COMPUTED, rule, reports))
        assert sum(rows) * STEPS == full * len(COMPUTED), (rule, rows, reports[-1].line())
        assert reports[-1].computed == COMPUTED and not reports[-1].doubts, reports[-1].line()
        if rule.startswith("output"):
            expected = sample(reusing_outputs(model))
        else:
            with reusing_residuals(model) as reference:
                expected = sample(reference)
        assert close(got, expected) and not close(got, plain), rule
    assert equal(sample(model), plain), "the plain model afterwards"
    return reports
