"""The picture of what every budget costs: the predicted worst error, and the speed-up."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

from PIL import Image, ImageDraw

from .draw import (
    CURVES,
    GRID,
    GROUND,
    INK,
    LEFT,
    QUIET,
    TEXT,
    WIDTH,
    Colour,
    LogScale,
    SmoothLayer,
    fitted,
    flow,
    heading,
    number,
    smooth,
    text,
    tick_gap,
)
from .path import Path
from .segments import GraphError

_MARGIN = 40
_ERRORS, _SPEED = 300, 130
_ZERO = 30
_INSET = 18
_ROOM = 24  # pixels between budgets from where on each gets a marker

Curve = Mapping[int, float]


def budget_curve(
    sweeps: Mapping[str, Mapping[int, Path]],
    steps: int,
    measured: Mapping[int, float] | None = None,
    reused_cost: float = 0.0,
    measured_as: str = "measured",
) -> Image.Image:
    """The predicted worst error of every budget as a line per sweep, with the predicted speed-up below it.

    ``sweeps``: by name, the paths by budget, as `sweep` gives them. ``measured``: the error that a run had, by
    budget; what is not finite is left out. ``reused_cost``: what a reused step costs, in computed ones.
    ``measured_as``: what the legend calls what was measured. The picture is 1240 pixels wide. GraphError for a path
    that is not of ``steps`` steps, a budget without such a run or a wrong cost.
    """
    curves = {name: {budget: path.worst for budget, path in sorted(paths.items())} for name, paths in sweeps.items()}
    points = {budget: error for budget, error in sorted((measured or {}).items()) if math.isfinite(error)}
    _check(sweeps, steps, points, reused_cost)
    budgets = sorted({*points, *(budget for curve in curves.values() for budget in curve)})
    first, last = (budgets[0], budgets[-1]) if budgets else (1, steps)

    names = [fitted(name, TEXT, 300) for name in curves] + [measured_as] * bool(points)
    spots, top = flow(names, LEFT, 68, WIDTH - 20, 44)
    top += 34
    bottom = top + _ERRORS
    low_top = bottom + 52
    low_bottom = low_top + _SPEED
    picture = Image.new("RGB", (WIDTH, low_bottom + 66), GROUND)
    draw = ImageDraw.Draw(picture)
    cost = f"{number(reused_cost)} times a computed one" if reused_cost else "nothing"
    heading(
        draw,
        f"Worst error and speed-up by budget, {steps} step" + "s" * (steps != 1),
        f"predicted from the error graph  ·  a reused step costs {cost}",
        WIDTH,
    )
    spacing = (WIDTH - LEFT - _MARGIN - 2 * _INSET) / max(last - first, 1)

    def across(budget: int) -> float:
        return LEFT + _INSET + (budget - first) * spacing if last > first else (LEFT + WIDTH - _MARGIN) / 2

    for budget in _ticks(first, last, spacing):
        for high, low in ((top, bottom), (low_top, low_bottom)):
            draw.line((across(budget), high, across(budget), low + 5), GRID)
        text(draw, (across(budget), low_bottom + 18), str(budget), "mm")
    text(draw, (LEFT, low_bottom + 44), "budget B: the number of computed steps", colour=QUIET)

    errors = [error for curve in (*curves.values(), points) for error in curve.values()]
    height = _panel(draw, "worst error of a segment", errors, top, bottom, number)
    ratios = {budget: steps / (budget + (steps - budget) * reused_cost) for budget in range(first, last + 1)}
    faster = _panel(draw, "speed-up", ratios.values(), low_top, low_bottom, lambda value: f"{value:g}x")
    if not budgets:
        text(draw, ((LEFT + WIDTH - _MARGIN) / 2, (top + bottom) / 2), "no budget has a path", "mm", QUIET)

    with smooth(picture) as layer:
        for place, ((x, y), curve) in enumerate(zip(spots, curves.values(), strict=False)):
            path = [(across(budget), height(error)) for budget, error in curve.items()]
            _curve(layer, path, place, spacing)
            _curve(layer, [(x, y), (x + 44, y)], place, 0)
            if spacing >= _ROOM:
                _curve(layer, [(x + 22, y)], place, spacing)
        for spot in [(across(budget), height(error)) for budget, error in points.items()]:
            layer.marker(spot, INK, 0)
        if points:
            layer.marker((spots[-1][0] + 22, spots[-1][1]), INK, 0)
        if budgets:
            _curve(layer, [(across(budget), faster(ratio)) for budget, ratio in ratios.items()], 0, 0, QUIET)
    for (x, y), name in zip(spots, names, strict=True):
        text(draw, (x + 52, y), name)
    return picture


def _check(sweeps: Mapping[str, Mapping[int, Path]], steps: int, points: Curve, reused_cost: float) -> None:
    for name, paths in sweeps.items():
        for budget, path in paths.items():
            if path.steps != steps or path.budget != budget:
                raise GraphError(
                    f"{name} has a path that computes {path.budget} of {path.steps} steps for budget {budget} of "
                    f"{steps}: give the paths of sweep for this number of steps."
                )
    for budget, error in points.items():
        if not 1 <= budget <= steps or error < 0:
            raise GraphError(f"Budget {budget} of {steps} steps has the measured error {error}: leave it out.")
    if not 0 <= reused_cost <= 1:
        raise GraphError(f"A reused step costs {reused_cost} computed ones: give 0 to 1.")


def _ticks(first: int, last: int, spacing: float) -> list[int]:
    """The budgets to write below the curves."""
    every = tick_gap(last, spacing)
    return [budget for budget in range(first, last + 1) if budget % every == 0] or [first]


def _panel(
    draw: ImageDraw.ImageDraw,
    name: str,
    values: Collection[float],
    top: int,
    bottom: int,
    label: Callable[[float], str],
) -> Callable[[float], float]:
    """Draw the frame of a panel and its scale; return where a value lies in it, zeros on a line of their own."""
    text(draw, (LEFT, top - 12), f"{name}, log scale", colour=QUIET)
    scale, zero = LogScale.of(values), 0 in values
    low = bottom - _INSET // 2 - _ZERO * zero

    def height(value: float) -> float:
        return low - scale.at(value) * (low - top - _INSET // 2) if value else bottom - _INSET // 2

    ticks = [(height(tick), label(tick)) for tick in scale.ticks(22 / (low - top))] if any(values) else []
    for y, words in [*ticks, (height(0), "0")] if zero else ticks:
        draw.line((LEFT, y, WIDTH - _MARGIN, y), GRID)
        text(draw, (LEFT - 10, y), words, "rm")
    draw.rectangle((LEFT, top, WIDTH - _MARGIN, bottom), outline=QUIET)
    return height


def _curve(
    layer: SmoothLayer, spots: list[tuple[float, float]], place: int, spacing: float, colour: Colour | None = None
) -> None:
    """One line in the style of its place, the first one solid, with markers where there is room for them."""
    colour = colour or CURVES[place % len(CURVES)]
    if len(spots) > 1:
        layer.line(spots, colour, 2.6, dashes=place > 0)
    for spot in spots if spacing >= _ROOM or len(spots) == 1 else ():
        layer.marker(spot, colour, place)
