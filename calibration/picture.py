"""Pictures of a calibration: the error graph as a heat map, with paths below it, and what every budget costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .curve import budget_curve
from .draw import (
    GROUND,
    INK,
    LEFT,
    QUIET,
    RIGHT,
    RULE_COLOURS,
    WHITE,
    WIDTH,
    LogScale,
    flow,
    heading,
    number,
    text,
    tick_gap,
    viridis,
)
from .graph import ErrorGraph
from .path import Path
from .segments import GraphError

__all__ = ["MapLayout", "best_errors", "budget_curve", "combined", "heat_map", "map_layout"]

_TOP = 166
_BAR = 400
_STRIP = 30
_UNMEASURED, _HATCH = (226, 226, 230), (176, 177, 184)


@dataclass(frozen=True, slots=True)
class MapLayout:
    """Where a heat map has its cells: ``steps`` columns of ``cell`` pixels (width, height) by lengths 2 to ``longest``.

    Boxes are left, top, right and bottom of the pixels inside, as Pillow takes them.
    """

    steps: int
    longest: int
    cell: tuple[int, int]
    strips: int

    @property
    def gap(self) -> int:
        """The pixels between two cells of the map."""
        return int(min(self.cell) >= 12)

    @property
    def bottom(self) -> int:
        """The first row of pixels below the map."""
        return _TOP + (self.longest - 1) * self.cell[1]

    @property
    def right(self) -> int:
        """The first column of pixels beside the map."""
        return LEFT + self.steps * self.cell[0]

    def cell_box(self, start: int, length: int) -> tuple[int, int, int, int]:
        """The cell of the segment (start, start + length) on the map."""
        width, height = self.cell
        left, top = LEFT + start * width, _TOP + (self.longest - length) * height
        return left, top, left + width - 1 - self.gap, top + height - 1 - self.gap

    def strip_box(self, strip: int, step: int) -> tuple[int, int, int, int]:
        """The cell of a step in the strip of a path, by the place of the path."""
        width = self.cell[0]
        left, top = LEFT + step * width, self.bottom + 92 + strip * _STRIP
        return left, top, left + width - 1 - (width > 3), top + 21


def best_errors(graph: ErrorGraph, longest: int = 2) -> np.ndarray:
    """The mean error of the best rule, after the best step before, of every segment: [lengths from 2, starts].

    NaN where nothing was measured. The lengths go to the longest of the graph, or to ``longest`` if that is more.
    """
    _, start, end, _ = graph.segments.T
    best = np.full(((end - start).max(initial=max(longest, 2)) - 1, graph.steps), np.nan)
    np.fmin.at(best, (end - start - 2, start), graph.mean())
    return best


def map_layout(graph: ErrorGraph, paths: Sequence[Path], highlight: int = 0) -> MapLayout:
    """The layout of ``heat_map`` for the same arguments; GraphError for paths of another number of steps."""
    for path in paths:
        if path.steps != graph.steps:
            raise GraphError(f"A path of {path.steps} steps is none of this error graph of {graph.steps} steps.")
    if paths and not 0 <= highlight < len(paths):
        raise GraphError(f"There is no path {highlight} to highlight: there are {len(paths)}, counted from 0.")
    outlined = [end - start for start, end in paths[highlight].segments()] if paths else []
    rows = len(best_errors(graph, max(outlined, default=2)))
    width = min(max((WIDTH - LEFT - RIGHT) // graph.steps, 1), 72)
    height = min(max(440 // rows, 2), max(14, min(width, 36)))
    return MapLayout(graph.steps, rows + 1, (width, height), len(paths))


def heat_map(
    graph: ErrorGraph, paths: Sequence[Path], highlight: int = 0, measured: Mapping[int, float] | None = None
) -> Image.Image:
    """The error of every segment as a colour, by start and length, with a strip of steps below for every path.

    Behind a path is its predicted worst error, or ``measured``, by budget, where the graph predicts none. The segments
    of the path at place ``highlight`` are outlined on the map. Segments that were not measured are hatched. The picture
    is 1240 pixels wide, wider for more than 1000 steps. GraphError as for `map_layout`.
    """
    layout = map_layout(graph, paths, highlight)
    width = max(WIDTH, layout.right + RIGHT)
    used = {rule for path in paths for rule in path.rules}
    rules = [rule for rule in RULE_COLOURS if rule in used]
    names = [f"{rule}" if rule else "computed, nothing reused" for rule in rules]
    top = layout.bottom + (92 + layout.strips * _STRIP + 4 if paths else 62)
    spots, bottom = flow(names, LEFT, top, width - 20, 22)
    picture = Image.new("RGB", (width, bottom + 16), GROUND)
    draw = ImageDraw.Draw(picture)

    counted = f"{len(graph.samples)} sample" + "s" * (len(graph.samples) != 1)
    heading(
        draw,
        f"Error graph of {graph.family}, {graph.steps} step" + "s" * (graph.steps != 1),
        f"{graph.mode} mode  ·  {graph.metric} error  ·  {counted}  ·  mean error of the best rule per segment",
        width,
    )
    best = best_errors(graph, layout.longest)
    scale = LogScale.of(best.ravel().tolist())
    missing = np.isnan(best) & _inside(layout)
    _colour_bar(picture, scale, measured=not np.isnan(best).all(), missing=missing.any())
    picture.paste(_map(best, scale, layout), (LEFT, _TOP))
    _axes(draw, layout)
    if paths:
        words = "paths: computed steps are filled, reused ones hollow; segments of the framed path are outlined above"
        text(draw, (LEFT, layout.bottom + 74), words, colour=QUIET)
        first, last = layout.strip_box(highlight, 0), layout.strip_box(highlight, layout.steps - 1)
        draw.rectangle((first[0] - 3, first[1] - 3, last[2] + 3, last[3] + 3), outline=INK)
        _outline(draw, layout, paths[highlight])
    for place, path in enumerate(paths):
        _strip(draw, layout, place, path, (measured or {}).get(path.budget, math.nan))
    for (x, y), name, rule in zip(spots, names, rules, strict=True):
        draw.rectangle((x, y - 7, x + 21, y + 7), RULE_COLOURS[rule])
        text(draw, (x + 30, y), name)
    return picture


def combined(
    graph: ErrorGraph,
    paths: Sequence[Path],
    sweeps: Mapping[str, Mapping[int, Path]],
    measured: Mapping[int, float] | None = None,
    reused_cost: float = 0.0,
    highlight: int = 0,
    measured_as: str = "measured",
) -> Image.Image:
    """The picture of `heat_map` above that of `budget_curve`."""
    parts = [
        heat_map(graph, paths, highlight, measured),
        budget_curve(sweeps, graph.steps, measured, reused_cost, measured_as),
    ]
    size = (max(part.width for part in parts), sum(part.height for part in parts))
    picture = Image.new("RGB", size, GROUND)
    picture.paste(parts[0])
    picture.paste(parts[1], (0, parts[0].height))
    return picture


def _inside(layout: MapLayout) -> np.ndarray:
    """Which cells are a segment of the run, like `best_errors`: the others would end after the sink."""
    return np.arange(2, layout.longest + 1)[:, None] + np.arange(layout.steps) <= layout.steps


def _map(best: np.ndarray, scale: LogScale, layout: MapLayout) -> Image.Image:
    """The cells alone: coloured, hatched, or empty where a segment would go beyond the sink."""
    width, height = layout.cell
    colours = viridis(scale.place(np.nan_to_num(best)))
    inside = _inside(layout)
    colours[~inside] = GROUND
    pixels, hatched = (
        cells[::-1].repeat(height, 0).repeat(width, 1) for cells in (colours, inside & np.isnan(best))
    )
    pixels[hatched] = np.asarray(_hatching(*hatched.T.shape))[hatched]
    down, along = np.indices(hatched.shape)
    pixels[(down % height >= height - layout.gap) | (along % width >= width - layout.gap)] = GROUND
    return Image.fromarray(pixels)


def _colour_bar(picture: Image.Image, scale: LogScale, measured: bool, missing: bool) -> None:
    """The colours with their numbers, and what hatching means, between the heading and the map."""
    draw = ImageDraw.Draw(picture)
    top, bottom = 76, 91
    x = LEFT
    if measured:
        bar = viridis(np.linspace(0, 1, _BAR))[None].repeat(bottom - top, 0)
        picture.paste(Image.fromarray(bar), (LEFT, top))
        for tick in scale.ticks(60 / _BAR):
            place = LEFT + round(scale.at(tick) * (_BAR - 1))
            draw.line((place, bottom, place, bottom + 4), INK)
            text(draw, (place, bottom + 14), number(tick), "mm")
        x += _BAR + 60
    if missing:
        picture.paste(_hatching(22, bottom - top), (x, top))
        text(draw, (x + 30, 84), "not measured")


def _hatching(width: int, height: int) -> Image.Image:
    down, along = np.indices((height, width))
    return Image.fromarray(np.where((down + along)[..., None] % 6 < 1, _HATCH, _UNMEASURED).astype(np.uint8))


def _axes(draw: ImageDraw.ImageDraw, layout: MapLayout) -> None:
    width, height = layout.cell
    text(draw, (LEFT, _TOP - 22), "length of the segment, j - i", colour=QUIET)
    every = tick_gap(layout.longest, height, room=22)
    for length in range(2, layout.longest + 1):
        if length % every == 0 or length == 2 and (every - 2) * height >= 22:
            middle = _TOP + (layout.longest - length) * height + height // 2
            text(draw, (LEFT - 12, middle), str(length), "rm")
    every = tick_gap(layout.steps, width)
    for step in range(0, layout.steps, every):
        middle = LEFT + step * width + width // 2
        draw.line((middle, layout.bottom + 2, middle, layout.bottom + 6), INK)
        text(draw, (middle, layout.bottom + 18), str(step), "mm")
    text(draw, (LEFT, layout.bottom + 44), "step i of the run: the start of a segment, which computes it", colour=QUIET)


def _outline(draw: ImageDraw.ImageDraw, layout: MapLayout, path: Path) -> None:
    """Frame the segments of a path on the map, around small cells, and within large ones."""
    large = min(layout.cell) >= 16
    for start, end in path.segments():
        if end - start > 1:
            left, top, right, bottom = layout.cell_box(start, end - start)
            edge = int(not large)
            draw.rectangle((left - 2, top - 2, right + 2, bottom + 2), outline=INK, width=1 + large)
            draw.rectangle((left - edge, top - edge, right + edge, bottom + edge), outline=WHITE, width=1 + large)


def _strip(draw: ImageDraw.ImageDraw, layout: MapLayout, place: int, path: Path, measured: float) -> None:
    """The steps of a path, with its budget before them and its error behind."""
    narrow = layout.cell[0] < 4
    for (start, end), rule in zip(path.segments(), path.rules, strict=True):
        colour = RULE_COLOURS[rule]
        pale = tuple((channel + 3 * 255) // 4 for channel in colour)
        draw.rectangle(layout.strip_box(place, start), colour)
        for step in range(start + 1, end):
            draw.rectangle(layout.strip_box(place, step), pale if narrow else WHITE, None if narrow else colour)
    middle = layout.strip_box(place, 0)[1] + 11
    text(draw, (LEFT - 12, middle), f"B={path.budget}", "rm")
    predicted = not any(map(math.isnan, path.segment_errors))
    if predicted or not math.isnan(measured):
        words = f"worst {number(path.worst)}" if predicted else f"measured {number(measured)}"
        text(draw, (layout.right + 12, middle), words)
