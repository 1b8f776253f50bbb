"""One calibration sample: a prompt, a seed and a sampler, to be sampled again and again under given actions."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.sample
import comfy.sampler_helpers
import comfy.samplers
import torch

from ..cache.host import check
from ..cache.report import RunReport
from ..cache.run import SamplingRun
from ..cache.setting import RunSetting
from ..cache.wrapper import attach
from .references.arrival import Segments
from .references.response import response_of
from .sample import Sample

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

Callback = Callable[[int, torch.Tensor, torch.Tensor, int], None]
"""Of every step: its number, the denoised latent, the latent, and N."""


class AttachedModel:
    """A model with the cache's wrappers on a clone; samplings share it, so that going from one to the next loads nothing.

    HostError where this ComfyUI is not one that the pack knows.
    """

    def __init__(self, model: ModelPatcher) -> None:
        check(model)
        self.patcher: ModelPatcher = attach(model, self._make_run, self._keep_report)
        self.new_run: Callable[[Sequence[float]], SamplingRun] | None = None
        self.report: RunReport | None = None

    def _make_run(self, setting: RunSetting) -> SamplingRun:
        return self.new_run(setting.sigmas)

    def _keep_report(self, report: RunReport) -> None:
        self.report = report


class Sampling:
    """Samples one latent by one guider; always from the same noise, so that runs differ by their actions only.

    Args:
        attached: the guider's model.
        guider: with its conds set; a copy of it samples ``attached``.
        sampler: any sampler of ComfyUI.
        sigmas: [N + 1].
        latent: as ComfyUI's LATENT: ``samples``, and ``noise_mask`` and ``batch_index`` where it has them.
        sample: the name of the prompt, and the seed of the noise.
        add_noise: False for a latent that brings its noise along, like the second of two experts.
    """

    def __init__(
        self,
        attached: AttachedModel,
        guider: comfy.samplers.CFGGuider,
        sampler: comfy.samplers.Sampler,
        sigmas: torch.Tensor,
        latent: Mapping[str, object],
        sample: Sample,
        add_noise: bool = True,
    ) -> None:
        self.sample = sample
        self.sigmas = tuple(sigmas.tolist())
        self.conds = digest_conds(guider)
        self.computed = 0
        """How many steps all runs so far have computed."""
        self._attached = attached
        self._guider = copy.copy(guider)
        self._guider.model_patcher, self._guider.model_options = attached.patcher, attached.patcher.model_options
        self._sampler, self._sigmas = sampler, sigmas
        self._latent = latent
        self._image = comfy.sample.fix_empty_latent_channels(
            attached.patcher, latent["samples"], latent.get("downscale_ratio_spacial"),
            latent.get("downscale_ratio_temporal"),
        )
        self._add_noise = add_noise

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the latent; of the first one where several are sampled together."""
        image = self._image
        return tuple((image.unbind()[0] if image.is_nested else image).shape)

    @property
    def mask(self) -> torch.Tensor | None:
        """The denoise mask, flat, in the shape of the latent; None without one."""
        mask = self._latent.get("noise_mask")
        if mask is None:
            return None
        parts = self._image.unbind() if self._image.is_nested else [self._image]
        masks = mask.unbind() if mask.is_nested else [mask] * len(parts)
        whole = [
            comfy.sampler_helpers.prepare_mask(one, part.shape, part.device)
            for one, part in zip(masks, parts, strict=True)
        ]
        return torch.cat([one.flatten() for one in whole])

    @property
    def guider(self) -> comfy.samplers.CFGGuider:
        """The guider that is sampled."""
        return self._guider

    @property
    def sampler(self) -> comfy.samplers.Sampler:
        """The sampler."""
        return self._sampler

    def segments(self) -> Segments:
        """How segments arrive under this sampler.

        Raises:
            NoResponseError: its latents do not follow from the model's answers in a known way.
        """
        response = response_of(self._sampler, self._guider, self.sigmas, self.sample.seed, self.mask)
        return Segments(response, len(self.sigmas) - 1)

    @property
    def report(self) -> RunReport:
        """The account of the last run."""
        return self._attached.report

    def run(
        self, new_run: Callable[[Sequence[float]], SamplingRun], callback: Callback | None = None
    ) -> torch.Tensor:
        """Sample once, with the state that ``new_run`` makes from the sigmas; the final latents, flat, on the CPU.

        Interruptions by the user and errors of the model pass through.
        """
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._attached.new_run = new_run
        try:
            samples = self._guider.sample(
                self._noise(), self._image, self._sampler, self._sigmas,
                denoise_mask=self._latent.get("noise_mask"), callback=callback, disable_pbar=True, seed=self.sample.seed,
            )
        finally:
            self._attached.new_run = None  # it holds what a replay recalls
            if self._attached.report is not None:
                self.computed += len(self._attached.report.computed)
        parts = samples.unbind() if samples.is_nested else [samples]
        return torch.cat([part.flatten() for part in parts]).float().cpu()

    def latents(self, flat: torch.Tensor) -> torch.Tensor:
        """Final latents that ``run`` gave, in the shape that a VAE decodes; the first ones where there are several."""
        shape = self.shape
        return flat[: torch.Size(shape).numel()].reshape(shape)

    def _noise(self) -> torch.Tensor:
        """The noise of the seed; drawing it also sets the generator that some samplers draw from."""
        noise = comfy.sample.prepare_noise(self._image, self.sample.seed, self._latent.get("batch_index"))
        return noise if self._add_noise else noise * 0.0


def ksampler_sampling(
    attached: AttachedModel, positive: list, negative: list, latent: Mapping[str, object], sample: Sample,
    steps: int, cfg: float, sampler: str, scheduler: str, denoise: float = 1.0,
) -> Sampling:
    """The sampling that the KSampler node does with these inputs."""
    model = attached.patcher
    settings = comfy.samplers.KSampler(
        model, steps=steps, device=model.load_device, sampler=sampler, scheduler=scheduler, denoise=denoise,
        model_options=model.model_options,
    )
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return Sampling(attached, guider, comfy.samplers.sampler_object(sampler), settings.sigmas, latent, sample)


def digest_conds(guider: comfy.samplers.CFGGuider) -> str:
    """A digest of how a guider guides: its conds, and its numbers such as cfg. Another digest is another sample."""
    digest = hashlib.sha256()

    def add(value: object) -> None:
        if isinstance(value, Mapping):
            for key in sorted(value, key=str):
                if key != "uuid":
                    digest.update(str(key).encode())
                    add(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        elif isinstance(value, torch.Tensor):
            digest.update(str(tuple(value.shape)).encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        elif value is None or isinstance(value, str | int | float):
            digest.update(repr(value).encode())
        else:
            digest.update(type(value).__name__.encode())

    add(guider.original_conds)
    add({key: value for key, value in vars(guider).items() if isinstance(value, bool | int | float | str)})
    return digest.hexdigest()[:16]
