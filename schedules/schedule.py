"""What a schedule is: which steps of a sampling run compute, and how the others get their value.

Convention, here and everywhere in the pack: a run of N steps has steps 0 .. N-1 and N+1 sigmas; step k goes from
sigma[k] to sigma[k+1]. A schedule lists the computed steps, 0-based and increasing; step 0 always computes, because
nothing is there to reuse. The budget is the number of computed steps. A segment (i, j) is a computed step i together
with the reused steps i+1 .. j-1 after it; j is the next computed step, or N, the sink, at the end of the run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from .checks import GridError, ScheduleError, shown
from .rules import OUTPUT_FITTED, Rule, check_weights

SCHEMA = 2
"""1 has no weights, and is what is written where there are none, so that older versions read it."""
MAX_STEPS = 10_000
MAX_NAME = 120
MAX_DEPTH = 40
"""Of provenance: objects and lists in each other."""
ORIGINS = (
    "calibrated", "predicted", "learned", "borrowed", "published", "resampled", "estimated", "imported", "custom",
    "learning",
)
"""Measured on the model of ``source`` as a whole; solved from the errors of segments there, of a calibration or of full runs
that the user made anyway; one of these, on another model; a list of the LeMiCa authors; one of these, fitted to a run;
spread as published lists are; from a file that says where it comes from; chosen by the user; a full run that is learned
from."""

FIGURES = ("measured", "predicted")
"""What ``source`` may tell of a schedule, as long as its steps, rules, sigmas and model are those that it tells of."""

_FIELDS = ("schema", "name", "family", "steps", "computed", "rules", "origin", "sigmas", "source", "weights")


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule, valid by construction; a wrong field raises ScheduleError.

    ``sigmas`` are the N+1 sigmas it was made for, or None when its source names none. ``rules`` holds one rule per
    computed step: the rule of the segment that this step opens. ``weights`` holds the weights of the segments whose rule
    is fitted, one tuple per computed step, the newest computed step first; () stands for none at all. ``source`` is
    provenance in plain JSON values; it is copied, and not to be changed afterwards.
    """

    name: str
    family: str
    steps: int
    computed: tuple[int, ...]
    rules: tuple[Rule, ...]
    origin: str
    sigmas: tuple[float, ...] | None = None
    source: Mapping[str, object] = field(default_factory=dict, hash=False)
    weights: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        check_name(self.family, "family")
        if not is_count(self.steps) or not 1 <= self.steps <= MAX_STEPS:
            raise ScheduleError(f"steps is {shown(self.steps)}: give a whole number from 1 to {MAX_STEPS}.")
        check_computed(self.computed, self.steps)
        if not isinstance(self.rules, tuple | list) or not all(isinstance(rule, Rule) for rule in self.rules):
            raise ScheduleError(f"rules is {shown(self.rules)}: give one Rule per computed step.")
        if len(self.rules) != len(self.computed):
            raise ScheduleError(
                f"{len(self.rules)} rules for {len(self.computed)} computed steps: give one rule per computed step."
            )
        if self.origin not in ORIGINS:
            raise ScheduleError(f"origin is {shown(self.origin)}: choose one of {', '.join(ORIGINS)}.")
        object.__setattr__(self, "computed", tuple(self.computed))
        object.__setattr__(self, "rules", tuple(self.rules))
        object.__setattr__(self, "weights", self._checked_weights())
        if self.sigmas is not None:
            sigmas = check_sigmas(self.sigmas)
            if len(sigmas) != self.steps + 1:
                raise ScheduleError(f"{len(sigmas)} sigmas for {self.steps} steps: give one more than there are steps.")
            object.__setattr__(self, "sigmas", sigmas)
        object.__setattr__(self, "source", plain_copy(self.source, "source"))

    def _checked_weights(self) -> tuple[tuple[float, ...], ...]:
        if not self.weights and isinstance(self.weights, tuple | list) and OUTPUT_FITTED not in self.rules:
            return ()
        weights = check_weights(self.weights, self.rules, [end - start for start, end in self.segments()])
        return weights if OUTPUT_FITTED in self.rules else ()

    @property
    def budget(self) -> int:
        """The number of computed steps."""
        return len(self.computed)

    def segments(self) -> tuple[tuple[int, int], ...]:
        """The segments (i, j) in order; the last one ends at N, the sink."""
        return tuple(zip(self.computed, (*self.computed[1:], self.steps), strict=True))

    def with_rules(self, rules: Sequence[Rule]) -> Schedule:
        """The same steps under other rules, for which nothing was measured, predicted or published."""
        if tuple(rules) == self.rules:
            return self
        origin = self.origin if self.origin in ("resampled", "estimated") else "custom"
        weights = tuple(own if rule.fitted else () for own, rule in zip(self.weights, rules, strict=False))
        weights = weights if OUTPUT_FITTED in rules else ()
        return replace(self, rules=tuple(rules), origin=origin, source=without_figures(self.source), weights=weights)

    def unfitted(self, order: str = "half") -> Schedule:
        """The same steps with a fixed rule of the output where weights were fitted, for use where those do not apply."""
        fallback = Rule("output", order)
        rules = tuple(fallback if rule.fitted else rule for rule in self.rules)
        return replace(self, rules=rules, weights=()) if self.weights else self

    def to_json(self) -> dict[str, object]:
        """The schedule in plain JSON values; ``from_json`` reads them."""
        weights = {"weights": [list(own) for own in self.weights]} if self.weights else {}
        return {
            "schema": SCHEMA if weights else 1,
            "name": self.name,
            "family": self.family,
            "steps": self.steps,
            "computed": list(self.computed),
            "rules": [str(rule) for rule in self.rules],
            "origin": self.origin,
            "sigmas": None if self.sigmas is None else list(self.sigmas),
            "source": plain_copy(self.source, "source"),
            **weights,
        }

    @classmethod
    def from_json(cls, data: object) -> Schedule:
        """The schedule that ``to_json`` wrote; ScheduleError for anything else, or for a newer schema."""
        if not isinstance(data, Mapping):
            raise ScheduleError(f"A schedule is a JSON object, not {type(data).__name__}.")
        check_schema(data)
        unknown = sorted(str(key) for key in data.keys() - set(_FIELDS))
        if unknown:
            raise ScheduleError(f"Unknown fields {', '.join(unknown)[:200]}: a schedule has {', '.join(_FIELDS)}.")
        missing = [key for key in _FIELDS[:7] if key not in data]
        if missing:
            raise ScheduleError(f"The schedule lacks {', '.join(missing)}.")
        rules = data["rules"]
        if not isinstance(rules, list):
            raise ScheduleError(f"rules is {shown(rules)}: give a list with one text per computed step.")
        source = data.get("source", {})
        return cls(
            name=data["name"],
            family=data["family"],
            steps=data["steps"],
            computed=data["computed"],
            rules=tuple(Rule.parse(text) for text in rules),
            origin=_read_origin(data["origin"], source),
            sigmas=data.get("sigmas"),
            source=source,
            weights=data.get("weights", ()),
        )


def without_figures(source: Mapping[str, object]) -> dict[str, object]:
    """Provenance without what was measured or predicted."""
    return {key: value for key, value in source.items() if key not in FIGURES}


def _read_origin(origin: object, source: object) -> object:
    """The origin in a file; the first versions called calibrated what was only predicted, too."""
    predicted = isinstance(source, Mapping) and "predicted" in source and "measured" not in source
    return "predicted" if origin == "calibrated" and predicted else origin


def check_schema(data: Mapping[str, object]) -> None:
    """ScheduleError unless ``schema`` is a version that this pack reads."""
    schema = data.get("schema")
    if not is_count(schema) or schema < 1:
        raise ScheduleError(f"schema is {shown(schema)}: this is not a schedule file of LeMiCa.")
    if schema > SCHEMA:
        raise ScheduleError(
            f"This file has schema {shown(schema)}, this version of ComfyUI-LeMiCa reads up to {SCHEMA}: update the node pack."
        )


def check_name(name: object, what: str) -> None:
    """ScheduleError unless ``name`` is 1 to 120 printable characters without spaces at its ends."""
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
        raise ScheduleError(f"{what} is {shown(name)}: give a text of 1 to {MAX_NAME} characters.")
    if not name.isprintable() or name != name.strip():
        raise ScheduleError(
            f"{what} is {shown(name)}: leave out control characters, and spaces at the start and the end."
        )


def check_sigmas(sigmas: Sequence[float]) -> tuple[float, ...]:
    """The sigmas as floats; GridError unless there are two or more, finite, >= 0 and strictly decreasing."""
    if isinstance(sigmas, str | bytes) or not isinstance(sigmas, Sequence):
        raise GridError(f"sigmas is {shown(sigmas)}: give a list of numbers.")
    for k, sigma in enumerate(sigmas):
        if type(sigma) is not float and (isinstance(sigma, bool) or not isinstance(sigma, int | float)):
            raise GridError(f"sigmas[{k}] is {shown(sigma)}: give numbers only.")
    try:
        grid = tuple(float(sigma) for sigma in sigmas)
    except OverflowError as error:
        raise GridError(f"A sigma is too large for a float: {error}.") from None
    if not 2 <= len(grid) <= MAX_STEPS + 1:
        raise GridError(f"{len(grid)} sigmas: a run of N steps has N+1, with N from 1 to {MAX_STEPS}.")
    for k, sigma in enumerate(grid):
        if not math.isfinite(sigma) or sigma < 0:
            raise GridError(f"sigmas[{k}] is {sigma}: every sigma has to be finite and not negative.")
        if k and sigma >= grid[k - 1]:
            raise GridError(f"sigmas[{k}] is {sigma} after {grid[k - 1]}: sigmas have to decrease at every step.")
    return grid


def nominal_sigmas(shift: float, steps: int) -> tuple[float, ...]:
    """The N+1 sigmas of a flow model with time shift s: s*t / (1 + (s-1)*t) at t = 1 - k/N; from 1 down to 0."""
    times = (1 - k / steps for k in range(steps + 1))
    return tuple(shift * t / (1 + (shift - 1) * t) for t in times)


def is_count(value: object) -> bool:
    """Whether the value is a whole number; a bool is not, and neither is 3.0."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_computed(computed: object, steps: int) -> None:
    """ScheduleError unless these are the computed steps of a run of N steps: increasing, from step 0 on."""
    if not isinstance(computed, tuple | list) or not all(is_count(step) for step in computed):
        raise ScheduleError(f"computed is {shown(computed)}: give whole numbers, the 0-based computed steps.")
    if not 1 <= len(computed) <= steps:
        raise ScheduleError(f"{len(computed)} computed steps in a run of {steps}: the budget has to be 1 to {steps}.")
    if any(later <= earlier for earlier, later in zip(computed, computed[1:], strict=False)):
        raise ScheduleError(f"computed is {shown(list(computed))}: list every step once, in increasing order.")
    if computed[0] != 0:
        raise ScheduleError(f"The first computed step is {computed[0]}: step 0 has nothing to reuse, start with it.")
    if computed[-1] >= steps:
        raise ScheduleError(f"Computed step {computed[-1]} is not in a run of {steps} steps: the last is {steps - 1}.")


def plain_copy(value: object, what: str) -> dict[str, object]:
    """A deep copy of a JSON object; ScheduleError when it holds anything that JSON cannot, or is nested too deeply."""
    if not isinstance(value, Mapping):
        raise ScheduleError(f"{what} is {shown(value)}: give an object with plain JSON values.")
    containers: list[Mapping | list | tuple] = [value]
    depth = 0
    while containers and depth < MAX_DEPTH:
        inner = (one.values() if isinstance(one, Mapping) else one for one in containers)
        containers = [one for values in inner for one in values if isinstance(one, Mapping | list | tuple)]
        depth += 1
    if containers:
        raise ScheduleError(f"{what} is nested more than {MAX_DEPTH} deep: give plain values.")
    try:
        return json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ScheduleError(f"{what} holds a value that JSON cannot: {error}.") from None
