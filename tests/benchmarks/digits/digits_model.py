"""A tiny Lumina 2 that draws handwritten digits, on which nothing of the pack was tuned: its size, prompts and loading."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

WEIGHTS = Path(__file__).resolve().parent / "digits_lumina.safetensors"
SIZE = 16
UNET = {
    "image_model": "lumina2", "in_channels": 3, "dim": 96, "n_layers": 6, "n_refiner_layers": 1, "n_heads": 4,
    "n_kv_heads": 4, "multiple_of": 16, "ffn_dim_multiplier": 3.0, "qk_norm": True, "cap_feat_dim": 32,
    "axes_dims": [8, 8, 8], "axes_lens": [64, 64, 64],
}
SHIFT = 3.0
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
INKS = {"red": (200, 40, 40), "green": (30, 140, 60), "blue": (40, 70, 200), "black": (20, 20, 20)}
GROUNDS = {"white": (250, 250, 250), "yellow": (250, 230, 120)}
PROMPTS = tuple(product(DIGITS, INKS, GROUNDS))
"""Digit, ink, ground."""


def name(prompt: tuple[str, str, str]) -> str:
    return "{} in {} on {}".format(*prompt)


def tokens(prompts: list[tuple[str, str, str] | None]) -> torch.Tensor:
    """[prompts, 3, 32]; every word has one fixed vector, None is no prompt."""
    words = ("", *DIGITS, *INKS, *GROUNDS)
    vectors = torch.randn(len(words), UNET["cap_feat_dim"], generator=torch.Generator().manual_seed(3))
    return torch.stack([vectors[[words.index(word) for word in prompt or ("",) * 3]] for prompt in prompts])


def new_model(weights: dict[str, torch.Tensor] | None = None) -> ModelPatcher:
    """ComfyUI's own patcher around its Lumina 2 class; the latent is the picture, [B, 3, 16, 16] from -1 to 1."""
    import comfy.latent_formats
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models

    config = comfy.supported_models.Lumina2(UNET)
    config.unet_config.update(UNET)
    config.latent_format = comfy.latent_formats.ChromaRadiance()
    config.sampling_settings = config.sampling_settings | {"shift": SHIFT}
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device="cpu")
    if weights is not None:
        model.diffusion_model.load_state_dict({key: value.float() for key, value in weights.items()})
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.CoreModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))


def load() -> ModelPatcher:
    """The trained model."""
    from safetensors.torch import load_file

    return new_model(load_file(WEIGHTS))


class DigitsModel:
    """The digits model as the benchmarks sample it; as workflows/demo_model/samples.py does the embedded model."""

    family = "benchmark-digits"

    def __init__(self, shift: float = SHIFT, shape: Sequence[int] = (1, 3, SIZE, SIZE), cfg: float = 3.0) -> None:
        from comfy_extras.nodes_model_advanced import ModelSamplingAuraFlow
        from lemica.calibration.sampling import AttachedModel

        self.shift, self.shape, self.cfg = shift, shape, cfg
        self.model = load() if shift == SHIFT else ModelSamplingAuraFlow().patch_aura(load(), shift)[0]
        self.attached = AttachedModel(self.model)

    def conds(self, prompt: int) -> tuple[list, list]:
        """The positive and negative CONDITIONING of a prompt, by place."""
        return [[tokens([PROMPTS[prompt]]), {}]], [[tokens([None]), {}]]

    def latent(self) -> dict[str, torch.Tensor]:
        """An empty LATENT."""
        return {"samples": torch.zeros(self.shape)}

    def sampling(self, prompt: int, seed: int, steps: int, sampler: str = "euler", scheduler: str = "simple"):
        """One sample, as the KSampler node would sample it."""
        from lemica.calibration import Sample
        from lemica.calibration.sampling import ksampler_sampling

        positive, negative = self.conds(prompt)
        sample = Sample(name(PROMPTS[prompt]), seed)
        return ksampler_sampling(
            self.attached, positive, negative, self.latent(), sample, steps, self.cfg, sampler, scheduler
        )

    def calibration(self, count: int) -> list[tuple[int, int]]:
        """Prompt and seed of samples to calibrate with: every seventh prompt in turn."""
        return [(7 * k % len(PROMPTS), 7000 + k) for k in range(count)]

    def held_out(self, count: int) -> list[tuple[int, int]]:
        """Prompt and seed of samples to check on: other prompts, and other seeds."""
        others = [place for place in range(len(PROMPTS)) if place % 7]
        return [(others[11 * k % len(others)], 9000 + k) for k in range(count)]

    def frames(self, latents: torch.Tensor) -> torch.Tensor:
        """The picture, [1, H, W, 3] from 0 to 1, every pixel as a square of four by four: LPIPS wants them larger."""
        large = latents.repeat_interleave(4, -1).repeat_interleave(4, -2)
        return (large.movedim(1, -1) / 2 + 0.5).clamp(0, 1)
