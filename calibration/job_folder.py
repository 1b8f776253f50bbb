"""What a calibration has measured so far, on the disk: written after every run, read again to go on."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from safetensors.numpy import save as to_bytes

from ..schedules.atomic import remove_left, write_atomically, write_changed
from ..schedules.schedule import shown
from ..schedules.store import load_json
from .full_run import FullRun, Measured
from .job_error import JobError
from .sample import Sample
from .segments import GraphError
from .tensor_file import read_tensors

SCHEMA = 1
MAX_BYTES = 1 << 30
"""Of one file: mostly a latent for every answer of a full run, or for every computed step."""

RUN, REPLAYS = "run-", "replays-"
"""How the files of a sample's full run and of its replays begin."""

_KEY = "lemica_sample"


@dataclass(slots=True)
class JobFolder:
    """The folder of one calibration: ``job.json``, ``paths.json``, and a safetensors file for a sample's full run and one
    for its replays.

    Args:
        path: the folder; made when first written to.
        identity: what must be the same for measurements to belong together: model, sigmas, rules, longest skip,
            metric, sampler, cfg, size. Plain JSON values. Where ``patches``, the model's, is None here or missing in an
            older folder, it may be anything.
        edges: how many segments the calibration has.
        name: what the user calls the calibration; written down for lists.
    """

    path: Path
    identity: Mapping[str, object]
    edges: int
    name: str = ""
    # Whether what is in the folder may be of other patches than the identity names.
    unknown_patches: bool = field(default=False, init=False)
    _paths: dict[str, dict[str, float]] = field(default_factory=dict, init=False)
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
        with ExitStack() as unlocking:
            unlocking.callback(self.close)
            remove_left(self.path, 0)
            self._check_identity()
            self._read_all()
            unlocking.pop_all()

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
        path = self._file(RUN, sample, conds)
        return self._read(path) if path.exists() else None

    def load_all(self) -> list[Measured]:
        """Every sample that has a full run, by file name."""
        return [self._read(path) for path in sorted(self.path.glob(f"{RUN}*.safetensors"))]

    def save(self, full: FullRun) -> None:
        """Write what is kept of a full run; an OSError leaves what was written before."""
        tensors = {"final": full.final, "derivatives": full.derivatives, "gram": full.gram}
        self._save(RUN, full, tensors, whole=full.whole)

    def save_replayed(self, measured: Measured) -> None:
        """Write what was replayed of a sample, likewise; its full run as well where somebody removed that."""
        if not self._file(RUN, measured.full.sample, measured.full.conds).exists():
            self.save(measured.full)
        self._save(REPLAYS, measured.full, {"replayed": measured.replayed})

    def _save(self, kind: str, full: FullRun, tensors: Mapping[str, np.ndarray], **more: object) -> None:
        about = {"schema": SCHEMA, "prompt": full.sample.prompt, "seed": full.sample.seed, "conds": full.conds, **more}
        content = to_bytes(dict(tensors), {_KEY: json.dumps(about)})
        self._write(self._file(kind, full.sample, full.conds), content)

    def path_error(self, key: str, sample: Sample, conds: str) -> float | None:
        """The measured error of a whole path on a sample, or None."""
        return self._paths.get(key, {}).get(sample_id(sample, conds))

    def save_path_error(self, key: str, sample: Sample, conds: str, error: float) -> None:
        """Keep the measured error of a whole path on a sample."""
        self._paths.setdefault(key, {})[sample_id(sample, conds)] = error
        self._write(self.path / "paths.json", json.dumps(self._paths, sort_keys=True).encode())

    def finish(self, about: Mapping[str, object]) -> None:
        """Note what a job that came to its end has measured, see ``kept``."""
        write_changed(self.path / "finished.json", json.dumps({"schema": SCHEMA, **about}).encode())

    def path_errors(self) -> Mapping[str, Mapping[str, float]]:
        """What is known of whole paths: their errors by the ids of samples.

        Raises:
            JobError: the file is broken.
        """
        return self._paths or self._read_paths()

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
            known = {"schema": SCHEMA, "name": self.name, "identity": identity}
            write_atomically(file, json.dumps(known, indent=2, sort_keys=True).encode())
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
            settings = "; ".join(
                f"{key[:60]}: {_short(theirs.get(key))} there, {_short(identity.get(key))} here" for key in different[:12]
            )
            raise JobError(
                f"There is a calibration {self.path.name!r} already, made with other settings ({settings}): give this one "
                "another name, or the same settings to go on with it."
            )

    def _read_all(self) -> None:
        self._paths = self._read_paths()

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
        if not all(isinstance(errors, dict) and all(map(_is_error, errors.values())) for errors in values):
            raise JobError(f"{file.parent.name}/{file.name} holds no errors of paths: remove it to measure them anew.")
        return known

    def _file(self, kind: str, sample: Sample, conds: str) -> Path:
        return self.path / f"{kind}{sample_id(sample, conds)}.safetensors"

    def _read(self, path: Path) -> Measured:
        about, tensors = self._read_about(path, "final", "derivatives", "gram")
        with _broken(path):
            final, derivatives, gram = tensors.values()
            if (final.dtype, derivatives.dtype, gram.dtype) != (np.float32, np.float32, np.float64):
                raise GraphError(f"it holds {final.dtype}, {derivatives.dtype} and {gram.dtype}")
            shapes = final.shape, derivatives.shape, gram.shape
            if not final.size or [len(shape) for shape in shapes] != [1, 3, 2]:
                raise GraphError(f"it holds {shown(shapes)}")
            if set(gram.shape) != {derivatives.shape[0] * derivatives.shape[1]} or not derivatives.shape[2] >= about["whole"]:
                raise GraphError(f"it holds {shown(shapes)}, which do not go together")
            if not all(np.isfinite(tensor).all() for tensor in (final, derivatives, gram)):
                raise GraphError("a number of it is not finite")
            sample = Sample(about["prompt"], about["seed"])
            full = FullRun(sample, about["conds"], final.copy(), derivatives.copy(), gram.copy(), about["whole"])
        return Measured(full, self._read_replayed(self._file(REPLAYS, full.sample, full.conds)))

    def _read_replayed(self, path: Path) -> np.ndarray:
        if not path.exists():
            return np.full(self.edges, np.nan)
        _, tensors = self._read_about(path, "replayed")
        with _broken(path):
            replayed = tensors["replayed"]
            if replayed.shape != (self.edges,):
                raise GraphError(f"it holds {shown(replayed.shape)} edges, this calibration has {self.edges}")
            if replayed.dtype != np.float64:
                raise GraphError(f"it holds {replayed.dtype}, errors are float64")
            if (np.isinf(replayed) | (replayed < 0)).any():
                raise GraphError("an error is finite and 0 or more, or NaN when not measured")
            return replayed.copy()

    def _read_about(self, path: Path, *names: str) -> tuple[dict, dict[str, np.ndarray]]:
        """What a sample's file says of it, and its tensors; JobError where they are not those of one."""
        with _broken(path):
            if path.is_symlink():
                raise GraphError("it is a link")
            metadata, tensors = read_tensors(path, MAX_BYTES)
            about = json.loads(metadata.get(_KEY, "null"))
            if not isinstance(about, dict):
                raise GraphError("it does not say what it is of")
            if about["schema"] != SCHEMA:
                raise GraphError(f"its schema is {about['schema']}, this version of ComfyUI-LeMiCa reads {SCHEMA}")
            if not isinstance(about["conds"], str):
                raise GraphError("the name of its conds is none")
            return about, {name: tensors[name] for name in names}


@contextmanager
def _broken(path: Path) -> Iterator[None]:
    """Whatever is wrong with a sample's file is a JobError that says so."""
    try:
        yield
    except (GraphError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise JobError(
            f"{path.parent.name}/{path.name} is no sample of this calibration ({str(error)[:300]}): move it away "
            "to measure that sample again."
        ) from None


def sample_id(sample: Sample, conds: str) -> str:
    """A short name for a sample, the same in every run."""
    text = f"{sample.seed}\n{conds}\n{sample.prompt}"
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def folder_name(name: str) -> str:
    """The folder or file name for a calibration's name: never a path, and different for different names."""
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:60]
    return f"{slug or 'calibration'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _is_error(value: object) -> bool:
    return isinstance(value, float) and 0 <= value < math.inf


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
