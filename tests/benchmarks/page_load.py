"""Requests and bytes of the pack when ComfyUI's page opens: `tests/run --script tests/benchmarks/page_load.py`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
pack = types.ModuleType("lemica")
pack.__path__ = [str(ROOT)]
sys.modules["lemica"] = pack
sys.path.insert(0, str(ROOT / "tests"))

from chromium import drive  # noqa: E402
from lemica.workflows.environment import ComfyUI  # noqa: E402
from lemica.workflows.server import Server  # noqa: E402


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    comfy = ComfyUI(Path(os.environ["LEMICA_COMFYUI"]), Path(os.environ["LEMICA_COMFYUI_PYTHON"]), owned=True)
    files = [file for file in (ROOT / "web").iterdir() if file.is_file()]
    print(f"web/ without the help pages: {len(files)} files, {sum(file.stat().st_size for file in files)} bytes")
    with tempfile.TemporaryDirectory() as folder, Server(comfy, Path(folder) / "output", user=Path(folder) / "user") as server:
        found = drive("page_load.mjs", server.url)
    for name, what in (("ours", "of the pack"), ("all", "of the whole page")):
        print(f"{what}: {found[name]['requests']} requests, {found[name]['bytes']} bytes")


if __name__ == "__main__":
    main()
