"""The LeMiCa Demo Model node: a tiny Wan 2.1 that ships with the pack."""

from __future__ import annotations

import json
from pathlib import Path

import comfy.model_management
import comfy.sd
import comfy.utils
import torch
from comfy_api.latest import io
from safetensors import safe_open

FILES = Path(__file__).parent / "demo_model"
TRANSFORMER = FILES / "wan_tiny.safetensors"
VAE = FILES / "wan_tiny_vae.safetensors"
PROMPTS = FILES / "prompts.safetensors"


def prompt_names() -> list[str]:
    """The prompts that the demo model knows."""
    with safe_open(PROMPTS, framework="pt") as file:
        return json.loads(file.metadata()["names"])


def load_prompt(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The embedding of a prompt and of the empty one, each [1, tokens, width]."""
    with safe_open(PROMPTS, framework="pt") as file:
        index = json.loads(file.metadata()["names"]).index(name)
        return file.get_tensor("prompts")[index : index + 1], file.get_tensor("negative")


def empty_latent() -> torch.Tensor:
    """A zero latent of the size that the demo model was trained on, [1, 16, frames, height, width]."""
    with safe_open(PROMPTS, framework="pt") as file:
        size = json.loads(file.metadata()["size"])
    frames = (size["frames"] - 1) // 4 + 1
    return torch.zeros(1, 16, frames, size["height"] // 8, size["width"] // 8,
                       device=comfy.model_management.intermediate_device())


class LeMiCaDemoModel(io.ComfyNode):
    """Everything that a sampler needs, without a download."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LeMiCaDemoModel",
            display_name="LeMiCa Demo Model",
            category="model/patch/LeMiCa",
            description="A tiny Wan 2.1 video model that comes with the pack, to try LeMiCa without a download.",
            inputs=[
                io.Combo.Input(
                    "prompt", options=prompt_names(), tooltip="What the clip shows; the model knows these prompts only."
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The tiny video model."),
                io.Conditioning.Output(display_name="positive", tooltip="The prompt, encoded."),
                io.Conditioning.Output(display_name="negative", tooltip="The empty prompt, for guidance."),
                io.Latent.Output(display_name="latent", tooltip="An empty latent of the size that the model knows."),
                io.Vae.Output(display_name="vae", tooltip="Decodes the clip."),
            ],
        )

    @classmethod
    def execute(cls, prompt: str) -> io.NodeOutput:
        model = comfy.sd.load_diffusion_model(str(TRANSFORMER))
        weights, metadata = comfy.utils.load_torch_file(str(VAE), return_metadata=True)
        positive, negative = load_prompt(prompt)
        return io.NodeOutput(
            model, [[positive, {}]], [[negative, {}]], {"samples": empty_latent()},
            comfy.sd.VAE(sd=weights, metadata=metadata),
        )
