"""What acceleration did to a clip: PSNR and SSIM against the full run, and the table of it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median

import numpy as np
from PIL import Image, ImageSequence
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from .failure import Failure


@dataclass(frozen=True)
class Quality:
    """How near a clip comes to the full run's."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Row:
    """One run of one prompt; the full run has no quality, and no baseline of fewer steps."""

    prompt: str
    run: str
    steps: int
    computed: int
    calls: int
    full_calls: int
    seconds: float
    speedup: float
    quality: Quality | None = None
    fewer_steps: Quality | None = None
    """Plain sampling with as many steps as this run computed."""
    fewer_steps_seconds: float | None = None
    schedule: str = ""
    origin: str = ""


def read_frames(path: Path, fps: float) -> np.ndarray:
    """Return the frames of an animation, [frames, height, width, 3] in 8 bit.

    Encoders store a frame that equals the one before as a longer showing of that one: such frames are told apart again.
    """
    frames: list[np.ndarray] = []
    with Image.open(path) as image:
        for frame in ImageSequence.Iterator(image):
            pixels = np.asarray(frame.convert("RGB"))
            frames += [pixels] * max(1, round(frame.info.get("duration", 0) * fps / 1000))
    return np.stack(frames)


def measure(frames: np.ndarray, reference: np.ndarray) -> Quality:
    """Return PSNR over the whole clip and the mean SSIM of its frames."""
    if frames.shape != reference.shape:
        raise Failure(f"The clips differ in size: {frames.shape} against the full run's {reference.shape}.")
    if np.array_equal(frames, reference):
        return Quality(math.inf, 1.0)
    ssim = (structural_similarity(a, b, channel_axis=-1) for a, b in zip(frames, reference, strict=True))
    return Quality(float(peak_signal_noise_ratio(reference, frames)), fmean(map(float, ssim)))


def summarise(rows: Sequence[Row]) -> list[list[str]]:
    """Return the cells of the table, head first: one line per run, over all prompts."""
    head = ["run", "computed", "model calls", "seconds", "speed-up", "PSNR", "SSIM", "fewer steps", "schedule"]
    table = [head]
    full_seconds = median(row.seconds for row in rows if row.quality is None)
    for run in dict.fromkeys(row.run for row in rows):
        same = [row for row in rows if row.run == run]
        first = same[0]
        saved = 1 - first.calls / first.full_calls
        seconds = median(row.seconds for row in same)
        cells = [
            run,
            f"{first.computed} of {first.steps}",
            f"{first.calls}" + (f" (-{saved:.0%})" if saved else ""),
            f"{seconds:.2f}",
            f"{full_seconds / seconds:.2f}x",
        ]
        if first.quality is None:
            cells += ["reference", "", "", ""]
        else:
            quality = [row.quality for row in same if row.quality]
            fewer = [row.fewer_steps for row in same if row.fewer_steps]
            cells += [decibels(quality), f"{fmean(q.ssim for q in quality):.4f}", decibels(fewer)]
            cells += [f"{first.schedule} ({first.origin})"]
        table.append(cells)
    return table


def decibels(quality: Sequence[Quality]) -> str:
    """Return the mean PSNR in words; nothing where there is none."""
    if not quality:
        return ""
    mean = fmean(q.psnr for q in quality)
    return f"{mean:.1f} dB" if math.isfinite(mean) else "identical"


def as_text(table: Sequence[Sequence[str]]) -> str:
    """Return the table in columns for a terminal."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in table)


def explain(prompts: int) -> str:
    """Return what the table's columns mean."""
    mean, middle = ("", "") if prompts == 1 else (f", mean of {prompts} prompts", f", median of {prompts} prompts")
    return (
        f"seconds: the sampler node alone{middle}. PSNR, SSIM: against the full run's frames{mean}.\n"
        "fewer steps: PSNR of plain sampling with as many steps as the run computed."
    )


def write(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write the table as Markdown, and every row as JSON (a PSNR of null: the very same frames)."""
    table = summarise(rows)
    lines = ["| " + " | ".join(line) + " |" for line in table]
    lines.insert(1, "|" + " --- |" * len(table[0]))
    prompts = list(dict.fromkeys(row.prompt for row in rows))
    text = "\n".join(lines) + f"\n\n{explain(len(prompts))} Prompts: {', '.join(prompts)}.\n"
    markdown, data = folder / "table.md", folder / "table.json"
    markdown.write_text(text, encoding="utf-8")
    plain = _finite([asdict(row) for row in rows])
    data.write_text(json.dumps(plain, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    return [markdown, data]


def _finite(value: object) -> object:
    """Replace infinite numbers, which JSON has not, by null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
