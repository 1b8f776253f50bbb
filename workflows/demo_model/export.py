"""Writes the demo model's files for ComfyUI, and looks at what they sample."""

from __future__ import annotations

import json
import os
from pathlib import Path

import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.utils
import numpy as np
import torch
from clips import FRAMES, PROMPTS, SIZE
from PIL import Image
from safetensors.torch import save_file
from transformer_training import CONFIG, prompt_tokens

LICENCE = "Trained on Fluent Emoji by Microsoft (MIT licence)."


def write(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    part = path.with_suffix(".part")
    save_file({key: value.contiguous() for key, value in tensors.items()}, part, metadata)
    part.chmod(0o644)
    os.replace(part, path)


def export(folder: Path, target: Path) -> None:
    """The transformer and the VAE in float16, and the prompts, into ``target``."""
    transformer = torch.load(folder / "transformer.pt", weights_only=True)
    vae = torch.load(folder / "vae.pt", weights_only=True)
    half = torch.float16
    write(
        {key: value.to(half) for key, value in transformer.items()}, target / "wan_tiny.safetensors",
        {"config": json.dumps({"transformer": CONFIG}), "licence": LICENCE},
    )
    write({key: value.to(half) for key, value in vae.items()}, target / "wan_tiny_vae.safetensors", {"licence": LICENCE})
    tokens = prompt_tokens()
    size = {"width": SIZE, "height": SIZE, "frames": FRAMES}
    write(
        {"prompts": tokens[:-1], "negative": tokens[-1:]}, target / "prompts.safetensors",
        {"names": json.dumps(list(PROMPTS)), "size": json.dumps(size)},
    )


@torch.inference_mode()
def contact_sheet(files: Path, output: Path, steps: int, cfg: float, shift: float, seed: int) -> None:
    """Sample every prompt with ComfyUI's Euler sampler and draw six frames of each."""
    model = comfy.sd.load_diffusion_model(str(files / "wan_tiny.safetensors"))

    class Shifted(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    sampling = Shifted(model.model.model_config)
    sampling.set_parameters(shift=shift, multiplier=1000)
    model.add_object_patch("model_sampling", sampling)
    weights, metadata = comfy.utils.load_torch_file(str(files / "wan_tiny_vae.safetensors"), return_metadata=True)
    vae = comfy.sd.VAE(sd=weights, metadata=metadata)
    tokens = prompt_tokens()
    latent = torch.zeros(1, 16, (FRAMES - 1) // 4 + 1, SIZE // 8, SIZE // 8)
    rows = []
    for index in range(len(PROMPTS)):
        noise = comfy.sample.prepare_noise(latent, seed + index)
        samples = comfy.sample.sample(
            model, noise, steps, cfg, "euler", "simple", [[tokens[index : index + 1], {}]], [[tokens[-1:], {}]], latent,
            seed=seed + index, disable_pbar=True,
        )
        frames = vae.decode(samples)[0, :: FRAMES // 5].numpy()
        rows.append(np.concatenate(list(frames[:6]), axis=1))
    third = -(-len(rows) // 3)
    rows += [np.ones_like(rows[0])] * (3 * third - len(rows))
    columns = [np.concatenate(rows[k * third : (k + 1) * third], axis=0) for k in range(3)]
    sheet = (np.concatenate(columns, axis=1).clip(0, 1) * 255).astype(np.uint8)
    Image.fromarray(sheet).save(output)
