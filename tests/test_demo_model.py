"""The embedded model: its files, ComfyUI's loaders, and what it samples."""

from __future__ import annotations

import importlib.util
import json
import logging
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = ROOT / "nodes" / "demo_model"
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def vae(comfy):
    import comfy.sd
    import comfy.utils

    weights, metadata = comfy.utils.load_torch_file(str(FILES / "wan_tiny_vae.safetensors"), return_metadata=True)
    return comfy.sd.VAE(sd=weights, metadata=metadata)


@pytest.fixture(scope="module")
def prompts():
    from safetensors import safe_open

    with safe_open(FILES / "prompts.safetensors", framework="pt") as file:
        metadata = file.metadata()
        tokens = file.get_tensor("prompts"), file.get_tensor("negative")
        return json.loads(metadata["names"]), json.loads(metadata["size"]), *tokens


@pytest.fixture(scope="module")
def clip(comfy, vae, prompts):
    """Samples one clip as the demo workflow does; frames [T, H, W, 3] in 0 .. 1."""
    import comfy.sample
    import comfy.sd
    import torch
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    model = comfy.sd.load_diffusion_model(str(FILES / "wan_tiny.safetensors"))
    (model,) = ModelSamplingSD3().patch(model, shift=5.0)
    names, size, positive, negative = prompts
    latent = torch.zeros(1, 16, (size["frames"] - 1) // 4 + 1, size["height"] // 8, size["width"] // 8)

    def sample(name: str, seed: int = 3, cfg: float = 4.0):
        tokens = positive[names.index(name)][None]
        samples = comfy.sample.sample(
            model, comfy.sample.prepare_noise(latent, seed), 30, cfg, "euler", "simple", [[tokens, {}]],
            [[negative, {}]], latent, seed=seed, disable_pbar=True,
        )
        return vae.decode(samples)[0].detach()

    return sample


def test_the_files_are_small_and_name_their_prompts(prompts):
    names, size, positive, negative = prompts
    assert sum(path.stat().st_size for path in FILES.glob("*.safetensors")) < 25 * MEBIBYTE
    assert len(set(names)) == len(names) == len(positive) >= 24
    assert positive.shape[1:] == negative.shape[1:] and negative.shape[0] == 1
    assert min(size["width"], size["height"]) >= 32 and size["frames"] >= 9


def test_the_stock_loader_finds_every_weight_of_the_vae(comfy, caplog):
    import comfy.sd
    import comfy.utils

    with caplog.at_level(logging.DEBUG):
        comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(FILES / "wan_tiny_vae.safetensors")))
    assert not [record.getMessage() for record in caplog.records if "Missing VAE keys" in record.getMessage()]


def test_the_training_code_gives_what_comfyuis_vae_gives(comfy, vae):
    """The whole-clip form of the VAE, trained with, against the chunk-wise one that users run."""
    import torch

    spec = importlib.util.spec_from_file_location("sequence_vae", ROOT / "workflows" / "demo_model" / "sequence_vae.py")
    sequence_vae = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sequence_vae)
    network = vae.first_stage_model.float()
    clips = torch.rand(1, 3, 17, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latent, expected = sequence_vae.encode(network, clips)[0], network.encode(clips)
        assert (latent - expected).abs().max() < 1e-3 * expected.abs().max()
        decoded, expected = sequence_vae.decode(network, latent), network.decode(latent)
        assert (decoded - expected).abs().max() < 1e-3 * expected.abs().max()


def test_every_frame_shows_a_picture_on_a_light_ground(clip, prompts):
    for name in ("red heart", "fox face"):
        frames = clip(name)
        assert frames.shape == (prompts[1]["frames"], 64, 64, 3)
        corners = frames[:, [2, 2, -3, -3], [2, -3, 2, -3]]
        assert corners.mean() > 0.75
        assert frames.std(dim=(1, 2, 3)).min() > 0.08


def test_a_red_heart_is_red_and_a_whale_is_blue(clip):
    heart, whale = (clip(name)[:, 24:40, 24:40].mean(dim=(0, 1, 2)) for name in ("red heart", "whale"))
    assert heart[0] > heart[1] + 0.2 and heart[0] > heart[2] + 0.1
    assert whale[2] > whale[0] + 0.1


def test_the_prompt_the_seed_and_the_guidance_all_matter(clip):
    reference = clip("fire")
    for other in (clip("alien"), clip("fire", seed=4), clip("fire", cfg=1.0)):
        assert (reference - other).abs().mean() > 0.005
