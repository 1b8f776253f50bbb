"""Which runs teach the same: those of one model under one sampler and guidance, at about one size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...cache.setting import RunSetting
from ...schedules import ModelIdentity

GUIDANCE = 1.25
"""Up to how many times another CFG may be: up to there fits keep their gain in tests/benchmarks/results/fits_elsewhere.md."""

SIZE = 1.5
"""Up to how many times longer or shorter an axis of the latent may be: as far as that table has sizes."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a run is of, but for its sigmas.

    Args:
        family: the key that its schedules go under.
        model: with its file and patches.
        sampler: its function and its options, as text.
        guider: its class.
        guidance: the numbers of the guider, such as cfg.
        latent: the shape, [B, C, ...]; how many are sampled at once does not matter.
        masked: whether a part of the latent is not sampled freely.
    """

    family: str
    model: ModelIdentity
    sampler: str
    guider: str
    guidance: Mapping[str, float] = field(hash=False)
    latent: tuple[int, ...]
    masked: bool

    def alike(self, other: Kind) -> bool:
        """Whether what is learned from one run holds for the other."""
        same = ("family", "model", "sampler", "guider", "masked")
        mine, theirs = self.latent[1:], other.latent[1:]
        return (
            all(getattr(self, name) == getattr(other, name) for name in same)
            and self.model.file == other.model.file
            and self.guidance.keys() == other.guidance.keys()
            and all(_near(value, other.guidance[name], GUIDANCE) for name, value in self.guidance.items())
            and len(mine) == len(theirs)
            and all(_near(own, size, SIZE) for own, size in zip(mine, theirs, strict=True))
        )


def kind_of(family: str, model: ModelIdentity, setting: RunSetting) -> Kind:
    """The kind of a run under a sampler of KSampler."""
    sampler, guider = setting.sampler, setting.guider
    options = sorted((name, repr(value)) for name, value in sampler.extra_options.items())
    text = " ".join([sampler.sampler_function.__name__, *(f"{name}={value}" for name, value in options)])
    numbers = {
        name: float(value) for name, value in vars(guider).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    masked = setting.mask is not None and bool((setting.mask < 1.0).any())
    return Kind(family, model, text, type(guider).__name__, numbers, setting.latent, masked)


def _near(one: float, other: float, times: float) -> bool:
    """Whether two numbers are the same, or of one sign and no more than so many times apart."""
    if one == other:
        return True
    return one * other > 0 and abs(math.log(one / other)) <= math.log(times) + 1e-9
