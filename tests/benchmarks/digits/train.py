"""Trains the digits model: `tests/run --script tests/benchmarks/digits/train.py --minutes 25`.

The data are the 1,797 handwritten digits of scikit-learn (UCI, "Optical Recognition of Handwritten Digits"), which has
to be installed; drawn larger, in four inks on two grounds. Rectified flow, as Lumina 2 is trained.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent.parent
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "workflows" / "demo_model")]

from samples import enter_comfyui  # noqa: E402

logging.basicConfig(level=logging.INFO, format="%(message)s")
enter_comfyui()
from comfy.cli_args import args  # noqa: E402

args.use_pytorch_cross_attention = True  # as the default for CPUs has no fast backward pass

import comfy.model_management  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from digits_model import DIGITS, GROUNDS, INKS, PROMPTS, SIZE, WEIGHTS, new_model, tokens  # noqa: E402
from flow_training import EMPTY_SHARE, fit  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

BATCH = 48
PEAK_RATE = 2e-3

logger = logging.getLogger("digits")


def strokes() -> list[torch.Tensor]:
    """For each digit its drawings, [drawings, 1, 16, 16], 1 where there is ink."""
    from sklearn.datasets import load_digits

    data = load_digits()
    found = torch.nn.functional.interpolate(
        torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, size=(SIZE, SIZE), mode="bicubic"
    )
    found = ((found - 0.25) * 2).clamp(0, 1)
    return [found[torch.tensor(data.target == digit)] for digit in range(10)]


def painted(drawing: torch.Tensor, ink: str, ground: str) -> torch.Tensor:
    """One drawing, [1, 16, 16], in colours, [3, 16, 16] from -1 to 1."""
    top, bottom = (torch.tensor(colours[which]).reshape(3, 1, 1) / 127.5 - 1
                   for colours, which in ((INKS, ink), (GROUNDS, ground)))
    return drawing * top + (1 - drawing) * bottom


def initialise(model: nn.Module) -> None:
    for key, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.ones_(parameter) if "norm" in key and key.endswith("weight") else nn.init.zeros_(parameter)
        elif "adaLN" in key or "final_layer" in key:
            nn.init.zeros_(parameter)
        else:
            nn.init.xavier_uniform_(parameter)


def train(minutes: float, seed: int) -> None:
    """Train for ``minutes``; every few minutes the average so far is saved."""
    comfy.model_management.in_training = True
    torch.manual_seed(seed)
    torch.set_flush_denormal(True)
    drawings = strokes()
    words = tokens([*PROMPTS, None])
    model = new_model().model.diffusion_model.train().requires_grad_(True)
    initialise(model)
    random = np.random.default_rng(seed)

    def draw_loss() -> torch.Tensor:
        chosen = random.integers(len(PROMPTS), size=BATCH)
        clean = torch.stack([
            painted(drawings[DIGITS.index(digit)][random.integers(len(drawings[DIGITS.index(digit)]))], ink, ground)
            for digit, ink, ground in (PROMPTS[place] for place in chosen)
        ])
        named = np.where(random.random(BATCH) < EMPTY_SHARE, len(PROMPTS), chosen)
        sigmas = torch.sigmoid(torch.randn(BATCH) + 0.5)
        noise = torch.randn_like(clean)
        spread = sigmas.reshape(-1, 1, 1, 1)
        velocity = model(clean * (1 - spread) + noise * spread, sigmas, words[named], words.shape[1])
        return (velocity - (noise - clean)).square().mean()

    step = fit(model, draw_loss, PEAK_RATE, minutes, save, logger)
    logger.info("ends after %d steps of %d pictures", step, BATCH)


def save(model: nn.Module) -> None:
    part = WEIGHTS.with_suffix(".part")
    save_file({key: value.half().contiguous() for key, value in model.state_dict().items()}, part)
    part.replace(WEIGHTS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    train(arguments.minutes, arguments.seed)
