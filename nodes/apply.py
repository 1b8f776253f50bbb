"""The LeMiCa node: a model that samples by a cache schedule."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace

from comfy_api.latest import io
from server import PromptServer

from ..cache.host import HostError, check
from ..cache.identity import identify
from ..cache.placement import CACHE_DEVICES
from ..cache.report import RunReport
from ..cache.setting import RunSetting
from ..cache.wrapper import Choice, Choose, OnStep, every_step, install
from ..calibration.choose import choose
from ..schedules import FIXED, PRESETS, ModelIdentity, Rule, Schedule, ScheduleError, find_family
from .learn import LEARN, OFF, ON, Learner
from .library import AUTO, calibrations, library
from .speed import Speed, note_speed

logger = logging.getLogger("LeMiCa")

CUSTOM = "custom"
AS_SCHEDULED = "as scheduled"
RULES = [str(rule) for rule in FIXED]

STEP_GAP = 0.1
"""The shortest time between two events of steps, in seconds."""


def reporter(node_id: str, family: str) -> Callable[[RunReport], None]:
    """Sends the account of every run to the browser, for the node with this id, and notes how fast the family is."""

    def report(run: RunReport) -> None:
        if run.finished and run.computed:
            note_speed(Speed(family, run.latent), run.seconds / len(run.computed))
        PromptServer.instance.send_sync("lemica.run", {"node": node_id, **run.to_json()})

    return report


def stepper(node_id: str) -> OnStep:
    """Tells the browser now and then at which step a run is, for the node with this id."""
    next_event = 0.0

    def tell(step: int, steps: int, computed: bool) -> None:
        nonlocal next_event
        now = time.monotonic()
        if now >= next_event:
            next_event = now + STEP_GAP
            event = {"node": node_id, "step": step, "steps": steps, "computed": computed}
            PromptServer.instance.send_sync("lemica.step", event)

    return tell


def planner(node_id: str) -> Callable[[str, Schedule], None]:
    """Tells the browser what a run is about to follow, and for which family, for the node with this id."""

    def tell(family: str, schedule: Schedule) -> None:
        event = {"node": node_id, **schedule.to_json(), "family": family}
        PromptServer.instance.send_sync("lemica.plan", event)

    return tell


def warn(node_id: str, why: str) -> None:
    """Say in the log and on the node with this id why its model stays as it is."""
    text = f"Computing every step: {why}"
    logger.warning(text)
    PromptServer.instance.send_sync("lemica.host", {"node": node_id, "text": text})


def chooser(
    identity: ModelIdentity,
    preset: str | None,
    budget: int | None,
    name: str | None,
    rule: Rule | None,
    computed: tuple[int, ...] = (),
    learn: str = OFF,
    on_plan: Callable[[str, Schedule], None] = lambda family, schedule: None,
) -> Choose:
    """Finds the schedule for this model once it is known what a run is asked for.

    ``computed`` steps replace those of the schedule that is found; ``learn`` is one of LEARN, and without effect where a
    schedule, rules or steps were chosen; ``on_plan`` is told the family and the schedule. A run that the budget, the steps
    or the schedule do not fit computes every step, and its note says why.

    Raises:
        ScheduleError: there is no schedule or calibration of that name.
    """
    match = find_family(identity, library().families())
    if name is not None and name not in calibrations().names():
        library().get(name)

    learner = Learner(identity, match.key, OFF if name or rule or computed else learn)

    def fitting(setting: RunSetting) -> Choice:
        wanted = min(len(computed), len(setting.sigmas) - 1) if computed else budget
        selection = choose(
            library(), calibrations(), match, setting.sigmas, preset=preset, budget=wanted, name=name, rule=rule,
            learned=learner.learned(setting),
        )
        schedule, note = selection.schedule, selection.note
        if computed:
            schedule, note = by_hand(schedule, computed), f"steps chosen by hand, rules of {schedule.name}"
        return learner.choice(setting, schedule, f"{match.note}: {note}")

    def chosen(setting: RunSetting) -> Choice:
        try:
            choice = fitting(setting)
        except ScheduleError as error:
            # What does not fit this run may fit the one before it, whose time is spent already.
            choice = Choice(*every_step(setting.sigmas, str(error)))
        on_plan(match.key, choice.schedule)
        return choice

    return chosen


def by_hand(schedule: Schedule, computed: tuple[int, ...]) -> Schedule:
    """The same run with these steps computed, all of them in it; each has the rule that the schedule has there.

    Weights were fitted for other segments: the half slope stands in for them.
    """
    schedule = schedule.unfitted()
    rules = tuple(schedule.rules[bisect_right(schedule.computed, step) - 1] for step in computed)
    source = {"rules_from": schedule.name}
    return replace(schedule, name="by hand", computed=computed, rules=rules, origin="custom", source=source)


def parse_steps(text: str) -> tuple[int, ...]:
    """The steps that a text like ``0, 3, 7`` lists; none for an empty one.

    Raises:
        ScheduleError: it lists something else, step 0 is missing, or a step is listed twice or out of order.
    """
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    if not all(re.fullmatch("[0-9]{1,5}", word) for word in words):
        raise ScheduleError(f"steps is {text[:80]!r}: list the computed steps, separated by commas, like '0, 3, 7'.")
    steps = tuple(map(int, words))
    if steps and steps[0] != 0:
        raise ScheduleError(f"steps is {text[:80]!r}: start with step 0, which has nothing to reuse.")
    if any(later <= earlier for earlier, later in zip(steps, steps[1:], strict=False)):
        raise ScheduleError(f"steps is {text[:80]!r}: list every step once, in increasing order.")
    return steps


def choices() -> list[str]:
    """What the schedule input offers: auto, every calibration, every schedule."""
    return list(dict.fromkeys([AUTO, *calibrations().names(), *(s.name for s in library().schedules())]))


class LeMiCa(io.ComfyNode):
    """Patches a model with the cache; the schedule is settled when the sampler starts and its sigmas are known."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LeMiCa",
            display_name="LeMiCa",
            category="model/patch/LeMiCa",
            description=(
                "Samples faster: some steps run the model, the others reuse its cached result, by a schedule measured "
                "in advance. Put it between the model loader and the sampler."
            ),
            search_aliases=["cache", "speed up", "teacache", "easycache", "magcache"],
            not_idempotent=True,  # its model reports to this very node: a twin needs one of its own
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with, after LoRAs and other patches."),
                io.Combo.Input(
                    "preset", options=[*PRESETS, CUSTOM], default="medium",
                    tooltip="How many steps compute: slow stays closest to the full run, ultra is fastest.",
                ),
                io.Int.Input(
                    "budget", default=15, min=1, max=10000,
                    tooltip="How many steps compute, when the preset is custom.",
                ),
                io.Combo.Input(
                    "schedule", options=choices(), default=AUTO, advanced=True,
                    tooltip="Auto finds the schedule for the loaded model; or choose a schedule or calibration by name.",
                ),
                io.Combo.Input(
                    "rule", options=[AS_SCHEDULED, *RULES], default=AS_SCHEDULED, advanced=True,
                    tooltip="How a reused step gets its value: from the model's output or its transformer blocks, "
                    "held, or following the last two computed steps.",
                ),
                io.Combo.Input(
                    "cache_device", options=list(CACHE_DEVICES), default="auto", advanced=True,
                    tooltip="Where cached tensors are kept; auto leaves the GPU when its memory runs short.",
                ),
                io.String.Input(
                    "steps", default="", optional=True, advanced=True, socketless=True, extra_dict={"hidden": True},
                    tooltip="The computed steps when the preset is custom, as chosen on the strip: 0-based, separated by "
                    "commas. Empty goes by the budget.",
                ),
                io.Combo.Input(
                    "learn", options=list(LEARN), default=ON, optional=True,
                    tooltip="On: a model without a schedule is run in full for its first three pictures, and LeMiCa learns "
                    "from them; then it is fast. Refine: the same in place of a published list too, and each is run once more "
                    "at this preset, unseen, which brings the fast pictures nearer to full ones. Off: its steps are "
                    "estimated. Every run: all runs are full ones, and learned from.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model with the cache.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: object) -> str:
        """Changes when the library does, so that a new calibration is used from the next run on."""
        return hashlib.sha256(repr([library().stamps(), calibrations().stamps()]).encode()).hexdigest()

    @classmethod
    def execute(
        cls, model, preset: str, budget: int, schedule: str, rule: str, cache_device: str, steps: str = "",
        learn: str = ON,
    ) -> io.NodeOutput:
        node_id = cls.hidden.unique_id
        try:
            check(model)
        except HostError as error:
            warn(node_id, str(error))
            return io.NodeOutput(model)
        identity = identify(model)
        choose = chooser(
            identity=identity,
            preset=None if preset == CUSTOM else preset,
            budget=budget if preset == CUSTOM else None,
            name=None if schedule == AUTO else schedule,
            rule=None if rule == AS_SCHEDULED else Rule.parse(rule),
            computed=parse_steps(steps) if preset == CUSTOM else (),
            learn=learn,
            on_plan=planner(node_id),
        )
        report = reporter(node_id, find_family(identity, library().families()).key)
        return io.NodeOutput(install(model, choose, cache_device, report, stepper(node_id)))
