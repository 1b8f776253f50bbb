"""The route that tells what is on the disk of the calibration that a node asks for, before it is queued."""

from __future__ import annotations

from ..calibration import METRICS, MODES
from ..calibration.graph import KNOWN_MODES, present_mode
from ..calibration.kept import Wanted, kept_of
from ..calibration.settings import effort_of
from .calibrate import PROMPTS
from .calibration_run import RULES
from .library import calibrations
from .route_answer import Body, RequestError, short

MOST_SEEDS = 64
MOST_TRIES = 1000


def show_kept(body: Body) -> dict[str, object]:
    """How many steps are kept of the calibration that the settings of a calibrate node name.

    ``finished``: nothing has to be computed, as long as model and prompts are the same. ``different``: the settings in
    which the calibration of this name differs, whose measurements are of no use then.
    """
    name, tries, seed, seeds = body.text("name"), body.count("tries"), body.count("seed"), body.count("seeds")
    connected, typed = body.count("connected"), _texts(body, "prompts")
    for what, value, least, most in (
        ("tries", tries, 0, MOST_TRIES), ("seeds", seeds, 1, MOST_SEEDS), ("connected", connected, 0, PROMPTS),
        ("the number of prompts", connected + len(typed), 1, 100 * PROMPTS),
    ):
        if not least <= value <= most:
            raise RequestError(f"{what} is {value}: give a whole number from {least} to {most}.")
    effort = effort_of(present_mode(body.one_of("mode", KNOWN_MODES, MODES[0])), tries, body.flag("safe", True))
    rules = RULES[body.one_of("rules", tuple(RULES), "output")]
    settings: dict[str, object] = {"metric": body.one_of("metric", METRICS, "l1"), "rules": [str(rule) for rule in rules]}
    settings |= {key: body.count(key) for key in ("steps", "longest") if key in body and body.count(key)}
    setup = body.get("setup") or {}
    if not isinstance(setup, dict):
        raise RequestError(f"setup is {short(setup)}: give an object.")
    prompts = [prompt for prompt in (*[None] * connected, *typed) for _ in range(seeds)]
    samples = [(seed + place, prompt) for place, prompt in enumerate(prompts)]
    kept = kept_of(calibrations().root, name, Wanted(effort, samples, settings, setup))
    return {"name": name, "steps": kept.steps, "finished": kept.finished, "different": list(kept.different)}


def _texts(body: Body, key: str) -> list[str]:
    values = body.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise RequestError(f"{key} is {short(values)}: give a list of texts.")
    return values
