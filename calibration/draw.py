"""What the calibration pictures share: colours, text, logarithmic scales, legends and smooth lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..schedules import RULES, Rule

Colour = tuple[int, int, int]

WIDTH = 1240
LEFT, RIGHT = 90, 150
TITLE, TEXT = 22, 15
GROUND, INK, QUIET, GRID, WHITE = (252, 252, 252), (34, 34, 38), (92, 94, 102), (222, 223, 227), (255, 255, 255)
# Okabe and Ito's colours for the colour-blind, without black and yellow, and a violet that is darker than all of them.
BLUE, SKY, GREEN = (0, 114, 178), (86, 180, 233), (0, 158, 115)
VERMILLION, ORANGE, PURPLE = (213, 94, 0), (230, 159, 0), (204, 121, 167)
VIOLET = (125, 31, 214)
CURVES: tuple[Colour, ...] = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)

RULE_COLOURS: dict[Rule | None, Colour] = {
    **dict(zip(RULES, (BLUE, SKY, GREEN, VERMILLION, ORANGE, PURPLE, VIOLET), strict=True)),
    None: (96, 98, 106),
}

_VIRIDIS = np.array(
    [
        (68, 1, 84), (72, 40, 120), (62, 73, 137), (49, 104, 142), (38, 130, 142),
        (31, 158, 137), (53, 183, 121), (110, 206, 88), (181, 222, 43), (253, 231, 37),
    ]
)  # fmt: skip
_DECADES = 6
_FINE = 3


@dataclass(frozen=True, slots=True)
class LogScale:
    """A logarithmic scale from ``low`` to ``high``, both above 0 and not equal."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> LogScale:
        """The scale of the finite positive values in the largest six decades, widened where they are nearly equal."""
        held = [value for value in values if 0 < value < math.inf] or [1.0]
        high = min(max(max(held), 1e-290), 1e300)
        low = min(max(min(held), high * 10**-_DECADES), high)
        return cls(low, high) if high > low * 1.2 else cls(low / 1.5, high * 1.5)

    def place(self, values: np.ndarray) -> np.ndarray:
        """Where values lie, from 0 to 1; what is outside, and 0, is moved to the nearest end. NaN stays."""
        logs = np.log(np.clip(values, self.low, self.high))
        return (logs - math.log(self.low)) / (math.log(self.high) - math.log(self.low))

    def at(self, value: float) -> float:
        """Where one value lies, from 0 to 1."""
        return float(self.place(np.array(value)))

    def ticks(self, room: float) -> list[float]:
        """One or more round values on the scale, as many as stand ``room`` apart, a part of its length up to 0.2."""
        if self.high < 3 * self.low:
            step = 10.0 ** math.floor(math.log10(self.high - self.low))
            choices = [self._multiples(step * size) for size in (0.1, 0.2, 0.5, 1, 2, 5)]
        else:
            decades = self._decades((1,))
            choices = [self._decades(digits) for digits in (range(1, 10), (1, 2, 5), (1, 3))]
            choices += [decades[::every] for every in range(1, len(decades) + 1)]
        return next(ticks for ticks in choices if ticks and (np.diff(self.place(np.array(ticks))) >= room).all())

    def _decades(self, digits: Iterable[int]) -> list[float]:
        places = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        return self._held(float(f"{digit}e{place}") for place, digit in product(places, digits))

    def _multiples(self, step: float) -> list[float]:
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return self._held(place * step for place in range(first, last + 1))

    def _held(self, values: Iterable[float]) -> list[float]:
        return [value for value in values if self.low <= value <= self.high]


def number(value: float) -> str:
    """A number with three digits, as short as that goes."""
    return f"{value:.3g}"


def viridis(places: np.ndarray) -> np.ndarray:
    """The colour of places from 0 to 1, dark to bright: [...] to [..., 3] in uint8."""
    anchors = np.linspace(0, 1, len(_VIRIDIS))
    channels = [np.interp(places, anchors, channel) for channel in _VIRIDIS.T]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, in pixels."""
    return ImageFont.load_default(size)


def fitted(words: str, size: int, width: int) -> str:
    """The words, cut with an ellipsis where they are wider than ``width`` pixels."""
    if font(size).getlength(words) <= width:
        return words
    while words and font(size).getlength(words + "…") > width:
        words = words[:-1]
    return words.rstrip() + "…"


def text(
    draw: ImageDraw.ImageDraw,
    spot: tuple[float, float],
    words: str,
    anchor: str = "lm",
    colour: Colour = INK,
    size: int = TEXT,
) -> None:
    """Write one line; ``anchor`` as in Pillow, so "lm" starts at the spot and is centred on its height."""
    draw.text(spot, words, colour, font(size), anchor)


def heading(draw: ImageDraw.ImageDraw, title: str, detail: str, width: int) -> None:
    """The title of a picture, and a line below it, in its uppermost 64 pixels."""
    room = width - LEFT - 20
    text(draw, (LEFT, 26), fitted(title, TITLE, room), size=TITLE)
    text(draw, (LEFT, 54), fitted(detail, TEXT, room), colour=QUIET)


def tick_gap(count: int, spacing: float, room: float = 0) -> int:
    """Every how many of ``count`` numbered places, ``spacing`` pixels apart, a number has ``room`` pixels.

    Without ``room``: as much as the longest number takes side by side.
    """
    room = room or font(TEXT).getlength(str(count)) + 14
    gaps = (size * 10**power for power in range(5) for size in (1, 2, 5))
    return next(gap for gap in gaps if gap * spacing >= room or gap >= count)


def flow(entries: Sequence[str], left: int, top: int, right: int, swatch: int) -> tuple[list[tuple[int, int]], int]:
    """Where the swatches of a legend start that wraps at ``right``, with rows 24 pixels apart, and where it ends.

    A spot is the left end and the middle of the swatch, which is ``swatch`` pixels wide; its words start 8 further.
    """
    spots, x, y = [], left, top + 12
    for words in entries:
        wide = swatch + 8 + math.ceil(font(TEXT).getlength(words))
        if x > left and x + wide > right:
            x, y = left, y + 24
        spots.append((x, y))
        x += wide + 26
    return spots, y + 12 if entries else top


@contextmanager
def smooth(picture: Image.Image) -> Iterator[SmoothLayer]:
    """A layer over the picture whose lines have smooth edges."""
    layer = Image.new("RGBA", (picture.width * _FINE, picture.height * _FINE))
    yield SmoothLayer(ImageDraw.Draw(layer))
    layer = layer.reduce(_FINE)
    picture.paste(layer, mask=layer)


@dataclass(frozen=True, slots=True)
class SmoothLayer:
    """Lines and markers in the pixels of the picture below, drawn finer."""

    draw: ImageDraw.ImageDraw

    def line(self, points: Sequence[tuple[float, float]], colour: Colour, width: float, dashes: bool = False) -> None:
        """A line through two points or more, in dashes of 9 pixels where wanted."""
        for part in _dashes(points, 9, 6) if dashes else [points]:
            fine = [_fine(point) for point in part]
            self.draw.line(fine, colour, round(width * _FINE), joint="curve")

    def marker(self, spot: tuple[float, float], colour: Colour, shape: int, size: float = 4.5) -> None:
        """A circle (shape 0), square, diamond or triangle with a light edge; ``size`` is half its width."""
        for radius, fill in ((size + 1.5, GROUND), (size, colour)):
            x, y = _fine(spot)
            r = radius * _FINE
            if shape % 4 == 0:
                self.draw.ellipse((x - r, y - r, x + r, y + r), fill)
            else:
                corners = (45, 135, 225, 315), (0, 90, 180, 270), (90, 210, 330)
                angles = [math.radians(angle) for angle in corners[shape % 4 - 1]]
                self.draw.polygon([(x + 1.2 * r * math.cos(a), y - 1.2 * r * math.sin(a)) for a in angles], fill)


def _fine(point: tuple[float, float]) -> tuple[float, float]:
    return (point[0] + 0.5) * _FINE, (point[1] + 0.5) * _FINE


def _dashes(points: Sequence[tuple[float, float]], on: float, off: float) -> Iterator[list[tuple[float, float]]]:
    """The parts of a line that its dashes cover."""
    path = np.array(points, dtype=np.float64)
    lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    for start in np.arange(0, lengths[-1], on + off):
        stop = min(start + on, lengths[-1])
        along = [start, *lengths[(lengths > start) & (lengths < stop)], stop]
        yield list(zip(*(np.interp(along, lengths, axis).tolist() for axis in path.T), strict=True))
