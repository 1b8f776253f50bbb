"""One sample of a calibration, by what makes it again."""

from __future__ import annotations

from dataclasses import dataclass

from ..schedules.schedule import is_count, shown
from .segments import GraphError

MAX_PROMPT = 20_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One calibration sample: a prompt (or a name for what stands in its place) and the seed of its noise."""

    prompt: str
    seed: int

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str) or len(self.prompt) > MAX_PROMPT:
            raise GraphError(f"A sample's prompt is a text of up to {MAX_PROMPT} characters: shorten it.")
        if not is_count(self.seed) or not 0 <= self.seed < 1 << 64:
            raise GraphError(f"The seed of a sample is {shown(self.seed)}: give a whole number from 0 to 2**64 - 1.")
