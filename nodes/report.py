"""The LeMiCa Report node: what acceleration did to the frames, in figures and as a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..calibration.quality import LpipsUnavailable, Quality, load_lpips, measure_frames, over_clip

ROWS = 8
"""Frames that the picture shows at most."""
NARROWEST, WIDEST = 200, 512
"""Between which widths, in pixels, a frame is drawn: tiny frames grow by whole factors, large ones shrink."""
AMPLIFIED = 4
STRIP = 22
PAPER, INK = (32, 32, 32), (230, 230, 230)


def load_network() -> tuple[torch.nn.Module | None, str]:
    """LPIPS where ComfyUI computes; without it, the reason."""
    try:
        network = load_lpips()
    except LpipsUnavailable as error:
        return None, str(error)
    device = comfy.model_management.get_torch_device()
    comfy.model_management.free_memory(comfy.model_management.module_size(network), device)
    return network.to(device), ""


def worst(frames: Sequence[Quality]) -> int:
    """The index of the frame with the lowest PSNR."""
    return min(range(len(frames)), key=lambda index: frames[index].psnr)


def decibels(psnr: float) -> str:
    return f"{psnr:.2f} dB" if math.isfinite(psnr) else "identical"


def in_words(quality: Quality) -> str:
    """One line, for a caption."""
    parts = [f"PSNR {decibels(quality.psnr)}", f"SSIM {quality.ssim:.4f}"]
    if quality.lpips is not None:
        parts.append(f"LPIPS {quality.lpips:.4f}")
    return ", ".join(parts)


def timing(full_seconds: float, accelerated_seconds: float) -> dict[str, str]:
    """What is known of the time: label -> figure; 0 seconds are not known."""
    known = {"full run": full_seconds, "accelerated run": accelerated_seconds}
    lines = {label: f"{seconds:.2f} s" for label, seconds in known.items() if seconds}
    if len(lines) == len(known):
        lines["speed-up"] = f"{full_seconds / accelerated_seconds:.2f}x"
    return lines


def table(frames: Sequence[Quality], size: tuple[int, int], times: dict[str, str], missing: str) -> str:
    """The report in Markdown; `size` is width and height, `missing` says why there is no LPIPS."""
    clip = over_clip(frames)

    def line(label: str, value: Callable[[Quality], float], written: Callable[[float], str], sign: int) -> str:
        index = min(range(len(frames)), key=lambda index: sign * value(frames[index]))
        return f"| {label} | {written(value(clip))} | {written(value(frames[index]))} (frame {index + 1}) |"

    def plain(figure: float) -> str:
        return f"{figure:.4f}"

    lines = [
        "| | all frames | worst frame |",
        "| --- | --- | --- |",
        line("PSNR", lambda quality: quality.psnr, decibels, 1),
        line("SSIM", lambda quality: quality.ssim, plain, 1),
    ]
    if clip.lpips is not None:
        lines.append(line("LPIPS", lambda quality: quality.lpips, plain, -1))
    lines += [f"| {label} | {figure} | |" for label, figure in times.items()]
    lines += ["", f"{len(frames)} frames of {size[0]}x{size[1]} pixels, against the full run."]
    if missing:
        lines.append(f"LPIPS was not measured: {missing}")
    return "\n".join(lines) + "\n"


def shown(count: int, include: int) -> list[int]:
    """At most ROWS of so many frames, evenly spread from the first to the last, this one among them."""
    if count <= ROWS:
        return list(range(count))
    spread = [round(row * (count - 1) / (ROWS - 2)) for row in range(ROWS - 1)]
    return sorted({include, *spread})


def draw(full: Tensor, accelerated: Tensor, frames: Sequence[Quality], times: dict[str, str]) -> Tensor:
    """The picture [1, height, width, 3] of two clips [frames, height, width, 3]: a captioned row for each frame shown.

    A row holds the full run's frame, the accelerated run's, and their difference amplified.
    """
    height, width = full.shape[1:3]
    scale = min(WIDEST / width, 1) if width >= NARROWEST else math.ceil(NARROWEST / width)
    width, height = round(width * scale), max(1, round(height * scale))
    rows = shown(len(frames), worst(frames))
    sheet = Image.new("RGB", (3 * width, 2 * STRIP + len(rows) * (STRIP + height)), PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)

    def write(x: int, y: int, text: str) -> None:
        pen.text((x + 4, y + 2), text, INK, font)

    faster = [f"speed-up {times['speed-up']}"] if "speed-up" in times else []
    write(0, 0, "all frames: " + ", ".join([in_words(over_clip(frames)), *faster]))
    for column, title in enumerate(("full run", "accelerated run", f"difference, {AMPLIFIED}x")):
        write(column * width, STRIP, title)
    for row, index in enumerate(rows):
        y = 2 * STRIP + row * (STRIP + height)
        write(0, y, f"frame {index + 1}: {in_words(frames[index])}")
        one, other = full[index, ..., :3], accelerated[index, ..., :3]
        for column, image in enumerate((one, other, AMPLIFIED * (one - other).abs())):
            sheet.paste(panel(image, (width, height), enlarged=scale > 1), (column * width, y + STRIP))
    return torch.from_numpy(np.array(sheet)).float()[None] / 255


def panel(image: Tensor, size: tuple[int, int], enlarged: bool) -> Image.Image:
    """An image [height, width, 3] of 0..1 in this width and height; enlarged pixels stay squares."""
    pixels = image.float().clamp(0, 1).mul(255).round().byte().cpu().numpy()
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX)


class LeMiCaReport(io.ComfyNode):
    """Compares the frames of two runs that differ in nothing but acceleration."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LeMiCaReport",
            display_name="LeMiCa Report",
            category="model/patch/LeMiCa",
            description=(
                "Compares an accelerated run with the full one: PSNR, SSIM, LPIPS and time as a table, the frames and "
                "their difference as a picture."
            ),
            search_aliases=["psnr", "ssim", "lpips", "compare", "quality"],
            is_output_node=True,
            inputs=[
                io.Image.Input("full", tooltip="The frames of the full run, without a cache."),
                io.Image.Input("accelerated", tooltip="The frames of the accelerated run, same seed and settings."),
                io.Float.Input(
                    "full_seconds", default=0.0, min=0.0, max=1e6, step=0.01, optional=True,
                    tooltip="How long the full run sampled, as the log tells; 0 is unknown.",
                ),
                io.Float.Input(
                    "accelerated_seconds", default=0.0, min=0.0, max=1e6, step=0.01, optional=True,
                    tooltip="How long the accelerated run sampled; 0 is unknown.",
                ),
                io.Boolean.Input(
                    "lpips", default=True, optional=True, advanced=True,
                    tooltip="Measure LPIPS as well: it is nearest to what an eye sees, and needs the lpips package.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="text", tooltip="The figures as a Markdown table."),
                io.Image.Output(display_name="picture", tooltip="The frames of both runs and their difference."),
            ],
        )

    @classmethod
    def execute(
        cls,
        full: Tensor,
        accelerated: Tensor,
        full_seconds: float = 0.0,
        accelerated_seconds: float = 0.0,
        lpips: bool = True,
    ) -> io.NodeOutput:
        network, missing = load_network() if lpips else (None, "")
        progress = comfy.utils.ProgressBar(len(full))
        frames = measure_frames(accelerated, full, network, done=progress.update_absolute)
        times = timing(full_seconds, accelerated_seconds)
        text = table(frames, (full.shape[2], full.shape[1]), times, missing)
        picture = draw(full, accelerated, frames, times)
        rows = shown(len(frames), worst(frames))
        previews = {
            "full": ui.PreviewImage(full[rows, ..., :3]).values,
            "accelerated": ui.PreviewImage(accelerated[rows, ..., :3]).values,
            "frames": [f"frame {row + 1}: {in_words(frames[row])}" for row in rows],
        }
        return io.NodeOutput(
            text, picture, ui=ui.PreviewImage(picture, cls=cls).as_dict() | {"text": (text,)} | previews
        )
