"""Training clips for the demo model: animated Fluent emoji, on pastel grounds."""

from __future__ import annotations

import logging
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageSequence

PACKAGES = tuple(f"@lobehub/fluent-emoji-anim-{part}" for part in range(1, 5))
SIZE, FRAMES = 64, 9
EMOJI_SIZES = (56,)
PHASES, STRIDE = 48, 2
"""An animation is read at this many phases of its loop; a clip takes every STRIDE-th from a random one on."""
SHIFT = 2
GROUNDS = ((255, 255, 255), (214, 234, 248), (253, 235, 208), (213, 245, 227))

PROMPTS = {
    "red heart": "2764-fe0f",
    "fire": "1f525",
    "rocket": "1f680",
    "dog face": "1f436",
    "frog face": "1f438",
    "panda face": "1f43c",
    "pig face": "1f437",
    "fox face": "1f98a",
    "sunglasses": "1f60e",
    "angry face": "1f621",
    "ghost": "1f47b",
    "alien": "1f47d",
    "jack-o-lantern": "1f383",
    "skull": "1f480",
    "star": "2b50",
    "sun": "1f31e",
    "rainbow": "1f308",
    "lightning": "26a1",
    "christmas tree": "1f384",
    "hot beverage": "2615",
    "ladybug": "1f41e",
    "whale": "1f433",
    "penguin": "1f427",
    "baby chick": "1f424",
}
"""Prompt to code point; all of them have an animation of 48 frames or more."""

logger = logging.getLogger("demo_model")


def fetch(folder: Path) -> None:
    """Download the emoji packages by name from the npm registry into ``folder`` and unpack what PROMPTS needs."""
    wanted = {f"package/assets/{code}.webp" for code in PROMPTS.values()}
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if all((folder / Path(name).name).exists() for name in wanted):
            return
        logger.info("fetching %s", package)
        packed = subprocess.run(
            ["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True, text=True
        )
        archive = folder / packed.stdout.strip().splitlines()[-1]
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and member.name in wanted:
                    (folder / Path(member.name).name).write_bytes(tar.extractfile(member).read())
        archive.unlink()


def load_emoji(path: Path, size: int) -> np.ndarray:
    """One loop of an animation as premultiplied RGBA, uint8 [PHASES, size, size, 4]."""
    with Image.open(path) as image:
        frames = [
            frame.convert("RGBa").resize((size, size), Image.Resampling.BOX) for frame in ImageSequence.Iterator(image)
        ]
    picked = [frames[round(k * len(frames) / PHASES) % len(frames)] for k in range(PHASES)]
    return np.stack([np.frombuffer(frame.tobytes(), np.uint8).reshape(size, size, 4) for frame in picked])


class Clips:
    """Draws random clips: prompt, size, place, phase and ground.

    Args:
        folder: holds the ``.webp`` files.
    """

    def __init__(self, folder: Path) -> None:
        self._emoji = [
            {size: load_emoji(folder / f"{code}.webp", size) for size in EMOJI_SIZES} for code in PROMPTS.values()
        ]

    def draw(self, prompt: int, random: np.random.Generator, frames: int = FRAMES) -> np.ndarray:
        """A clip of ``prompt``, float32 [3, frames, SIZE, SIZE] in -1 .. 1."""
        size = int(random.choice(EMOJI_SIZES))
        loop = self._emoji[prompt][size]
        first = int(random.integers(len(loop)))
        picked = loop[(first + STRIDE * np.arange(frames)) % len(loop)].astype(np.float32)
        margin = (SIZE - size) // 2
        top, left = (int(margin + random.integers(-min(SHIFT, margin), min(SHIFT, margin) + 1)) for _ in range(2))
        clip = np.empty((frames, SIZE, SIZE, 3), np.float32)
        clip[:] = GROUNDS[int(random.integers(len(GROUNDS)))]
        part = clip[:, top : top + size, left : left + size]
        part *= 1.0 - picked[..., 3:] / 255.0
        part += picked[..., :3]
        return (clip / 127.5 - 1.0).transpose(3, 0, 1, 2)

    def batches(self, count: int, frames: int, seed: int) -> Iterator[torch.Tensor]:
        """Endless batches [count, 3, frames, SIZE, SIZE] of random prompts."""
        random = np.random.default_rng(seed)
        while True:
            prompts = random.integers(len(self._emoji), size=count)
            yield torch.from_numpy(np.stack([self.draw(int(prompt), random, frames) for prompt in prompts]))
