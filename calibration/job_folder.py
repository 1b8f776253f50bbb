"""What a calibration has measured so far, on the disk: written after every replay, read again to go on."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors.numpy import save as to_bytes

from ..cache.trajectory import Batch, Trajectory
from ..schedules import ScheduleError
from ..schedules.atomic import remove_left, write_atomically
from ..schedules.schedule import shown
from ..schedules.store import load_json
from .sample import Sample
from .segments import GraphError
from .tensor_file import read_tensors

SCHEMA = 2
MAX_BYTES = 1 << 30
"""Of a sample's file: mostly the final latent of its full run, and the sketched derivatives."""

_KEY = "lemica_sample"
_TENSORS = ("final", "derivatives", "replayed")


class JobError(ValueError):
    """A calibration cannot begin or go on: its name is taken, or its files are not those of this calibration."""


class OtherPictureError(JobError):
    """A full run ends elsewhere than the one that the sample was begun with."""


@contextmanager
def told_what_is_kept() -> Iterator[None]:
    """A full disk, or a full quota, is told with what it means for a calibration; still an OSError of that number."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        told = "The disk is full, what was measured is kept: free some space and queue the calibration again to go on."
        raise OSError(error.errno, told) from error


@dataclass(slots=True)
class Measured:
    """What is known of one sample.

    ``final``: the latent of its full run, flat. ``derivatives``: of its answers, [K, C, S]; empty for a sampler without a
    response. ``replayed``: [edges], the errors that were replayed, NaN elsewhere.
    """

    sample: Sample
    conds: str
    final: np.ndarray
    derivatives: np.ndarray
    replayed: np.ndarray


@dataclass(frozen=True, slots=True)
class Fit:
    """The weights of a path's segments, and the errors of the samples with them, by their ids."""

    weights: tuple[tuple[float, ...], ...]
    errors: Mapping[str, float]


@dataclass(slots=True)
class JobFolder:
    """The folder of one calibration: ``job.json``, one safetensors file a sample, ``paths.json``, ``fits.json``.

    Args:
        path: the folder; made when first written to.
        identity: what must be the same for measurements to belong together: model, sigmas, rules, longest skip,
            metric, sampler, cfg, size. Plain JSON values. Where ``patches``, the model's, is None here or missing in an
            older folder, it may be anything.
        edges: how many segments the calibration has.
    """

    path: Path
    identity: Mapping[str, object]
    edges: int
    # Whether what is in the folder may be of other patches than the identity names.
    unknown_patches: bool = field(default=False, init=False)
    _paths: dict[str, dict[str, float]] = field(default_factory=dict, init=False)
    _fits: dict[str, Fit] = field(default_factory=dict, init=False)
    _lock: FileLock | None = field(default=None, init=False)

    def open(self) -> None:
        """Take the folder for this process, and check that it holds this calibration or none.

        Raises:
            JobError: another process has it, or it holds a calibration with other settings.
        """
        if self.path.is_symlink():
            raise JobError(f"{self.path.name!r} is a link to another folder: give the calibration another name.")
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise JobError(
                f"The calibration {self.path.name!r} is being measured by another run: wait for it, or give this one "
                "another name."
            ) from None
        self._lock = lock
        remove_left(self.path, 0)
        try:
            self._check_identity()
            self._paths, self._fits = self._read_paths(), self._read_fits()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let other processes have the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def load(self, sample: Sample, conds: str) -> Measured | None:
        """What was measured of a sample with these conds, or None.

        Raises:
            JobError: its file is broken.
        """
        path = self._file(sample, conds)
        return self._read(path) if path.exists() else None

    def load_all(self) -> list[Measured]:
        """Every sample that has a file, by file name."""
        return [self._read(path) for path in sorted(self.path.glob("sample-*.safetensors"))]

    def save(self, measured: Measured) -> None:
        """Write what is known of a sample; an OSError leaves what was written before."""
        about = {
            "schema": SCHEMA, "prompt": measured.sample.prompt, "seed": measured.sample.seed, "conds": measured.conds,
        }
        tensors = {name: getattr(measured, name) for name in _TENSORS}
        self._write(self._file(measured.sample, measured.conds), to_bytes(tensors, {_KEY: json.dumps(about)}))

    def path_error(self, key: str, sample: Sample, conds: str) -> float | None:
        """The measured error of a whole path on a sample, or None."""
        return self._paths.get(key, {}).get(sample_id(sample, conds))

    def save_path_error(self, key: str, sample: Sample, conds: str, error: float) -> None:
        """Keep the measured error of a whole path on a sample."""
        self._paths.setdefault(key, {})[sample_id(sample, conds)] = error
        self._write(self.path / "paths.json", json.dumps(self._paths, sort_keys=True).encode())

    def fit(self, key: str) -> Fit | None:
        """The weights that were fitted for a path, and the errors of the samples with them, or None."""
        return self._fits.get(key)

    def save_fit(self, key: str, fit: Fit) -> None:
        """Keep the weights of a path, and what they came to; what its walks computed goes."""
        self._fits[key] = fit
        content = {known: {"weights": one.weights, "errors": one.errors} for known, one in self._fits.items()}
        self._write(self.path / "fits.json", json.dumps(content, sort_keys=True).encode())
        for file in self.path.glob("walk-*.safetensors"):
            file.unlink(missing_ok=True)

    def walk(self, key: str, sample: Sample, conds: str) -> Trajectory:
        """What an interrupted walk along a path computed; a file that is broken is as good as none."""
        return self._read_walk(_walk(key, sample, conds))

    def _read_walk(self, stem: str) -> Trajectory:
        known = Trajectory()
        for file in self.path.glob(f"{stem}-*.safetensors"):
            try:
                _, tensors = read_tensors(file, MAX_BYTES)
                for name, outputs in tensors.items():
                    step, stage, place, index = map(int, name.split("."))
                    known.batches.setdefault(Batch(step, stage, place), {})[index] = torch.from_numpy(outputs.copy())
            except (GraphError, ValueError):
                file.unlink(missing_ok=True)
        known.batches = {batch: [found[index] for index in sorted(found)] for batch, found in known.batches.items()}
        return known

    def save_walk(self, key: str, sample: Sample, conds: str, known: Trajectory, step: int) -> None:
        """Keep what a walk along a path computed at a step, so that it goes on there after a kill."""
        tensors = {
            f"{batch.step}.{batch.stage}.{batch.place}.{index}": output.float().contiguous().numpy()
            for batch, outputs in known.batches.items() if batch.step == step for index, output in enumerate(outputs)
        }
        self._write(self.path / f"{_walk(key, sample, conds)}-{step}.safetensors", to_bytes(tensors))

    def _write(self, file: Path, content: bytes) -> None:
        """Write a file; a folder that somebody removed meanwhile is made anew, so that hours of a job are not lost."""
        if not (self.path / "job.json").exists():
            self.path.mkdir(parents=True, exist_ok=True)
            self._check_identity()
        write_atomically(file, content)

    def _check_identity(self) -> None:
        file = self.path / "job.json"
        identity = json.loads(json.dumps(self.identity, allow_nan=False))
        if not file.exists():
            write_atomically(file, json.dumps({"schema": SCHEMA, "identity": identity}, indent=2, sort_keys=True).encode())
            return
        try:
            known = load_json(file)
        except ValueError as error:
            raise JobError(f"{file.parent.name}/{file.name}: {str(error)[:300]} Give the calibration another name.") from None
        if not isinstance(known, dict) or known.get("schema") != SCHEMA or not isinstance(known.get("identity"), dict):
            raise JobError(f"{file.parent.name}/{file.name} is no calibration of this version: give another name.")
        theirs = known["identity"]
        self.unknown_patches = "patches" in identity and None in (identity["patches"], theirs.get("patches"))
        different = sorted(key for key in identity.keys() | theirs.keys() if identity.get(key) != theirs.get(key))
        if self.unknown_patches and "patches" in different:
            different.remove("patches")
        if different:
            told = "; ".join(
                f"{key[:60]}: {_short(theirs.get(key))} there, {_short(identity.get(key))} here" for key in different[:12]
            )
            raise JobError(
                f"There is a calibration {self.path.name!r} already, made with other settings ({told}): give this one "
                "another name, or the same settings to go on with it."
            )

    def _read_paths(self) -> dict[str, dict[str, float]]:
        file = self.path / "paths.json"
        if not file.exists():
            return {}
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise JobError(
                f"{file.parent.name}/{file.name} is broken ({str(error)[:300]}): "
                "remove it to measure paths anew."
            ) from None
        values = known.values() if isinstance(known, dict) else [None]
        if not all(_are_errors(errors) for errors in values):
            raise JobError(f"{file.parent.name}/{file.name} holds no errors of paths: remove it to measure them anew.")
        return known

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

    def _file(self, sample: Sample, conds: str) -> Path:
        return self.path / f"sample-{sample_id(sample, conds)}.safetensors"

    def _read(self, path: Path) -> Measured:
        try:
            if path.is_symlink():
                raise GraphError("it is a link")
            metadata, tensors = read_tensors(path, MAX_BYTES)
            about = json.loads(metadata.get(_KEY, "null"))
            final, derivatives, replayed = (tensors[name] for name in _TENSORS)
            if about["schema"] != SCHEMA:
                raise GraphError(f"its schema is {about['schema']}, this version of ComfyUI-LeMiCa reads {SCHEMA}")
            if (final.dtype, derivatives.dtype, replayed.dtype) != (np.float32, np.float32, np.float64):
                raise GraphError(f"it holds {final.dtype}, {derivatives.dtype} and {replayed.dtype}")
            if replayed.shape != (self.edges,) or final.ndim != 1 or derivatives.ndim != 3:
                raise GraphError(f"it holds {shown([final.shape, derivatives.shape, replayed.shape])}")
            if (np.isinf(replayed) | (replayed < 0)).any():
                raise GraphError("an error is finite and 0 or more, or NaN when not measured")
            if not len(final) or not np.isfinite(final).all() or not np.isfinite(derivatives).all():
                raise GraphError("a latent of it is not finite")
            if not isinstance(about["conds"], str):
                raise GraphError("the name of its conds is none")
            sample = Sample(about["prompt"], about["seed"])
            return Measured(sample, about["conds"], final.copy(), derivatives.copy(), replayed.copy())
        except (GraphError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise JobError(
                f"{path.parent.name}/{path.name} is no sample of this calibration ({str(error)[:300]}): move it away "
                "to measure that sample again."
            ) from None


def sample_id(sample: Sample, conds: str) -> str:
    """A short name for a sample, the same in every run."""
    text = f"{sample.seed}\n{conds}\n{sample.prompt}"
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _walk(key: str, sample: Sample, conds: str) -> str:
    return f"walk-{hashlib.sha256(key.encode()).hexdigest()[:16]}-{sample_id(sample, conds)}"


def folder_name(name: str) -> str:
    """The folder or file name for a calibration's name: never a path, and different for different names."""
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:60]
    return f"{slug or 'calibration'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _are_errors(errors: object) -> bool:
    return isinstance(errors, dict) and all(map(_is_error, errors.values()))


def _is_error(value: object) -> bool:
    return isinstance(value, float) and 0 <= value < math.inf


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
