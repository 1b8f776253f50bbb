"""Where a calibration may be measured: what the owner of the server has listed, and nothing that a workflow names."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ...calibration.job_error import JobError

FILE = "lemica/ray.txt"
"""In ComfyUI's user directory, an address a line: local, auto, or HOST:PORT."""


def addresses() -> list[str]:
    """The addresses that the owner of the server has listed; none without the file."""
    try:
        text = (Path(folder_paths.get_user_directory()) / FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line))


def check_address(address: str) -> None:
    """JobError for an address that the owner has not listed."""
    listed = addresses()
    if address not in listed:
        raise JobError(
            f"ray is {address!r}, and this server offers {', '.join(listed) or 'no address'}: its owner lists addresses in "
            f"{FILE} in ComfyUI's user directory, one a line."
        )


def ray_inputs() -> list[io.Input]:
    """What the calibrate nodes offer where this part is; they come last."""
    return [
        io.Combo.Input(
            "ray", options=["", *addresses()], default="", optional=True, advanced=True,
            tooltip="Measure on Ray, at an address that the owner of the server lists in lemica/ray.txt: local starts it on "
            "this machine, auto or an address joins a cluster. Empty measures in this process.",
        ),
        io.Int.Input(
            "workers", default=0, min=0, max=4096, optional=True, advanced=True,
            tooltip="How many workers measure on Ray; 0 takes one for every GPU. Without a GPU, one CPU core each.",
        ),
    ]
