"""What is on the disk of calibrations that are not finished."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np

from ..schedules import ScheduleError
from ..schedules.schedule import check_name
from ..schedules.store import load_json
from .job_folder import MAX_BYTES, REPLAYS, RUN, folder_name
from .segments import GraphError
from .tensor_file import read_tensors

DIGEST = re.compile("-[0-9a-f]{8}$")
"""What a folder's name has besides the words of the calibration's."""


def half_run(root: Path, finished: Collection[str]) -> tuple[list[dict[str, object]], list[str]]:
    """The folders of jobs in ``root``, but those named in ``finished``, with how many samples and replays they hold.

    ``name``: what the user calls the calibration, where the folder tells, or else what its own name keeps of that. Then
    what is wrong with files of replays, a line each.
    """
    jobs: list[dict[str, object]] = []
    problems: list[str] = []
    for folder in sorted({file.parent for file in root.glob("*/job.json")}):
        if folder.name not in finished and not folder.is_symlink():
            samples, replays = sum(1 for _ in folder.glob(f"{RUN}*.safetensors")), 0
            for file in sorted(folder.glob(f"{REPLAYS}*.safetensors")):
                try:
                    replays += _replays(file)
                except FileNotFoundError:
                    continue
                except (GraphError, OSError) as error:
                    reason = f"it cannot be read, {error.strerror}." if isinstance(error, OSError) else str(error)
                    problems.append(f"{folder.name}/{file.name}: {reason}")
            jobs.append({"folder": folder.name, "name": _name_of(folder), "samples": samples, "replays": replays})
    return jobs, problems


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
    """How many replays a sample's file holds; GraphError or OSError where it cannot be read."""
    if file.is_symlink():
        raise GraphError("it is a link: copy the file here instead.")
    replayed = read_tensors(file, MAX_BYTES)[1].get("replayed")
    if replayed is None or replayed.dtype != np.float64:
        raise GraphError("it holds no replays of a sample.")
    return int(np.count_nonzero(~np.isnan(replayed)))
