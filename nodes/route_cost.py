"""The route that tells what a calibration would ask of the model, before it runs."""

from __future__ import annotations

from ..calibration import MODES, all_segments
from ..calibration.cost import cost_of
from ..calibration.estimate import replay_calls, replayed_edges
from ..calibration.graph import KNOWN_MODES, present_mode
from ..calibration.settings import Settings
from ..schedules import PRESETS, Match, ModelIdentity, Rule, nominal_sigmas, preset_budget
from .calibration_run import RULES, longest_segment, others_of
from .library import library
from .route_answer import Body, RequestError
from .speed import last_speed

MOST_STEPS = 1000
MOST_SAMPLES = 100_000
MOST_TRIES = 1000

UNKNOWN = Match(None, "", ModelIdentity("any", "any"))


def show_cost(body: Body) -> dict[str, object]:
    """What the settings of a calibrate node cost: in full runs, and in minutes where the family has been sampled before.

    Where the model's family is not known, its budgets are not either, and the usual ones are counted.
    """
    steps, samples, tries = body.count("steps"), body.count("samples"), body.count("tries")
    for what, value, least, most in (
        ("steps", steps, 2, MOST_STEPS), ("samples", samples, 1, MOST_SAMPLES), ("tries", tries, 0, MOST_TRIES)
    ):
        if not least <= value <= most:
            raise RequestError(f"{what} is {value}: give a whole number from {least} to {most}.")
    mode = present_mode(body.one_of("mode", KNOWN_MODES, MODES[0]))
    rules = RULES[body.one_of("rules", tuple(RULES), "output")]
    key = body.text("family") if "family" in body else None
    family = next((family for family in library().families() if family.key == key), None)
    match = UNKNOWN if family is None else Match(family, "", UNKNOWN.identity)
    budgets = tuple(sorted({preset_budget(match, preset, steps) for preset in PRESETS}))
    longest = body.count("longest") or longest_segment(steps, budgets[0])
    if not 2 <= longest <= steps:
        raise RequestError(f"longest is {longest} in a run of {steps} steps: give 0, or a number from 2 to {steps}.")
    settings = Settings(
        family=match.key, model=match.identity, mode=mode, metric="l2", rules=rules, longest=longest,
        budgets=budgets, tries=tries,
    )
    settings.check(steps)
    replays, others = 0, []
    if not settings.fits:
        # Rules with a slope replay as many segments as those without, which are counted faster.
        segments = all_segments(steps, longest, [Rule(rule.target, "hold") for rule in rules])
        replays = replay_calls(segments, steps, replayed_edges(segments))
        others = others_of(match, nominal_sigmas(1.0, steps), budgets)
    cost = cost_of(settings, steps, samples, 0, replays, others)
    last = None if key is None else last_speed(key)
    text = cost.describe() if last is None else cost.describe(cost.computed * last[1], _at(last[0].latent))
    return {"steps": cost.computed, "full_runs": cost.computed / steps, "text": text}


def _at(latent: tuple[int, ...]) -> str:
    return f"at the size of the last run, a latent of {' x '.join(map(str, latent[1:]))}"
