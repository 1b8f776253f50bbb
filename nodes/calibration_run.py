"""What both calibrate nodes share: their inputs for measuring, and the calibration from samples to saved schedules."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io, ui

from ..cache.blocks import stack_family
from ..cache.identity import identify
from ..cache.wrapper import OTHER_CACHES
from ..calibration import METRICS, MODES
from ..calibration.graph import KNOWN_MODES, present_mode
from ..calibration.job import Job, Settings
from ..calibration.job_error import JobError, told_what_is_kept
from ..calibration.latents import Distance
from ..calibration.quality import measure
from ..calibration.sampling import Sampling
from ..schedules import FIXED, PRESETS, Match, Schedule, find_family, preset_budget, resample
from ..schedules.schedule import check_name, check_sigmas
from .calibration_progress import Broadcast
from .calibration_summary import picture_of, summary
from .library import calibrations, changing, check_not_reserved, library
from .report import load_network
from .speed import Speed
from .types import Calibrated, ErrorGraphType, as_image

try:
    from .cluster import on_ray, ray_inputs
except ModuleNotFoundError as error:
    if error.name != f"{__package__}.cluster":
        raise
    on_ray, ray_inputs = None, list

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE

RULES = {
    "output": tuple(rule for rule in FIXED if rule.target == "output"),
    "residual": tuple(rule for rule in FIXED if rule.target == "residual"),
    "output and residual": FIXED,
}


def measuring_inputs() -> list[io.Input]:
    """Seeds and what to measure of each sample; all but the first two make an Order."""
    return [
        io.Int.Input(
            "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=io.ControlAfterGenerate.fixed,
            tooltip="The noise of the first sample; every further one counts it up by one.",
        ),
        io.Int.Input("seeds", default=1, min=1, max=64, tooltip="How many noises to sample each prompt with."),
        io.Combo.Input(
            "mode", options=list(MODES), default="short", display_name="effort",
            tooltip="How much the model runs: short fits one path a preset to a full run of every sample; normal tries "
            "others for the faster presets; exact replays every segment of steps, which takes far longest.",
        ),
        io.Int.Input(
            "longest", default=0, min=0, max=10000,
            tooltip="The longest segment to measure: one computed step and the reused ones after it. 0 goes by the "
            "smallest preset.",
        ),
        io.Combo.Input(
            "rules", options=list(RULES), default="output",
            tooltip="What a reused step may reuse: the model's output, which works everywhere, or the residual of its "
            "transformer blocks, which takes the effort exact.",
        ),
        io.String.Input(
            "name", default="",
            tooltip="What to call the calibration; the same name and settings go on where it stopped. Empty takes "
            "model, steps and sampler.",
        ),
        io.Combo.Input(
            "metric", options=list(METRICS), default="l1", advanced=True,
            tooltip="What an error is: the distance of the final latents, or LPIPS of the decoded frames.",
        ),
        io.Vae.Input("vae", optional=True, tooltip="Decodes the frames that the lpips metric compares."),
        io.Int.Input(
            "tries", default=24, min=0, max=1000, advanced=True,
            tooltip="How many changed paths to sample per budget in search of a better one, with the effort exact.",
        ),
        io.Boolean.Input(
            "safe", default=True, optional=True, advanced=True,
            tooltip="Protect the start of the run, where a few pictures would turn into other ones. Off is better in the "
            "mean and worse in the worst picture.",
        ),
        *ray_inputs(),
    ]


def result_outputs() -> list[io.Output]:
    """What a calibration gives."""
    return [
        ErrorGraphType.Output(display_name="error graph", tooltip="What every segment of reused steps costs."),
        io.Image.Output(display_name="picture", tooltip="The error graph with the chosen paths, and what budgets cost."),
        io.String.Output(display_name="summary", tooltip="The schedules and their measured errors, as Markdown."),
    ]


@dataclass(frozen=True, slots=True)
class Order:
    """What to measure, in the words of the inputs."""

    mode: str
    longest: int
    rules: str
    name: str
    metric: str
    tries: int
    vae: VAE | None = None
    ray: str = ""
    workers: int = 0
    safe: bool = True

    def check(self, model: ModelPatcher) -> None:
        """JobError for what this model, or this machine, cannot measure."""
        if "residual" in self.rules and stack_family(model) is None:
            name = type(model.get_model_object("diffusion_model")).__name__
            raise JobError(f"The transformer blocks of {name} are not known, so it has no residual: set rules to output.")
        for key, other in OTHER_CACHES.items():
            if key in model.model_options["transformer_options"]:
                raise JobError(f"{other} works on this model: take it out, it would be measured along with the model.")
        if self.metric == "lpips" and self.vae is None:
            raise JobError("LPIPS compares decoded frames: connect a VAE, or set metric to l1.")


KEPT_FRAMES = 2 << 30
"""How many bytes of decoded references are kept, in memory that is not the GPU's."""


class FrameDistance:
    """The mean LPIPS between the decoded frames of two final latents.

    Paths are measured on one sample after the other, so the frames of the references are kept: those that come first, as
    many as fit, and beside them the last one.
    """

    def __init__(self, sampling: Sampling, vae: VAE) -> None:
        network, missing = load_network()
        if network is None:
            raise JobError(missing)
        self._network, self._sampling, self._vae = network, sampling, vae
        self._kept: dict[bytes, torch.Tensor] = {}
        self._last: tuple[bytes, torch.Tensor] | None = None
        self._bytes = 0

    def __call__(self, latents: torch.Tensor, reference: torch.Tensor) -> float:
        frames = self._frames_of(reference)
        return measure(self._decode(latents), frames, self._network).lpips

    def _frames_of(self, reference: torch.Tensor) -> torch.Tensor:
        # By content: a worker makes the full run of a sample again when it comes back to it.
        key = hashlib.sha256(reference.numpy().tobytes()).digest()
        if key in self._kept:
            return self._kept[key]
        if self._last is None or self._last[0] != key:
            self._last = key, self._decode(reference).cpu()
        frames = self._last[1]
        if self._bytes + frames.nbytes <= KEPT_FRAMES:
            self._kept[key], self._bytes, self._last = frames, self._bytes + frames.nbytes, None
        return frames

    def _decode(self, flat: torch.Tensor) -> torch.Tensor:
        frames = self._vae.decode(self._sampling.latents(flat))
        return frames.reshape(-1, *frames.shape[-3:])


def lines_of(text: str) -> list[str]:
    """The lines of a text that hold something."""
    return [line.strip() for line in text.splitlines() if line.strip()]


class Calibrating(io.ComfyNode):
    """A node that calibrates, once its inputs are samples."""

    @classmethod
    def validate_inputs(cls, mode: str = MODES[0], positive: object = None, guiders: object = None) -> bool | str:
        """Whether the mode is known, those in workflows of earlier versions included.

        ComfyUI checks the choice of an input that is named here no more, and hands over growing inputs unasked.
        """
        return mode in KNOWN_MODES or f"{str(mode)[:80]!r} is none of {', '.join(MODES)}"

    @classmethod
    def measure(
        cls, model: ModelPatcher, samplings: Sequence[Sampling], setup: Mapping[str, object], name: str, order: Order
    ) -> io.NodeOutput:
        """What the node does with its samples; a worker of a calibration elsewhere serves their runs instead."""
        return calibrate(cls, model, samplings, setup, name, order)


def calibrate(
    node: type[io.ComfyNode], model: ModelPatcher, samplings: Sequence[Sampling], setup: Mapping[str, object],
    default_name: str, order: Order,
) -> io.NodeOutput:
    """Measure, solve, save; the outputs of a calibrate node.

    ``setup``: how the samples are sampled. ``default_name``: the calibration's name after its family, if it has none.

    Raises:
        JobError: the settings do not fit, or the name belongs to another calibration.
        ScheduleError: the name or the sigmas cannot be a schedule's.
        ReplayError: a sample cannot be measured.
    """
    match = find_family(identify(model), library().families())
    name = order.name.strip() or f"{match.key}-{default_name}"
    settings = _settings(match, samplings[0].sigmas, setup, order)
    _check_names(name, samplings[0].sigmas, settings.budgets)
    distance: Distance | None = FrameDistance(samplings[0], order.vae) if order.metric == "lpips" else None
    broadcast = Broadcast(
        node.hidden.unique_id, name, model, settings.longest, Speed(match.key, samplings[0].shape)
    )
    make = Job
    if on_ray is not None and order.ray.strip():
        make = on_ray(node, samplings, settings, order.ray.strip(), order.workers, broadcast.show)
    job = make(
        calibrations().root, name, samplings, settings, distance=distance,
        others=() if settings.fits else others_of(match, samplings[0].sigmas, settings.budgets),
        on_progress=broadcast.progress, on_preview=broadcast.preview,
    )
    begin = time.monotonic()
    with broadcast:
        broadcast.estimate(job.cost())
        result = job.run()
        with told_what_is_kept(), changing():
            file = calibrations().save(name, result.graph)
            folders = {str(library().save(schedule).parent) for schedule in result.schedules(name)}
        broadcast.end(job.cost())
    calibrated = Calibrated(name, result.graph, result.outcomes, result.metric)
    text = summary(calibrated, result.computed, time.monotonic() - begin, [str(file), *folders])
    picture = as_image(picture_of(calibrated))
    shown = ui.PreviewImage(picture, cls=node).as_dict() | {"text": (text,)}
    return io.NodeOutput(calibrated, picture, text, ui=shown)


def _settings(match: Match, sigmas: Sequence[float], setup: Mapping[str, object], order: Order) -> Settings:
    steps = len(sigmas) - 1
    budgets = tuple(sorted({preset_budget(match, preset, steps) for preset in PRESETS}))
    longest = order.longest or longest_segment(steps, budgets[0])
    settings = Settings(
        family=match.key, model=match.identity, mode=present_mode(order.mode), metric=order.metric, rules=RULES[order.rules],
        longest=longest, budgets=budgets, tries=order.tries, safe=order.safe, setup=setup,
    )
    settings.check(steps)
    return settings


def longest_segment(steps: int, smallest: int) -> int:
    """The longest segment to measure, where none is given, for the smallest budget."""
    return max(2, min(steps, math.ceil(2 * steps / max(smallest, 1))))


def _check_names(name: str, sigmas: Sequence[float], budgets: Sequence[int]) -> None:
    """Refuse before the long part what could not be saved after it."""
    check_not_reserved(name)
    check_sigmas(sigmas)
    names = {f"{name}/{len(sigmas) - 1}b{budget}" for budget in budgets}
    for schedule in names:
        check_name(schedule, "The name of the calibration, with what is added for its schedules,")
        library().check_file(schedule)
    calibrations().check_file(name)
    for schedule in _packaged():
        if schedule.name in names:
            raise JobError(f"{schedule.name} is a schedule that comes with the pack: give the calibration another name.")


def others_of(match: Match, sigmas: Sequence[float], budgets: Sequence[int]) -> list[Schedule]:
    """The packaged schedules of the family, for these sigmas and each of these budgets."""
    packaged = [schedule for schedule in _packaged() if schedule.family == match.key]
    return [resample(schedule, sigmas, budget) for schedule in packaged for budget in budgets]


def _packaged() -> list[Schedule]:
    own = {schedule.name for schedule in library().own()}
    return [schedule for schedule in library().schedules() if schedule.name not in own]
