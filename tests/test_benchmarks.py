"""The benchmarks are not run with the tests; that they are listed, begin and know their options is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent / "benchmarks"
sys.path.insert(0, str(FOLDER))

from run import BENCHMARKS  # noqa: E402

COMMANDS = sorted(
    path.name for path in FOLDER.glob("*.py") if path.name != "run.py" and '__name__ == "__main__"' in path.read_text()
)


def test_every_command_is_listed():
    assert sorted({script for script, _, _ in BENCHMARKS.values()}) == COMMANDS


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_listed_command_knows_the_options_that_it_is_given(name):
    script, options, _ = BENCHMARKS[name]
    told = subprocess.run(
        [sys.executable, FOLDER / script, *options, "--help"], capture_output=True, text=True, check=False, timeout=120
    )
    assert told.returncode == 0 and "usage:" in told.stdout, told.stderr
