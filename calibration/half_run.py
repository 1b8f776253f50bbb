"""What is on the disk of calibrations that are not finished."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from .job_folder import MAX_BYTES
from .segments import GraphError
from .tensor_file import read_tensors


def half_run(root: Path, finished: Collection[str]) -> tuple[list[dict[str, object]], list[str]]:
    """The folders of jobs in ``root``, but those named in ``finished``, with how many samples and replays they hold.

    Then what is wrong with files of samples, which count as samples without replays, a line each.
    """
    jobs: list[dict[str, object]] = []
    problems: list[str] = []
    for folder in sorted({file.parent for file in root.glob("*/job.json")}):
        if folder.name not in finished and not folder.is_symlink():
            counts = []
            for file in sorted(folder.glob("sample-*.safetensors")):
                try:
                    counts.append(_replays(file))
                except FileNotFoundError:
                    continue
                except (GraphError, OSError) as error:
                    counts.append(0)
                    reason = f"it cannot be read, {error.strerror}." if isinstance(error, OSError) else str(error)
                    problems.append(f"{folder.name}/{file.name}: {reason}")
            jobs.append({"name": folder.name, "samples": len(counts), "replays": sum(counts)})
    return jobs, problems


def _replays(file: Path) -> int:
    """How many replays a sample's file holds; GraphError or OSError where it cannot be read."""
    if file.is_symlink():
        raise GraphError("it is a link: copy the file here instead.")
    replayed = read_tensors(file, MAX_BYTES)[1].get("replayed")
    if replayed is None or replayed.dtype != np.float64:
        raise GraphError("it holds no replays of a sample.")
    return int(np.count_nonzero(~np.isnan(replayed)))
