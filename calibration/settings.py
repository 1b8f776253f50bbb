"""What a calibration is to measure, what that costs, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..schedules import ModelIdentity, Rule
from .graph import METRICS, MODES
from .job_error import JobError


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure.

    ``family``: the key that the schedules go under. ``mode``: *short* fits one path a budget from full runs alone,
    *normal* fits others besides, *exact* replays every segment and measures paths of fixed rules. ``longest``: the
    longest segment, in steps. ``budgets``: those that get a schedule whose outcome is measured. ``tries``: how many
    changed paths to measure per budget in mode exact; 0 leaves the best candidate as it is. ``safe``: whether the start
    of fitted paths is protected, see ``protected_start``. ``setup``: how the samples are sampled, in plain JSON values;
    part of the calibration's identity.
    """

    family: str
    model: ModelIdentity
    mode: str
    metric: str
    rules: tuple[Rule, ...]
    longest: int
    budgets: tuple[int, ...]
    tries: int = 24
    safe: bool = True
    setup: Mapping[str, object] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether weights are fitted; without, segments are replayed."""
        return self.mode != "exact"

    @property
    def effort(self) -> dict[str, object]:
        """See ``effort_of``."""
        return effort_of(self.mode, self.tries, self.safe)

    def check(self, steps: int) -> None:
        """JobError unless the settings fit a run of N steps."""
        if steps < 1:
            raise JobError(
                "Nothing is sampled, as with denoise 0 or without sigmas: give a denoise above 0, or three sigmas or more."
            )
        if steps < 2:
            raise JobError(f"A run of {steps} step has nothing to reuse: calibrate with more steps.")
        for what, value, choices in (("mode", self.mode, MODES), ("metric", self.metric, METRICS)):
            if value not in choices:
                raise JobError(f"{what} is {value!r}: choose one of {', '.join(choices)}.")
        if self.fits and any(rule.target == "residual" for rule in self.rules):
            raise JobError(
                f"Rules of the residual are measured by replays alone, which effort {self.mode} does not make: set effort "
                "to exact, or rules to output."
            )
        if not self.rules:
            raise JobError("There are no rules to measure: choose one or more.")
        if not 2 <= self.longest <= steps:
            raise JobError(
                f"The longest segment is {self.longest} steps in a run of {steps}: give a number from 2 to {steps}."
            )
        for budget in self.budgets:
            if not 1 <= budget <= steps:
                raise JobError(f"Budget {budget} does not fit a run of {steps} steps: give numbers from 1 to {steps}.")


def effort_of(mode: str, tries: int, safe: bool) -> dict[str, object]:
    """What decides how much is measured in a mode, in plain values."""
    return {"mode": mode, "tries": tries} if mode == "exact" else {"mode": mode, "safe": safe}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a calibration asks of the model, in computed steps; that of paths by budget."""

    steps: int
    references: int
    replays: int
    paths: Mapping[int, int]

    @property
    def computed(self) -> int:
        """All computed steps."""
        return self.references + self.replays + sum(self.paths.values())

    def describe(self, seconds: float | None = None, of: str = "") -> str:
        """The estimate in words: in full runs and model steps, and in time where that is known, with what it is ``of``."""
        runs = self.computed / self.steps
        text = f"about {runs:.{0 if runs >= 20 else 1}f} full runs ({self.computed} model steps)"
        return text if seconds is None else f"{text}, {duration(seconds)} {of}".rstrip()


Cell = tuple[int, int, float, Rule]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a calibration stands; ``seconds_left`` is None until a step has been timed.

    ``cells``: what was replayed just now, (start, end, error, rule) each.
    """

    stage: str
    done: int
    total: int
    seconds_left: float | None
    cost: Cost
    cells: tuple[Cell, ...] = ()


def duration(seconds: float) -> str:
    """A length of time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
