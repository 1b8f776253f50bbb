"""The route that tells what the LeMiCa node would run."""

from __future__ import annotations

from ..cache.wrapper import full_schedule
from ..calibration.choose import choose
from ..calibration.view import schedule_view, speedup
from ..schedules import ANY_MODEL, PRESETS, Family, GridError, Match, Rule, Selection, nominal_sigmas
from ..schedules.schedule import MAX_STEPS
from .apply import AS_SCHEDULED, AUTO, CUSTOM
from .learn import LEARN, OFF, learning, lesson_note, refined_budget, wants_full_run
from .library import calibrations, library, records
from .route_answer import Body, RequestError, UnknownFamilyError, short
from .sampler_sigmas import Sampling, expected_sigmas

UNKNOWN = "any"
"""The key of a model that nothing is known of."""

FLOW_SHIFT = 3.0
"""Of the nominal sigmas, where the family has none."""

WHEN_IT_STARTS = "what the sampler will get is known when it starts"

Sigmas = tuple[float, ...]


def show_plan(body: Body) -> dict[str, object]:
    """The schedule of a run, with a note on where it comes from; with ``calibration`` of one on its model."""
    family = _family(body.text("family") if "family" in body else None)
    steps = body.count("steps")
    if not 1 <= steps <= MAX_STEPS:
        raise RequestError(f"steps is {steps}: give a whole number from 1 to {MAX_STEPS}.")
    preset = body.one_of("preset", (*PRESETS, CUSTOM), "medium")
    budget = body.count("budget") if preset == CUSTOM else None
    name = body.text("schedule", AUTO)
    rule = body.text("rule", AS_SCHEDULED)
    learn = body.one_of("learn", LEARN, OFF) if name == AUTO and rule == AS_SCHEDULED else OFF
    identity = calibrations().get(body.text("calibration")).model if "calibration" in body else ANY_MODEL
    sigmas, about = _run_sigmas(body, family, steps)
    try:
        selection = choose(
            library(), calibrations(), Match(family, "", identity), sigmas,
            preset=None if preset == CUSTOM else preset, budget=budget, name=None if name == AUTO else name,
            rule=None if rule == AS_SCHEDULED else Rule.parse(rule),
            learned=[] if learn == OFF else records().learned_of_family(family.key),
        )
        known = records().count_of_family(family.key, sigmas)
        if wants_full_run(learn, selection.schedule, known):
            budget = refined_budget(learn, selection.schedule)
            selection = Selection(learning(sigmas), lesson_note(known, budget))
    except GridError as error:
        selection = Selection(full_schedule(sigmas), f"computing every step: {error}")
    schedule = selection.schedule
    return {
        **schedule_view(schedule), "note": f"{selection.note}{about}",
        "speedup": speedup(schedule.steps, schedule.computed, schedule.rules),
    }


def _family(key: str | None) -> Family:
    """The family of a key: a packaged one, or one that only schedules and calibrations of the user's have."""
    for family in library().families():
        if family.key == key:
            return family
    own = {schedule.family for schedule in library().own()} | {graph.family for _, graph in calibrations().all()}
    if key is not None and key not in own:
        raise UnknownFamilyError(f"There is no family {short(key)}: choose one of the library, or none.")
    return Family(
        key=key or UNKNOWN, title=key or "this model", order=0, model_class=(UNKNOWN,), diffusion_model=(), config={},
        files=(), defaults={}, presets={}, steps=None, budgets={},
    )


def _sigmas(body: Body, steps: int) -> Sigmas | None:
    """The sigmas of the request, which need not be such that a schedule can be had for them."""
    sigmas = body.get("sigmas")
    if sigmas is None:
        return None
    numbers = isinstance(sigmas, list) and all(isinstance(s, int | float) and not isinstance(s, bool) for s in sigmas)
    if not numbers or len(sigmas) != steps + 1:
        raise RequestError(f"sigmas is {short(sigmas)}: give {steps + 1} numbers for {steps} steps, or null.")
    return tuple(sigmas)


def _run_sigmas(body: Body, family: Family, steps: int) -> tuple[Sigmas, str]:
    """The sigmas of the run, and a note where they are not known: foretold, or given, or else the nominal ones."""
    sampling = Sampling.from_json(body.get("sampling")) if "sampling" in body else None
    given = _sigmas(body, steps)
    sigmas = (sampling and expected_sigmas(family, sampling)) or given
    if sigmas is not None:
        return sigmas, ""
    shift = family.defaults.get("flow_shift")
    shift = FLOW_SHIFT if shift is None else shift
    note = f"; for the sigmas of flow shift {shift:g}"
    return nominal_sigmas(shift, steps), note if sampling is None else f"{note}: {WHEN_IT_STARTS}"
