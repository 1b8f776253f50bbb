"""The nodes that calibrate: for the inputs of a KSampler, and for those of custom sampling."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import comfy.samplers
import torch
from comfy_api.latest import io

from ..calibration import Sample
from ..calibration.job_error import JobError
from ..calibration.sampling import AttachedModel, Sampling, digest_conds, ksampler_sampling
from .calibration_run import Calibrating, Order, lines_of, measuring_inputs, result_outputs

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP

CATEGORY = "model/patch/LeMiCa"
PROMPTS = 64
GUIDERS = 16


class LeMiCaCalibrate(Calibrating):
    """Measures what reuse costs when a KSampler samples, and saves schedules."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LeMiCaCalibrate",
            display_name="Calibrate LeMiCa",
            category=CATEGORY,
            description=(
                "Measures on your own prompts what reusing steps costs this model, and saves the best schedule for "
                "every preset; the LeMiCa node then finds it. It can be cancelled, and goes on where it stopped."
            ),
            search_aliases=["calibration", "measure", "cache", "schedule"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model to calibrate, after LoRAs and other patches."),
                io.Latent.Input("latent", tooltip="What the samples start from, as at the KSampler."),
                io.Autogrow.Input(
                    "positive",
                    template=io.Autogrow.TemplatePrefix(
                        io.Conditioning.Input("positive", tooltip="A prompt to measure with."),
                        prefix="positive", min=0, max=PROMPTS,
                    ),
                    tooltip="Prompts to measure with, one or more, beside those that are typed in.",
                ),
                io.Conditioning.Input("negative", optional=True, tooltip="The negative prompt of all samples."),
                io.Clip.Input("clip", optional=True, tooltip="Encodes the prompts that are typed in."),
                io.String.Input(
                    "prompts", default="", multiline=True,
                    tooltip="Prompts to measure with, one a line; a handful of different ones is better than one.",
                ),
                io.String.Input(
                    "negative_prompt", default="", multiline=True,
                    tooltip="The negative prompt of all samples, when nothing is connected to negative.",
                ),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="The steps of a run, as at the KSampler."),
                io.Float.Input(
                    "cfg", default=8.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip="The scale of the guidance."
                ),
                io.Combo.Input("sampler_name", options=comfy.samplers.KSampler.SAMPLERS, tooltip="The sampler."),
                io.Combo.Input("scheduler", options=comfy.samplers.KSampler.SCHEDULERS, tooltip="The noise schedule."),
                io.Float.Input(
                    "denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip="The share of the noise to sample."
                ),
                *measuring_inputs(),
            ],
            outputs=result_outputs(),
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def execute(
        cls, model: ModelPatcher, latent: Mapping[str, object], positive: io.Autogrow.Type, prompts: str,
        negative_prompt: str, steps: int, cfg: float, sampler_name: str, scheduler: str, denoise: float, seed: int,
        seeds: int, negative: list | None = None, clip: CLIP | None = None, **measuring: object,
    ) -> io.NodeOutput:
        order = Order(**measuring)
        order.check(model)
        check_connected(positive)
        named = named_prompts(model, list(positive.values()), lines_of(prompts), clip)
        negative = negative_of(negative, negative_prompt, clip, named[0][1], cfg)
        attached = AttachedModel(model)
        samplings = [
            ksampler_sampling(attached, conds, negative, latent, sample, steps, cfg, sampler_name, scheduler, denoise)
            for conds, sample in samples_of(named, seed, seeds)
        ]
        setup = {
            "sampler": sampler_name, "scheduler": scheduler, "cfg": cfg, "denoise": denoise,
            "latent": latent_digest(latent),
        }
        name = f"{steps}-{sampler_name}-{scheduler}-cfg{cfg:g}"
        return cls.measure(model, samplings, setup, name, order)


class LeMiCaCalibrateCustom(Calibrating):
    """Measures what reuse costs when guiders, a sampler and sigmas are given, and saves schedules."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LeMiCaCalibrateCustom",
            display_name="Calibrate LeMiCa (custom sampling)",
            category=CATEGORY,
            description=(
                "Calibrate LeMiCa for the guiders, sampler and sigmas of custom sampling: measures what reusing steps "
                "costs, and saves the best schedule for every preset."
            ),
            search_aliases=["calibration", "guider", "sigmas", "cache", "schedule"],
            is_output_node=True,
            inputs=[
                io.Autogrow.Input(
                    "guiders",
                    template=io.Autogrow.TemplatePrefix(
                        io.Guider.Input("guider", tooltip="A prompt to measure with, and how it guides."),
                        prefix="guider", min=1, max=GUIDERS,
                    ),
                    tooltip="Prompts to measure with, one guider each, all on one model.",
                ),
                io.Sampler.Input("sampler", tooltip="The sampler, as at SamplerCustomAdvanced."),
                io.Sigmas.Input("sigmas", tooltip="The sigmas of a run."),
                io.Latent.Input("latent", tooltip="What the samples start from."),
                io.String.Input(
                    "prompts", default="", multiline=True,
                    tooltip="Names for the guiders, one a line, such as their prompts; they change nothing else.",
                ),
                io.Boolean.Input(
                    "add_noise", default=True,
                    tooltip="Off for a latent that brings its noise along, as for the second of two models.",
                ),
                *measuring_inputs(),
            ],
            outputs=result_outputs(),
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
        )

    @classmethod
    def execute(
        cls, guiders: io.Autogrow.Type, sampler: comfy.samplers.Sampler, sigmas: torch.Tensor,
        latent: Mapping[str, object], prompts: str, add_noise: bool, seed: int, seeds: int, **measuring: object,
    ) -> io.NodeOutput:
        order = Order(**measuring)
        check_connected(guiders)
        given = list(guiders.values())
        model = given[0].model_patcher
        order.check(model)
        if any(guider.model_patcher.model is not model.model for guider in given):
            raise JobError("The guiders have different models: calibrate one model at a time.")
        names = lines_of(prompts)
        named = [
            (names[place] if place < len(names) else f"conditioning {digest_conds(guider)}", guider)
            for place, guider in enumerate(given)
        ]
        attached = {id(guider.model_patcher): AttachedModel(guider.model_patcher) for guider in given}
        samplings = [
            Sampling(attached[id(guider.model_patcher)], guider, sampler, sigmas, latent, sample, add_noise)
            for guider, sample in samples_of(named, seed, seeds)
        ]
        setup = {
            "sampler": sampler_name_of(sampler), "sampler_options": plain(getattr(sampler, "extra_options", {})),
            "guider": {"class": type(given[0]).__name__, **plain(vars(given[0]))}, "add_noise": add_noise,
            "latent": latent_digest(latent),
        }
        guided = f"-cfg{given[0].cfg:g}" if hasattr(given[0], "cfg") else ""
        name = f"{len(sigmas) - 1}-{sampler_name_of(sampler)}-custom{guided}"
        return cls.measure(model, samplings, setup, name, order)


def check_connected(inputs: Mapping[str, object]) -> None:
    """JobError for an input that came as null, as a prompt of the API can have it."""
    empty = [name for name, value in inputs.items() if value is None]
    if empty:
        raise JobError(f"{', '.join(empty)} came as null: connect something to it, or leave the input out.")


def named_prompts(
    model: ModelPatcher, connected: Sequence[list], typed: Sequence[str], clip: CLIP | None
) -> list[tuple[str, list]]:
    """Every prompt with a name: the text that was typed, or the digest of what is connected.

    Raises:
        JobError: there is none, or nothing to encode one with.
    """
    if typed and clip is None:
        raise JobError("There are prompts to encode and nothing to encode them with: connect a CLIP.")
    if not typed and not connected:
        raise JobError("There is no prompt to measure with: connect a conditioning to positive, or type prompts.")
    named = []
    for conds in connected:
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(conds, [])
        named.append((f"conditioning {digest_conds(guider)}", conds))
    return named + [(prompt, encode(clip, prompt)) for prompt in typed]


def negative_of(connected: list | None, typed: str, clip: CLIP | None, positive: list, cfg: float) -> list:
    """The negative conditioning; without guidance nothing evaluates it, and any will do.

    Raises:
        JobError: it is needed and there is none.
    """
    if connected is not None:
        return connected
    if clip is not None:
        return encode(clip, typed.strip())
    if cfg != 1.0:
        raise JobError(f"With cfg {cfg:g} a negative prompt is needed: connect a conditioning to negative, or a CLIP.")
    return positive


def encode(clip: CLIP, text: str) -> list:
    """The conditioning of a text, as CLIPTextEncode makes it."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def samples_of(named: Sequence[tuple[str, object]], seed: int, seeds: int) -> list[tuple[object, Sample]]:
    """Every prompt with every one of its noises; no two samples share a seed."""
    pairs = [pair for pair in named for _ in range(seeds)]
    return [(prompt, Sample(name, seed + place)) for place, (name, prompt) in enumerate(pairs)]


def sampler_name_of(sampler: comfy.samplers.Sampler) -> str:
    """The name of a KSAMPLER's function, like ``euler``; of another sampler its class."""
    function = getattr(sampler, "sampler_function", type(sampler))
    return getattr(function, "__name__", type(function).__name__).removeprefix("sample_")


def plain(values: Mapping[str, object]) -> dict[str, object]:
    """Those of the values that JSON holds as they are."""
    return {key: value for key, value in sorted(values.items()) if isinstance(value, bool | int | float | str)}


def latent_digest(latent: Mapping[str, object]) -> str:
    """A digest of the latent that samples start from, and of its mask."""
    digest = hashlib.sha256()
    for key in ("samples", "noise_mask"):
        tensor = latent.get(key)
        if tensor is not None:
            parts = tensor.unbind() if tensor.is_nested else [tensor]
            for part in parts:
                digest.update(str(tuple(part.shape)).encode())
                digest.update(part.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
