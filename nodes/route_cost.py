"""The route that tells what a calibration would ask of the model, before it runs."""

from __future__ import annotations

from ..calibration import MODES, all_segments
from ..calibration.estimate import replay_calls, replayed_edges
from ..calibration.outcome import most_candidates
from ..calibration.settings import Cost
from ..schedules import PRESETS, Match, ModelIdentity, Rule, preset_budget
from .calibration_run import RULES, longest_segment
from .library import library
from .route_answer import Body, RequestError

MOST_STEPS = 1000
MOST_SAMPLES = 100_000
MOST_TRIES = 1000

UNKNOWN = Match(None, "", ModelIdentity("any", "any"))


def show_cost(body: Body) -> dict[str, object]:
    """What the settings of a calibrate node cost: about, where the model's family is known, otherwise at least."""
    steps, samples, tries = body.count("steps"), body.count("samples"), body.count("tries")
    for what, value, least, most in (
        ("steps", steps, 2, MOST_STEPS), ("samples", samples, 1, MOST_SAMPLES), ("tries", tries, 0, MOST_TRIES)
    ):
        if not least <= value <= most:
            raise RequestError(f"{what} is {value}: give a whole number from {least} to {most}.")
    mode, rules = body.one_of("mode", MODES, "standard"), RULES[body.one_of("rules", tuple(RULES), "output")]
    key = body.text("family") if "family" in body else None
    family = next((family for family in library().families() if family.key == key), None)
    match = UNKNOWN if family is None else Match(family, "", UNKNOWN.identity)
    budgets = {preset_budget(match, preset, steps) for preset in PRESETS}
    longest = body.count("longest") or longest_segment(steps, min(budgets))
    if not 2 <= longest <= steps:
        raise RequestError(f"longest is {longest} in a run of {steps} steps: give 0, or a number from 2 to {steps}.")
    if mode == "short":
        runs = Cost(steps=steps, references=samples * steps, replays=0, paths=samples * sum(budgets))
        return {"steps": runs.computed, "full_runs": runs.computed / steps, "text": runs.describe()}
    # Rules with a slope replay as many segments as those without, which are counted faster.
    held = [Rule(rule.target, "hold") for rule in rules]
    segments = all_segments(steps, longest, held)
    replays = replay_calls(segments, steps, replayed_edges(segments, steps, held, mode))
    own = {schedule.name for schedule in library().own()}
    others = sum(schedule.name not in own for schedule in library().schedules(key)) if key is not None else 0
    paths = sum(budget * (most_candidates(len(rules), others) + tries) for budget in budgets)
    cost = Cost(steps=steps, references=samples * steps, replays=samples * replays, paths=samples * paths)
    text = cost.describe() if key is not None else f"at least {cost.describe()}"
    return {"steps": cost.computed, "full_runs": cost.computed / steps, "text": text}
