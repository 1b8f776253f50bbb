"""What is on the disk of calibrations that are not finished."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from .job_folder import MAX_BYTES


def half_run(root: Path, finished: Collection[str]) -> list[dict[str, object]]:
    """The folders of jobs in ``root``, but those named in ``finished``, with how many samples and replays they hold."""
    jobs = []
    for folder in sorted({file.parent for file in root.glob("*/job.json")}):
        if folder.name not in finished and not folder.is_symlink():
            counts = [_replays(file) for file in folder.glob("sample-*.safetensors")]
            jobs.append({"name": folder.name, "samples": len(counts), "replays": sum(counts)})
    return jobs


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
