"""Rules: how a reused step gets its value from what earlier computed steps gave. The one place that defines them.

The rules of the output carry the derivative d = (x - denoised) / sigma over, which is dx/dsigma for eps, v and flow models
alike, so they serve every parametrisation. Under a sampler that draws noise they carry the denoised latent itself: noise that
comes in after a step is none of that step's derivative, and would stay in the picture. The rules of the residual carry that of
the transformer blocks over. Every rule is a sum of past values, each with a weight. Holding the last one is the reuse of
LeMiCa (arXiv 2511.00090, section 3.1); the line through the last two is followed whole, or by half, as MeanCache (arXiv
2601.19961) argues, since the reused value stands for the mean over its segment; fitted weights are a segment's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .checks import ScheduleError, shown

TARGETS = ("output", "residual")

SLOPES = {"hold": 0.0, "half": 0.5, "linear": 1.0}
"""How far the line through the last two computed steps is followed, in sigma, by the rules that need no fit."""

FITTED = "fitted"

DENOISED = "denoised"
"""What weights are of that were fitted under drawn noise, as a schedule's provenance has it under ``carries``."""

MOST_PAST = 6
"""How many computed steps a fitted segment may look back on."""

LARGEST_WEIGHT = 1e3


@dataclass(frozen=True, slots=True)
class Rule:
    """How a reused step gets its value.

    ``target``: what is carried over, the model's output or the residual of its block stack.
    ``order``: the last value (hold), the line through the last two with half of its slope or all of it (linear), or
    with weights of the segment's own (fitted), which only the output has.
    """

    target: str
    order: str

    def __post_init__(self) -> None:
        if (self.target, self.order) not in _KNOWN:
            raise ScheduleError(
                f"Rule {shown(self.target)} {shown(self.order)} is unknown: choose one of {', '.join(TARGETS)} "
                f"followed by one of {', '.join(SLOPES)}, like 'output linear', or 'output {FITTED}'."
            )

    @property
    def fitted(self) -> bool:
        """Whether the weights are the segment's own."""
        return self.order == FITTED

    @property
    def past(self) -> int:
        """On how many computed steps the value depends, at most."""
        if self.fitted:
            return MOST_PAST
        return 2 if SLOPES[self.order] else 1

    @property
    def slope(self) -> float:
        """The factor on the slope: 0, 0.5 or 1; of a rule that is not fitted."""
        return SLOPES[self.order]

    def weights(self, sigma: float, sigmas: Sequence[float]) -> tuple[float, ...]:
        """The weights of the last values, the newest first, for a step at ``sigma``; of a rule that is not fitted.

        Args:
            sigma: of the reused step.
            sigmas: of the values there are, the newest first; with one of them, or two at one sigma, it is held.
        """
        if not self.slope or len(sigmas) < 2 or sigmas[0] == sigmas[1]:
            return (1.0,)
        share = self.slope * (sigma - sigmas[0]) / (sigmas[0] - sigmas[1])
        return (1.0 + share, -share)

    @classmethod
    def parse(cls, text: str) -> Rule:
        """The rule that a text like ``output linear`` names; ``str(rule)`` gives the text back."""
        if isinstance(text, str) and text in _RULES:
            return _RULES[text]
        words = text.split() if isinstance(text, str) else ()
        if len(words) != 2:
            raise ScheduleError(f"Rule {shown(text)} is not two words: write target and order, like 'residual hold'.")
        return cls(*words)

    def __str__(self) -> str:
        return f"{self.target} {self.order}"


_KNOWN = (*((target, order) for target in TARGETS for order in SLOPES), ("output", FITTED))

FIXED = tuple(Rule(target, order) for target in TARGETS for order in SLOPES)
"""The rules that need no fit."""

OUTPUT_FITTED = Rule("output", FITTED)

RULES = (*FIXED, OUTPUT_FITTED)

_RULES = {str(rule): rule for rule in RULES}


def check_weights(weights: object, rules: Sequence[Rule], lengths: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """The weights of every segment as floats; ScheduleError unless exactly the fitted ones that reuse something have some.

    Args:
        weights: one sequence a segment, the newest computed step first.
        rules: of the segments.
        lengths: of the segments, in steps.
    """
    if not isinstance(weights, tuple | list) or len(weights) != len(rules):
        raise ScheduleError(f"weights is {shown(weights)}: give one list per computed step.")
    for place, (own, rule, length) in enumerate(zip(weights, rules, lengths, strict=True)):
        most = min(MOST_PAST, place + 1)
        if not isinstance(own, tuple | list) or len(own) > most:
            raise ScheduleError(f"weights[{place}] is {shown(own)}: give up to {most} numbers, one per computed step so far.")
        for weight in own:
            plain = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not plain or not abs(weight) <= LARGEST_WEIGHT:
                raise ScheduleError(
                    f"weights[{place}] holds {shown(weight)}: give numbers from -{LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g}."
                )
        if bool(own) != (rule.fitted and length > 1):
            raise ScheduleError(
                f"weights[{place}] is {shown(own)} for {rule} over {length} steps: segments that are fitted and reuse "
                "something have weights, and no others."
            )
    return tuple(tuple(map(float, own)) for own in weights)
