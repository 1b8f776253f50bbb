"""What is kept of a sample's full run, and what it is recognised by."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .job_error import OtherPictureError
from .sample import Sample

SKETCH = 32
"""How many values of a latent it is recognised by."""

SAME = 0.05
"""How far what a model gives may be off, as a share of its size: a GPU's rounding, not another model."""


@dataclass(frozen=True, eq=False, slots=True)
class FullRun:
    """What is kept of a sample's full run.

    Args:
        sample: the sample.
        conds: a digest of its conds.
        final: the final latent, flat, float32.
        derivatives: of its answers, sketched, [K, C, S], float32; K and C are 0 for a sampler without a response.
        gram: their mean products, [K * C, K * C], float64.
        whole: False where it was made on another machine: then ``final`` is a few values of it, and S is 0.
    """

    sample: Sample
    conds: str
    final: np.ndarray
    derivatives: np.ndarray
    gram: np.ndarray
    whole: bool = True

    def to_send(self) -> FullRun:
        """What of it leaves the machine that made it."""
        return replace(self, final=sketch_of(self.final), derivatives=self.derivatives[..., :0], whole=False)


@dataclass(slots=True)
class Measured:
    """What is known of one sample: its full run, and the errors that were replayed, [edges], NaN where none was."""

    full: FullRun
    replayed: np.ndarray


def sketch_of(final: np.ndarray) -> np.ndarray:
    """A few values of a final latent, to recognise it by."""
    return final[np.linspace(0, len(final) - 1, min(SKETCH, len(final))).astype(np.int64)]


def same(given: np.ndarray, known: np.ndarray) -> bool:
    """Whether a model gives what it gave before, but for rounding."""
    difference = np.abs(given - known).mean() if given.shape == known.shape else np.inf
    return bool(difference <= SAME * np.abs(known).mean())


def check_same(given: np.ndarray, known: np.ndarray, sample: Sample) -> None:
    """OtherPictureError unless the model gives what it gave when the sample was begun."""
    if not same(given, known):
        raise OtherPictureError(
            f"For prompt {sample.prompt[:60]!r}, seed {sample.seed}, the model gives another picture than when this "
            "calibration was begun: a LoRA, the checkpoint or the code has changed. Give the calibration another name, or go "
            "back to what it was begun with."
        )
