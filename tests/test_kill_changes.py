"""Processes that are killed while they save, rename, merge, import or delete; what they leave is removed later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_a_change_that_is_killed_is_made_or_not_and_nobody_reads_half_of_it():
    script = Path(__file__).parent / "kill_changes.py"
    ended = subprocess.run([sys.executable, script, "--kills", "12"], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr[-2000:]
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["wrong"] == [] and said["left_after_cleaning"] == 0
    assert said["kills"] == 12 and said["changes"] > 0 and said["reads"] > 12


def test_what_a_killed_process_left_is_removed_when_it_is_old(tmp_path):
    from lemica.schedules.atomic import LEFT_SECONDS, PREFIX, SUFFIX, remove_left, write_atomically

    old, new, other = (tmp_path / f"{PREFIX}{name}{SUFFIX}" for name in ("old", "new", "other"))
    for path in (old, new):
        path.write_bytes(b"half")
    other.symlink_to(tmp_path / "kept")
    (tmp_path / "kept").write_bytes(b"whole")
    os.utime(old, (old.stat().st_mtime - LEFT_SECONDS - 1,) * 2)
    os.utime(tmp_path / "kept", (0, 0))
    write_atomically(tmp_path / "file", b"content")
    remove_left(tmp_path)
    assert not old.exists() and new.exists() and (tmp_path / "kept").read_bytes() == b"whole"
    assert (tmp_path / "file").read_bytes() == b"content"


@pytest.mark.parametrize("prefix", [".import-", ".deleted-"])
def test_an_import_that_was_killed_is_removed_by_a_later_one(tmp_path, prefix):
    """So is what was being deleted; it is not listed meanwhile."""
    from lemica.calibration.store import DELETED, IMPORT, Calibrations
    from lemica.schedules.atomic import LEFT_SECONDS
    from route_requests import make_graph

    assert prefix in (IMPORT, DELETED)
    left = tmp_path / f"{prefix}x"
    (left / "half-12345678").mkdir(parents=True)
    (left / "half-12345678" / "job.json").write_text("{}")
    (left / "imported.safetensors").write_bytes(b"half")
    Calibrations(tmp_path).save("first", make_graph())
    assert left.exists(), "it may still be read"
    assert Calibrations(tmp_path).unfinished() == ([], [])
    os.utime(left, (left.stat().st_mtime - LEFT_SECONDS - 1,) * 2)
    Calibrations(tmp_path).save("second", make_graph())
    assert not left.exists() and Calibrations(tmp_path).names() == ["second", "first"]
