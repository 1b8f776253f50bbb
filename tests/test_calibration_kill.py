"""A calibration that is killed again and again ends as if nobody had."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs processes that fork")
@pytest.mark.parametrize("mode, most", [("exact", 1), ("short", 2)])
def test_kills_lose_nothing_and_cost_one_replay_or_a_step_of_each_sample_at_most(comfyui, mode, most):
    script = Path(__file__).parent / "kill_calibration.py"
    ended = subprocess.run(
        [sys.executable, script, "--kills", "4", "--mode", mode], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["kills"] == 4 and said["replays"] > 0
    assert said["made_twice"] <= most * said["kills"]
    assert said["lost"] == 0 and said["other_results"] == 0
