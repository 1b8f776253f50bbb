"""What each step of a run does, read off its schedule: action, rule, and whose values are needed later."""

from __future__ import annotations

from enum import Enum

from ..schedules import Rule, Schedule
from .rules import Reuse


class Action(Enum):
    """What a step does."""

    COMPUTE = "compute"
    REUSE = "reuse"
    RECALL = "recall"
    """Return what a recorded trajectory gave at this step; used by calibration."""


def actions_of(schedule: Schedule) -> tuple[Action, ...]:
    """COMPUTE at the schedule's computed steps, REUSE at the others."""
    computed = set(schedule.computed)
    return tuple(Action.COMPUTE if step in computed else Action.REUSE for step in range(schedule.steps))


def segment_actions(steps: int, start: int, end: int) -> tuple[Action, ...]:
    """RECALL up to the segment's start, REUSE inside it, COMPUTE from its end on."""
    return tuple(
        Action.RECALL if step <= start else Action.REUSE if step < end else Action.COMPUTE for step in range(steps)
    )


def reuses_by_step(schedule: Schedule) -> tuple[Reuse, ...]:
    """How the segment that each step lies in is reused."""
    found: list[Reuse] = []
    for place, (start, end) in enumerate(schedule.segments()):
        weights = schedule.weights[place] if schedule.weights else ()
        past = schedule.computed[place::-1][: len(weights)]
        found += [Reuse(schedule.rules[place], weights, past)] * (end - start)
    return tuple(found)


def kept_steps(schedule: Schedule) -> dict[str, frozenset[int]]:
    """The computed steps whose values a later step needs, by the target of its rule."""
    kept: dict[str, set[int]] = {"output": set(), "residual": set()}
    for place, ((start, end), rule) in enumerate(zip(schedule.segments(), schedule.rules, strict=True)):
        if end - start > 1:
            past = len(schedule.weights[place]) if rule.fitted else rule.past
            kept[rule.target].update(schedule.computed[place::-1][:past])
    return {target: frozenset(steps) for target, steps in kept.items()}


def depth_of(schedule: Schedule) -> int:
    """How many values a slot keeps at most."""
    longest = max(map(len, schedule.weights), default=0)
    return max([longest, *(rule.past for rule in schedule.rules if not rule.fitted)])


def on_output(schedule: Schedule) -> Schedule:
    """The schedule with its residual rules run on the output."""
    return schedule.with_rules([Rule("output", rule.order) for rule in schedule.rules])
