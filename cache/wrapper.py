"""Installs the cache on a model patcher, through ComfyUI's keyed wrappers; the only file that knows them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from comfy.patcher_extension import WrappersMP

from ..schedules import GridError, Rule, Schedule
from .blocks import CALL_KEY, BlockCall, patch_stack, stack_family
from .placement import Placement, check_cache_device
from .plan import rehearse
from .report import RunReport
from .run import SamplingRun

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.patcher_extension import WrapperExecutor
    from comfy.samplers import CFGGuider, Sampler

logger = logging.getLogger("LeMiCa")

KEY = "lemica"
"""Key of the wrappers, and of the SamplingRun in a run's transformer options."""

OTHER_CACHES = {"easycache": "EasyCache or LazyCache"}
"""Transformer options of caches that must not work beside this one."""

Choose = Callable[[Sequence[float]], tuple[Schedule, str]]
"""From the sigmas of a run to its schedule and a note on where that came from."""

MakeRun = Callable[[Sequence[float], dict], SamplingRun]


def full_schedule(sigmas: Sequence[float]) -> Schedule:
    """The schedule that computes every step of ``sigmas``."""
    steps = len(sigmas) - 1
    rules = (Rule("output", "hold"),) * steps
    return Schedule(name="full", family="any", steps=steps, computed=tuple(range(steps)), rules=rules, origin="custom")


@dataclass(frozen=True, slots=True)
class ScheduledRuns:
    """Makes the run for the sigmas that a sampler comes with.

    Args:
        choose: gives the schedule; raises GridError where none can be had.
        cache_device: one of CACHE_DEVICES.
        has_stack: whether residual rules work on this model; without, they are run on the output.
    """

    choose: Choose
    cache_device: str
    has_stack: bool

    def __call__(self, sigmas: Sequence[float], transformer_options: dict) -> SamplingRun:
        """A run by the chosen schedule, or one that computes every step where that is the safe thing."""
        other = next((name for key, name in OTHER_CACHES.items() if key in transformer_options), None)
        if other is not None:
            schedule, note = full_schedule(sigmas), f"computing every step: {other} works on the same model"
        else:
            try:
                schedule, note = self.choose(sigmas)
            except GridError as error:
                schedule, note = full_schedule(sigmas), f"computing every step: {error}"
        if not self.has_stack and any(rule.target == "residual" for rule in schedule.rules):
            schedule = replace(schedule, rules=tuple(Rule("output", rule.order) for rule in schedule.rules))
            note = "; ".join(filter(None, [note, "rules run on the output, this model's block stack is not known"]))
        return SamplingRun(schedule, sigmas, Placement(self.cache_device), note=note)


@dataclass(frozen=True, slots=True)
class CacheWrappers:
    """The wrappers of one patcher. What a run remembers is in its SamplingRun, never here.

    Args:
        make_run: makes the SamplingRun from a run's sigmas and transformer options.
        has_stack: whether the model's block stack is patched.
        on_report: is given the account of every run that ends.
    """

    make_run: MakeRun
    has_stack: bool
    on_report: Callable[[RunReport], None]

    def outer_sample(
        self, executor: WrapperExecutor, noise: torch.Tensor, latent_image: torch.Tensor, sampler: Sampler,
        sigmas: torch.Tensor, *args, **kwargs,
    ) -> torch.Tensor:
        """Give the run its state, and take it away again however the run ends."""
        if len(sigmas) < 2:
            return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
        options = executor.class_obj.model_options["transformer_options"]
        run = self.make_run(sigmas.tolist(), options)
        _move_outermost(options["wrappers"])
        options[KEY] = run
        finished = False
        try:
            samples = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
            finished = True
            return samples
        finally:
            del options[KEY]
            report = run.report(finished)
            run.close()
            self.on_report(report)

    def sampler_sample(
        self, executor: WrapperExecutor, guider: CFGGuider, sigmas: torch.Tensor, extra_args: dict, callback,
        noise: torch.Tensor, *args, **kwargs,
    ) -> torch.Tensor:
        """Rehearse the sampler, then let it run."""
        run = _run_of(extra_args["model_options"])
        if run is None:
            return executor(guider, sigmas, extra_args, callback, noise, *args, **kwargs)
        run.start(rehearse(executor.class_obj, guider, run.sigmas, extra_args.get("seed")), noise.device)
        samples = executor(guider, sigmas, extra_args, callback, noise, *args, **kwargs)
        run.end()
        return samples

    def predict_noise(
        self, executor: WrapperExecutor, x: torch.Tensor, timestep: torch.Tensor, model_options: dict, seed: int | None
    ) -> torch.Tensor:
        """One call of the sampler, however its conds are batched."""
        run = _run_of(model_options)
        if run is not None:
            run.begin_call(x, timestep)
        return executor(x, timestep, model_options, seed)

    def calc_cond_batch(
        self, executor: WrapperExecutor, model, conds: list, x: torch.Tensor, timestep: torch.Tensor,
        model_options: dict,
    ) -> list[torch.Tensor]:
        """One batch of conds within a call: computed, or reused by an output rule."""
        run = _run_of(model_options)
        if run is None:
            return executor(model, conds, x, timestep, model_options)
        window = model_options["transformer_options"].get("context_window")
        frames = None if window is None else tuple(window.index_list)
        return run.cond_batch(lambda: executor(model, conds, x, timestep, model_options), conds, x, frames)

    def apply_model(
        self, executor: WrapperExecutor, x: torch.Tensor, t: torch.Tensor, c_concat, c_crossattn, control,
        transformer_options: dict, **kwargs,
    ) -> torch.Tensor:
        """One evaluation of the model: whole, or with its block stack skipped by a residual rule."""
        run: SamplingRun | None = transformer_options.get(KEY)
        uuids = transformer_options.get("uuids")
        if run is None or uuids is None:
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
        if self.has_stack and run.call is not None:
            transformer_options = transformer_options.copy()
            latent_shape = (x.shape[0] // len(uuids), *x.shape[1:])
            call = transformer_options[CALL_KEY] = BlockCall(run, uuids, latent_shape, transformer_options)
            if call.skips:
                return executor(x, t, c_concat, c_crossattn, None, transformer_options, **kwargs)
        run.note_model_calls(len(uuids))
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)


def _run_of(model_options: dict) -> SamplingRun | None:
    return model_options.get("transformer_options", {}).get(KEY)


def _move_outermost(wrappers: dict[str, dict[str, list]]) -> None:
    """A reused step skips what other nodes wrapped around the model, in whatever order they were applied."""
    for kind in (WrappersMP.PREDICT_NOISE, WrappersMP.CALC_COND_BATCH):
        others = {key: value for key, value in wrappers[kind].items() if key != KEY}
        wrappers[kind] = {KEY: wrappers[kind][KEY], **others}


def ignore(report: RunReport) -> None:
    """Listens to no report."""


def attach(model: ModelPatcher, make_run: MakeRun, on_report: Callable[[RunReport], None] = ignore) -> ModelPatcher:
    """A clone of ``model`` whose sampling runs are made by ``make_run``; ``model`` itself stays as it is."""
    model = model.clone()
    family = stack_family(model)
    if family is not None:
        patch_stack(model, family)
    wrappers = CacheWrappers(make_run, family is not None, on_report)
    for kind, wrapper in (
        (WrappersMP.OUTER_SAMPLE, wrappers.outer_sample),
        (WrappersMP.SAMPLER_SAMPLE, wrappers.sampler_sample),
        (WrappersMP.PREDICT_NOISE, wrappers.predict_noise),
        (WrappersMP.CALC_COND_BATCH, wrappers.calc_cond_batch),
        (WrappersMP.APPLY_MODEL, wrappers.apply_model),
    ):
        model.remove_wrappers_with_key(kind, KEY)
        model.add_wrapper_with_key(kind, KEY, wrapper)
    return model


def install(
    model: ModelPatcher, choose: Choose, cache_device: str = "auto", on_report: Callable[[RunReport], None] = ignore
) -> ModelPatcher:
    """A clone of ``model`` that samples by the schedules that ``choose`` gives; ``model`` itself stays as it is.

    Raises:
        ValueError: ``cache_device`` is none of CACHE_DEVICES.
    """
    check_cache_device(cache_device)

    def report(run: RunReport) -> None:
        logger.info(run.line())
        on_report(run)

    return attach(model, ScheduledRuns(choose, cache_device, stack_family(model) is not None), report)
