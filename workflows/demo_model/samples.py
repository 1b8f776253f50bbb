"""The embedded model's samples: eight prompts to calibrate with, others and other seeds to check on."""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from comfy.model_patcher import ModelPatcher

    from ...calibration.sampling import Sampling

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = ROOT / "nodes" / "demo_model"
SHIFT, CFG = 5.0, 4.0


def enter_comfyui() -> None:
    """Make ComfyUI (LEMICA_COMFYUI) and this pack importable, on the CPU where there is no GPU."""
    if "lemica" not in sys.modules:
        pack = types.ModuleType("lemica")  # not imported: its __init__ needs a running ComfyUI
        pack.__path__ = [str(ROOT)]
        sys.modules["lemica"] = pack
    sys.path.insert(0, os.environ["LEMICA_COMFYUI"])
    import comfy.options

    comfy.options.enable_args_parsing(False)
    import torch
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()


class DemoModel:
    """The embedded model with its prompts.

    Args:
        shift: the sigma shift; the demo's unless another is given.
        shape: of the latent, [1, 16, T, H, W]; the one that the model was trained on unless another is given.
        cfg: the demo's unless another is given.
    """

    family = "lemica-demo"

    def __init__(self, shift: float = SHIFT, shape: Sequence[int] | None = None, cfg: float = CFG) -> None:
        import comfy.sd
        from comfy_extras.nodes_model_advanced import ModelSamplingSD3
        from lemica.calibration.sampling import AttachedModel
        from safetensors import safe_open

        self.shift, self.cfg = shift, cfg
        model = comfy.sd.load_diffusion_model(str(FILES / "wan_tiny.safetensors"))
        self.model: ModelPatcher = ModelSamplingSD3().patch(model, shift=shift)[0]
        self.attached = AttachedModel(self.model)
        with safe_open(FILES / "prompts.safetensors", framework="pt") as file:
            self._prompts, self._negative = file.get_tensor("prompts"), file.get_tensor("negative")
            self.names: list[str] = json.loads(file.metadata()["names"])
            size = json.loads(file.metadata()["size"])
        own = (1, 16, (size["frames"] - 1) // 4 + 1, size["height"] // 8, size["width"] // 8)
        self.shape = tuple(shape or own)

    def conds(self, prompt: int) -> tuple[list, list]:
        """The positive and negative CONDITIONING of a prompt, by place."""
        return [[self._prompts[prompt : prompt + 1], {}]], [[self._negative, {}]]

    def latent(self) -> dict[str, torch.Tensor]:
        """An empty LATENT."""
        import torch

        return {"samples": torch.zeros(self.shape)}

    def sampling(self, prompt: int, seed: int, steps: int, sampler: str = "euler", scheduler: str = "simple") -> Sampling:
        """One calibration sample, as the KSampler node would sample it."""
        from lemica.calibration import Sample
        from lemica.calibration.sampling import ksampler_sampling

        positive, negative = self.conds(prompt)
        sample = Sample(self.names[prompt], seed)
        return ksampler_sampling(self.attached, positive, negative, self.latent(), sample, steps, self.cfg, sampler, scheduler)

    def calibration(self, count: int) -> list[tuple[int, int]]:
        """Prompt and seed of samples to calibrate with: every third prompt in turn."""
        return [(3 * k % len(self.names), 7000 + k) for k in range(count)]

    def held_out(self, count: int) -> list[tuple[int, int]]:
        """Prompt and seed of samples to check on: the prompts between those, and other seeds."""
        between = [place for place in range(len(self.names)) if place % 3]
        return [(between[k % len(between)], 9000 + k) for k in range(count)]

    def blended(self, count: int) -> list[tuple[int, int]]:
        """Prompt and seed of samples of which every prompt is the mean of two others; they are added to the prompts."""
        import torch

        first = len(self.names)
        pairs = [(3 * k % first, (5 * k + 7) % first) for k in range(count)]
        self._prompts = torch.cat([self._prompts, *((self._prompts[[a]] + self._prompts[[b]]) / 2 for a, b in pairs)])
        self.names = [*self.names, *(f"{self.names[a]} and {self.names[b]}" for a, b in pairs)]
        return [(first + k, 9700 + k) for k in range(count)]

    @cached_property
    def vae(self):
        """The embedded VAE."""
        import comfy.sd
        import comfy.utils

        weights, metadata = comfy.utils.load_torch_file(str(FILES / "wan_tiny_vae.safetensors"), return_metadata=True)
        return comfy.sd.VAE(sd=weights, metadata=metadata)

    def frames(self, latents: torch.Tensor) -> torch.Tensor:
        """Decoded frames, [frames, H, W, 3] from 0 to 1."""
        import torch

        with torch.no_grad():
            frames = self.vae.decode(latents)
        return frames.reshape(-1, *frames.shape[-3:]).clamp(0, 1)
