"""Installs the cache on a model patcher, through ComfyUI's keyed wrappers; the only file that knows them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from ..schedules import DENOISED, Rule, Schedule, ScheduleError
from .again import Again
from .blocks import CALL_KEY, look_up, patch_stack
from .calls import ComputedCall, SkippingCall
from .families import StackFamily
from .fingerprint import KEY
from .placement import Placement, check_cache_device
from .plan import Call, rehearse
from .report import RunReport
from .run import SamplingRun
from .setting import RunSetting
from .steps import on_output

if TYPE_CHECKING:
    from comfy.model_base import BaseModel
    from comfy.model_patcher import ModelPatcher
    from comfy.patcher_extension import WrapperExecutor
    from comfy.samplers import CFGGuider, Sampler

logger = logging.getLogger("LeMiCa")

OTHER_CACHES = {"easycache": "EasyCache or LazyCache"}
"""Transformer options of caches that must not work beside this one."""

STATEFUL = {"ar_state": "the model keeps what it computes for the frames to come"}
"""Transformer options of samplers that need every call of theirs to run the model, and why."""

FORMER = "its weights are of an earlier version, which carried something else over under drawn noise: calibrate anew"

SPANNING_PATCHES = {"noise_refiner": "a model patch works on the embedders and on the blocks"}
"""Model patches that need the blocks to run whenever the embedders do, and why residual rules do not work with them."""


class Lesson(Protocol):
    """What a full run that is learned from is shown."""

    def answered(self, call: Call, x: torch.Tensor, answers: Sequence[torch.Tensor]) -> None:
        """Of a call, the latent it is made at, and its answers; see ``run.Answered``."""

    def ended(self, report: RunReport) -> SamplingRun | None:
        """The run has come to its end; gives another one that is to be made from the same noise, if one is."""


class Choice(NamedTuple):
    """The schedule of a run, a note on where it came from, and what is learned from the run, if anything is."""

    schedule: Schedule
    note: str
    lesson: Lesson | None = None


Choose = Callable[[RunSetting], Choice | tuple[Schedule, str]]
"""What a run gets; a schedule and a note will do."""

OnStep = Callable[[int, int, bool], None]
"""Is told the step that a run is at, of how many, and whether it computes."""

MakeRun = Callable[[RunSetting], SamplingRun]


def full_schedule(sigmas: Sequence[float]) -> Schedule:
    """The schedule that computes every step of ``sigmas``."""
    steps = len(sigmas) - 1
    rules = (Rule("output", "hold"),) * steps
    return Schedule(name="full", family="any", steps=steps, computed=tuple(range(steps)), rules=rules, origin="custom")


def every_step(sigmas: Sequence[float], why: str) -> tuple[Schedule, str]:
    """The schedule of a run that nothing can be reused in, and the note that says why."""
    return full_schedule(sigmas), f"computing every step: {why}"


@dataclass(frozen=True, slots=True)
class ScheduledRuns:
    """Makes the run for the sigmas that a sampler comes with.

    Args:
        choose: gives the schedule; raises ScheduleError where none fits.
        cache_device: one of CACHE_DEVICES.
        no_stack: why residual rules run on the output, if they have to.
        on_step: is told every call of the sampler.
    """

    choose: Choose
    cache_device: str
    no_stack: str
    on_step: OnStep | None = None

    def __call__(self, setting: RunSetting) -> SamplingRun:
        """A run by the chosen schedule, or one that computes every step where that is the safe thing."""
        other = next((name for key, name in OTHER_CACHES.items() if key in setting.options), None)
        lesson = None
        if other is not None:
            schedule, note = every_step(setting.sigmas, f"{other} works on the same model")
        else:
            try:
                schedule, note, lesson = Choice(*self.choose(setting))
            except ScheduleError as error:
                schedule, note = every_step(setting.sigmas, str(error))
        if schedule.weights and schedule.source.get("noise") is True:
            schedule = schedule.with_rules(schedule.unfitted("hold").rules)
            note = "; ".join(filter(None, [note, FORMER]))
        if self.no_stack and any(rule.target == "residual" for rule in schedule.rules):
            schedule = on_output(schedule)
            note = "; ".join(filter(None, [note, f"rules run on the output, {self.no_stack}"]))
        return SamplingRun(
            schedule, setting.sigmas, Placement(self.cache_device), observe=self._observer(schedule), note=note,
            noise=schedule.source.get("carries") == DENOISED, answered=None if lesson is None else lesson.answered,
            ended=None if lesson is None else lesson.ended,
        )

    def _observer(self, schedule: Schedule) -> Callable[[Call | None, torch.Tensor], None] | None:
        tell, computed = self.on_step, frozenset(schedule.computed)
        if tell is None:
            return None

        def observe(call: Call | None, x: torch.Tensor) -> None:
            if call is not None:
                tell(call.step, schedule.steps, call.step in computed)

        return observe


@dataclass(frozen=True, slots=True)
class CacheWrappers:
    """The wrappers of one patcher. What a run remembers is in its SamplingRun, never here.

    Args:
        make_run: makes the SamplingRun from what a run is asked for.
        family: of the model, if its block stack can be skipped.
        on_report: is given the account of every run that ends.
    """

    make_run: MakeRun
    family: StackFamily | None
    on_report: Callable[[RunReport], None]

    def outer_sample(
        self, executor: WrapperExecutor, noise: torch.Tensor, latent_image: torch.Tensor, sampler: Sampler,
        sigmas: torch.Tensor, denoise_mask: torch.Tensor | None = None, callback=None, disable_pbar: bool = False,
        seed: int | None = None, *args, **kwargs,
    ) -> torch.Tensor:
        """Give the run its state, and take it away again however the run ends."""
        given = (noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, *args)
        if len(sigmas) < 2:
            return executor(*given, **kwargs)
        guider = executor.class_obj
        options = guider.model_options["transformer_options"]
        latent = tuple(noise.shape)
        run = self.make_run(
            RunSetting(tuple(sigmas.tolist()), options, sampler, guider, latent, denoise_mask, seed)
        )
        _take_places(options.get("wrappers", {}))
        options[KEY] = run
        again = None if run.ended is None else Again(guider, guider.model_patcher.load_device)
        finished, second = False, None
        try:
            samples = executor(*given, **kwargs)
            finished = True
        finally:
            del options[KEY]
            report = run.report(finished)
            run.close()
            if finished and run.ended is not None:
                second = run.ended(report)
            self.on_report(report)
        if second is not None:
            again.sample(second, lambda told: executor(
                noise, latent_image, sampler, sigmas, denoise_mask, told, True, seed, *args, **kwargs
            ))
        return samples

    def sampler_sample(
        self, executor: WrapperExecutor, guider: CFGGuider, sigmas: torch.Tensor, extra_args: dict, callback,
        noise: torch.Tensor, *args, **kwargs,
    ) -> torch.Tensor:
        """Rehearse the sampler, then let it run."""
        run = _run_of(extra_args["model_options"])
        if run is None:
            return executor(guider, sigmas, extra_args, callback, noise, *args, **kwargs)
        plan = rehearse(executor.class_obj, guider, run.sigmas, extra_args.get("seed"), noise.device)
        run.start(plan, noise.device)
        samples = executor(guider, sigmas, extra_args, callback, noise, *args, **kwargs)
        run.end(samples)
        return samples

    def predict_noise(
        self, executor: WrapperExecutor, x: torch.Tensor, timestep: torch.Tensor, model_options: dict, *args, **kwargs
    ) -> torch.Tensor:
        """One call of the sampler, however its conds are batched."""
        run = _run_of(model_options)
        if run is None:
            return executor(x, timestep, model_options, *args, **kwargs)
        options = model_options["transformer_options"]
        run.begin_call(x, timestep, next((why for key, why in STATEFUL.items() if key in options), ""))
        denoised = executor(x, timestep, model_options, *args, **kwargs)
        run.answer(x, denoised)
        return denoised

    def calc_cond_batch(
        self, executor: WrapperExecutor, model, conds: list, x: torch.Tensor, timestep: torch.Tensor,
        model_options: dict, *args, **kwargs,
    ) -> list[torch.Tensor]:
        """One batch of conds within a call: computed, or reused by an output rule."""
        run = _run_of(model_options)

        def compute() -> list[torch.Tensor]:
            return executor(model, conds, x, timestep, model_options, *args, **kwargs)

        if run is None:
            return compute()
        if run.call is not None and not all("uuid" in cond for some in conds for cond in some or ()):
            run.compute_call("computing every step: the conds have no uuid to tell them by")
        return run.cond_batch(compute, model, conds, x, model_options)

    def apply_model(
        self, executor: WrapperExecutor, x: torch.Tensor, t: torch.Tensor, c_concat, c_crossattn, control,
        transformer_options: dict, *args, **kwargs,
    ) -> torch.Tensor:
        """One evaluation of the model: whole, or with its block stack skipped by a residual rule."""
        run: SamplingRun | None = transformer_options.get(KEY)
        uuids = transformer_options.get("uuids")
        if run is None:
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, *args, **kwargs)
        if uuids is None:
            _give_up_residuals(run, "the model is run on conds that are not told (transformer option uuids)")
            run.note_model_calls(1)
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, *args, **kwargs)
        patches = transformer_options.get("patches", {})
        for why in (why for kind, why in SPANNING_PATCHES.items() if patches.get(kind)):
            _give_up_residuals(run, why)
        call = None
        if self.family is not None and run.in_batch and (run.wants_residuals or run.reuses_residuals):
            names = run.name_chunks(
                transformer_options.get("cond_or_uncond", [0] * len(uuids)), uuids, transformer_options
            )
            latent_shape = (x.shape[0] // len(uuids), *x.shape[1:])
            if run.may_skip_blocks(names, latent_shape):
                skipping = SkippingCall(run, self.family, names, latent_shape)
                options = transformer_options | {CALL_KEY: skipping} | skipping.options
                with _uncompiled(executor.class_obj, run):
                    denoised = executor(x, t, c_concat, c_crossattn, None, options, *args, **kwargs)
                if skipping.complete:
                    return denoised
                _give_up_residuals(run, "the residual does not fit the tokens that the head is given")
            if run.wants_residuals:
                call = ComputedCall(run, self.family, names, latent_shape)
                transformer_options = transformer_options | {CALL_KEY: call}
        run.note_computed()
        run.note_model_calls(len(uuids))
        with nullcontext() if call is None else _uncompiled(executor.class_obj, run):
            denoised = executor(x, t, c_concat, c_crossattn, control, transformer_options, *args, **kwargs)
        if call is not None and not call.keep():
            _give_up_residuals(run, "the tokens do not pass the model's blocks as known")
        return denoised


def _give_up_residuals(run: SamplingRun, why: str) -> None:
    if run.give_up_residuals(why):
        logger.warning("Rules run on the output: %s.", why)


def _run_of(model_options: dict) -> SamplingRun | None:
    return model_options.get("transformer_options", {}).get(KEY)


@contextmanager
def _uncompiled(model: BaseModel, run: SamplingRun) -> Iterator[None]:
    """Leave out torch.compile of the whole diffusion model: its graphs cannot follow a call that differs."""
    compiled = model.diffusion_model
    plain = getattr(compiled, "_orig_mod", None)
    if plain is None:
        yield
        return
    run.remark("steps that measure or reuse the blocks run without torch.compile of the whole model")
    model.diffusion_model = plain
    try:
        yield
    finally:
        model.diffusion_model = compiled


def _take_places(wrappers: dict[str, dict[str, list]]) -> None:
    """Put this pack's wrappers around those of other nodes, in whatever order they were applied.

    So a reused step skips them. Only around the model itself they go inside: a compiled model is put there by such a
    wrapper, and one that splits a batch leads to several evaluations.
    """
    from comfy.patcher_extension import WrappersMP

    for kind in (WrappersMP.PREDICT_NOISE, WrappersMP.CALC_COND_BATCH, WrappersMP.APPLY_MODEL):
        if KEY not in wrappers.get(kind, {}):
            continue
        own = {KEY: wrappers[kind][KEY]}
        others = {key: value for key, value in wrappers[kind].items() if key != KEY}
        wrappers[kind] = others | own if kind == WrappersMP.APPLY_MODEL else own | others


def ignore(report: RunReport) -> None:
    """Listens to no report."""


def attach(model: ModelPatcher, make_run: MakeRun, on_report: Callable[[RunReport], None] = ignore) -> ModelPatcher:
    """A clone of ``model`` whose sampling runs are made by ``make_run``; ``model`` itself stays as it is."""
    from comfy.patcher_extension import WrappersMP  # where host.check has seen that there is one

    model = model.clone()
    family, amiss = look_up(model)
    if family is not None:
        patch_stack(model)
    elif amiss:
        logger.warning("Residual rules run on the output, %s.", amiss)
    wrappers = CacheWrappers(make_run, family, on_report)
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
    model: ModelPatcher, choose: Choose, cache_device: str = "auto", on_report: Callable[[RunReport], None] = ignore,
    on_step: OnStep | None = None,
) -> ModelPatcher:
    """A clone of ``model`` that samples by the schedules that ``choose`` gives; ``model`` itself stays as it is.

    Raises:
        ValueError: ``cache_device`` is none of CACHE_DEVICES.
    """
    check_cache_device(cache_device)

    def report(run: RunReport) -> None:
        logger.info(run.line())
        on_report(run)

    family, amiss = look_up(model)
    no_stack = "" if family is not None else amiss or "this model's block stack is not known"
    runs = ScheduledRuns(choose, cache_device, no_stack, on_step)
    return attach(model, runs, report)
