"""What is on the disk of calibrations that are not finished."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from ..schedules import ScheduleError
from ..schedules.schedule import check_name
from ..schedules.store import load_json
from .job_folder import MAX_BYTES, folder_name

DIGEST = re.compile("-[0-9a-f]{8}$")
"""What a folder's name has besides the words of the calibration's."""


def half_run(root: Path, finished: Collection[str]) -> list[dict[str, object]]:
    """The folders of jobs in ``root``, but those named in ``finished``, with how many samples and replays they hold.

    ``name``: what the user calls the calibration, where the folder tells, or else what its own name keeps of that.
    """
    jobs = []
    for folder in sorted({file.parent for file in root.glob("*/job.json")}):
        if folder.name not in finished and not folder.is_symlink():
            counts = [_replays(file) for file in folder.glob("sample-*.safetensors")]
            about = {"folder": folder.name, "name": _name_of(folder), "samples": len(counts), "replays": sum(counts)}
            jobs.append(about)
    return jobs


def _name_of(folder: Path) -> str:
    try:
        known = load_json(folder / "job.json")
        name = known.get("name") if isinstance(known, dict) else None
        check_name(name, "name")
    except (ScheduleError, OSError):
        name = ""
    # A calibration that was renamed has taken its folder along.
    return name if folder_name(name) == folder.name else DIGEST.sub("", folder.name)


def _replays(file: Path) -> int:
    """How many replays a sample's file holds, 0 where it cannot be read."""
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > MAX_BYTES:
            return 0
        with safe_open(file, framework="numpy") as tensors:
            replayed = tensors.get_tensor("replayed")
    except (SafetensorError, OSError, TypeError):  # TypeError for types that numpy has not
        return 0
    return int(np.count_nonzero(~np.isnan(replayed))) if replayed.dtype.kind == "f" else 0
