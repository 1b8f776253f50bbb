"""What each step of a run does, read off its schedule: action, rule, and whose values are needed later."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from ..schedules import Rule, Schedule


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


def rules_by_step(schedule: Schedule) -> tuple[Rule, ...]:
    """The rule of the segment that each step lies in."""
    return tuple(
        rule for (i, j), rule in zip(schedule.segments(), schedule.rules, strict=True) for _ in range(i, j)
    )


def kept_steps(schedule: Schedule) -> dict[str, frozenset[int]]:
    """The computed steps whose values a later step needs, by the target of its rule."""
    kept: dict[str, set[int]] = {"output": set(), "residual": set()}
    for position, ((i, j), rule) in enumerate(zip(schedule.segments(), schedule.rules, strict=True)):
        if j - i > 1:
            kept[rule.target].add(i)
            if rule.slope and position:
                kept[rule.target].add(schedule.computed[position - 1])
    return {target: frozenset(steps) for target, steps in kept.items()}


def on_output(schedule: Schedule) -> Schedule:
    """The schedule with its residual rules run on the output."""
    return schedule.with_rules([Rule("output", rule.order) for rule in schedule.rules])
