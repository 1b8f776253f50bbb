"""What fits of a calibration have come to so far, on the disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from safetensors.numpy import save as to_bytes

from ..cache.trajectory import Batch, Trajectory
from ..schedules import ScheduleError
from ..schedules.store import load_json
from .full_run import FullRun
from .job_error import JobError
from .job_folder import MAX_BYTES, JobFolder, sample_id
from .sample import Sample
from .segments import GraphError
from .tensor_file import read_tensors


@dataclass(frozen=True, slots=True)
class Fit:
    """The weights of a path's segments, and the errors of the samples with them, by their ids, in the order of the samples."""

    weights: tuple[tuple[float, ...], ...]
    errors: Mapping[str, float]


@dataclass(slots=True)
class FitFolder(JobFolder):
    """A JobFolder that keeps the weights of paths in ``fits.json``, and what a walk has computed in a file a step."""

    _fits: dict[str, Fit] = field(default_factory=dict, init=False)

    def fit_key(self, computed: Sequence[int], runs: Sequence[FullRun]) -> str:
        """A text that is the same for the same path on the same samples."""
        ids = "\n".join(sample_id(run.sample, run.conds) for run in runs)
        return f"{','.join(map(str, computed))}|{hashlib.sha256(ids.encode()).hexdigest()[:16]}"

    def fit_errors(self) -> dict[str, Mapping[str, float]]:
        """The errors of samples by their ids, of every path that was fitted.

        Raises:
            JobError: the file is broken.
        """
        return {key: one.errors for key, one in (self._fits or self._read_fits()).items()}

    def fit(self, key: str) -> Fit | None:
        """The weights that were fitted for a path, and the errors of the samples with them, or None."""
        return self._fits.get(key)

    def save_fit(self, key: str, found: Fit) -> None:
        """Keep the weights of a path, and what they came to; what its walks computed goes."""
        self._fits[key] = found
        content = {known: {"weights": one.weights, "errors": one.errors} for known, one in self._fits.items()}
        self._write(self.path / "fits.json", json.dumps(content).encode())
        for file in self.path.glob("walk-*.safetensors"):
            file.unlink(missing_ok=True)

    def walk(self, key: str, sample: Sample, conds: str) -> Trajectory:
        """What an interrupted walk along a path computed; a file that is broken is as good as none."""
        found: dict[Batch, dict[int, torch.Tensor]] = {}
        for file in self.path.glob(f"{_walk(key, sample, conds)}-*.safetensors"):
            try:
                _, tensors = read_tensors(file, MAX_BYTES)
                for name, outputs in tensors.items():
                    step, stage, place, index = map(int, name.split("."))
                    found.setdefault(Batch(step, stage, place), {})[index] = torch.from_numpy(outputs.copy())
            except (GraphError, ValueError, TypeError):
                file.unlink(missing_ok=True)
        known = Trajectory()
        known.batches = {batch: [outputs[index] for index in sorted(outputs)] for batch, outputs in found.items()}
        return known

    def save_walk(self, key: str, sample: Sample, conds: str, known: Trajectory, step: int) -> None:
        """Keep what a walk along a path computed at a step, so that it goes on there after a kill."""
        tensors = {
            f"{batch.step}.{batch.stage}.{batch.place}.{index}": output.float().contiguous().numpy()
            for batch, outputs in known.batches.items() if batch.step == step for index, output in enumerate(outputs)
        }
        self._write(self.path / f"{_walk(key, sample, conds)}-{step}.safetensors", to_bytes(tensors))

    def _read_all(self) -> None:
        JobFolder._read_all(self)
        self._fits = self._read_fits()

    def _read_fits(self) -> dict[str, Fit]:
        file = self.path / "fits.json"
        if not file.exists():
            return {}
        try:
            known = load_json(file)
            return {key: Fit(tuple(map(tuple, one["weights"])), dict(one["errors"])) for key, one in known.items()}
        except (ScheduleError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise JobError(
                f"{file.parent.name}/{file.name} is broken ({str(error)[:300]}): remove it to fit weights anew."
            ) from None


def _walk(key: str, sample: Sample, conds: str) -> str:
    return f"walk-{hashlib.sha256(key.encode()).hexdigest()[:16]}-{sample_id(sample, conds)}"
