"""The animated side-by-side picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SCALE = 3
GAP = 10
LABEL = 42
TITLE = 26
GROUND, BRIGHT, DIM = (22, 23, 27), (238, 238, 242), (150, 153, 163)


@dataclass(frozen=True)
class Cell:
    """A clip and what stands below it; without frames, words in its place."""

    frames: np.ndarray | None
    title: str
    detail: str = ""


def side_by_side(sections: Sequence[tuple[str, Sequence[Sequence[Cell]]]], fps: float, stem: Path) -> list[Path]:
    """Write titled sections of rows of cells as an animated WEBP and GIF; return their paths."""
    cells = [cell for _, rows in sections for row in rows for cell in row]
    shapes = [cell.frames.shape for cell in cells if cell.frames is not None]
    count, height, width = (max(shape[axis] for shape in shapes) for axis in range(3))
    columns = max(len(row) for _, rows in sections for row in rows)
    size = (
        GAP + columns * (width * SCALE + GAP),
        GAP + sum(TITLE + len(rows) * (height * SCALE + LABEL) for _, rows in sections),
    )
    pictures = [_frame(sections, number, size, (width * SCALE, height * SCALE)) for number in range(count)]
    paths = [stem.with_suffix(".webp"), stem.with_suffix(".gif")]
    for path, options in zip(paths, ({"lossless": True, "method": 4}, {"optimize": True}), strict=True):
        pictures[0].save(
            path, save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0, **options
        )
    return paths


def _frame(
    sections: Sequence[tuple[str, Sequence[Sequence[Cell]]]], number: int, size: tuple[int, int], cell: tuple[int, int]
) -> Image.Image:
    picture = Image.new("RGB", size, GROUND)
    draw = ImageDraw.Draw(picture)
    large, small = ImageFont.load_default(16), ImageFont.load_default(13)
    top = GAP
    for title, rows in sections:
        draw.text((GAP, top), title, BRIGHT, large)
        top += TITLE
        for row in rows:
            for column, item in enumerate(row):
                left = GAP + column * (cell[0] + GAP)
                if item.frames is None:
                    draw.multiline_text((left, top + cell[1] // 3), item.title, DIM, small)
                    continue
                clip = Image.fromarray(item.frames[number % len(item.frames)])
                enlarged = clip.resize((clip.width * SCALE, clip.height * SCALE), Image.Resampling.NEAREST)
                picture.paste(enlarged, (left, top))
                draw.text((left, top + cell[1] + 2), item.title, BRIGHT, small)
                draw.text((left, top + cell[1] + 18), item.detail, DIM, small)
            top += cell[1] + LABEL
    return picture
