#!/usr/bin/env python3
"""Makes the table of CONTRIBUTING.md: what was run on which Python, numpy, torch and ComfyUI. Standard library only.

tests/versions.py                      the pure parts on every Python from 3.10 on that is found
tests/versions.py PYTHON ...           on these
tests/versions.py --engine PYTHON ...  the engine's tests instead, on the ComfyUI of tests/run: COMFYUI_PATH and
                                       COMFYUI_PYTHON, or the packaged one, which is built for each Python (6 GB)
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("__init__.py", "schedules", "cache", "calibration", "nodes", "workflows", "tests")
NEEDED = ("pytest>=8", "hypothesis>=6", "numpy", "networkx", "scipy", "pillow", "safetensors")
PURE = (
    "tests/test_schedules_*.py", *(
        f"tests/test_calibration_{part}.py"
        for part in ("solver", "graph", "regrid", "estimate", "outcome", "shares", "picture")
    ),
)
WITHOUT_COMFYUI = ("-k", "not of_comfyui")
ENGINE = ("tests/test_cache_*.py", "tests/test_graphs_sampling.py", "tests/test_host.py", "tests/test_video_with_audio.py")
HEADER = "Python | numpy | torch | ComfyUI | compiles | pure parts | engine"
QUIET = ("--tb=no", "-p", "no:cacheprovider")


class Outcome(NamedTuple):
    """What a run of pytest came to, and the versions that its header names."""

    text: str
    versions: dict[str, str]


def main(arguments: Sequence[str]) -> int:
    engine = "--engine" in arguments
    pythons = [word for word in arguments if word != "--engine"] or found()
    print("\n".join(["| " + HEADER + " |", "|" + " --- |" * len(HEADER.split("|"))]), flush=True)
    complete = True
    for python in pythons:
        row = row_of(python, engine)
        print(f"| {' | '.join(row)} |", flush=True)
        complete &= "failed" not in " ".join(row)
    return 0 if complete else 1


def found() -> list[str]:
    """Every Python from 3.10 on that runs under its name."""
    names = [f"python3.{minor}" for minor in range(10, 16)]
    return [name for name in names if shutil.which(name) and run([name, "-c", ""]).returncode == 0]


def row_of(python: str, engine: bool) -> list[str]:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPYCACHEPREFIX": str(Path(folder, "compiled"))}
        compiles = run([python, "-W", "error", "-m", "compileall", "-q", *PARTS], environment)
        pure = Outcome("not run", {}) if engine else pure_parts(python, Path(folder, "venv"))
    measured = pytest([python, "tests/run"], ENGINE) if engine else Outcome("not run", {})
    versions = pure.versions | measured.versions
    return [
        versions.get("Python", python), *(versions.get(name, "none") for name in ("numpy", "torch", "ComfyUI")),
        "failed" if compiles.returncode else "yes", pure.text, measured.text,
    ]


def pure_parts(python: str, venv: Path) -> Outcome:
    """The tests that need neither torch nor ComfyUI, with the newest of what they need."""
    made = run([python, "-m", "venv", str(venv)])
    own = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if made.returncode or run([str(own), "-m", "pip", "install", "-q", *NEEDED]).returncode:
        return Outcome("failed to install", {})
    return pytest([str(own), "-m", "pytest"], PURE, WITHOUT_COMFYUI)


def pytest(command: Sequence[str], patterns: Sequence[str], more: Sequence[str] = ()) -> Outcome:
    """Run the tests of these files."""
    files = sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))
    output = run([*command, *files, *QUIET, *more]).stdout
    versions = dict(re.findall(r"(\w+) ([\w.+]+)", next(iter(re.findall("^versions: (.*)$", output, re.MULTILINE)), "")))
    summary = re.findall(r"^=+ (.*\d (?:passed|failed|error).*) in [\d.]+s", output, re.MULTILINE)
    counts = re.findall(r"\d+ (?:passed|failed|skipped|errors?)", summary[-1] if summary else "")
    return Outcome(", ".join(counts).replace("error", "failed in set-up") or "failed to run", versions)


def run(command: Sequence[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
