"""The command workflows/run learn."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from learning_pictures import read_description

ROOT = Path(__file__).resolve().parent.parent
STEPS, PICTURES = 12, 3


@pytest.fixture(scope="module")
def prompt(server) -> dict:
    from lemica.workflows.command import DEMO
    from lemica.workflows.convert import to_prompt

    return to_prompt(json.loads(DEMO.read_text(encoding="utf-8")), server.object_info())


@pytest.fixture(scope="module")
def files(server, prompt) -> Iterator[list[Path]]:
    from lemica.workflows import learn

    shutil.rmtree(server.user / "lemica", ignore_errors=True)
    yield learn.run(server.process, prompt, server.object_info(), STEPS, PICTURES)
    shutil.rmtree(server.user / "lemica", ignore_errors=True)


def test_pictures_are_made_and_then_what_they_taught_is_compared(server, files):
    clips = [file for file in files if "learned_from" in file.name]
    assert len(clips) == PICTURES and all(file.stat().st_size for file in clips)
    assert len(list((server.user / "lemica" / "learned").glob("*.safetensors"))) == 3
    table = next(file for file in files if file.name == "table.json")
    rows = [row for row in json.loads(table.read_text(encoding="utf-8")) if row["run"] != "full"]
    assert {row["origin"] for row in rows} == {"learned"} and {row["steps"] for row in rows} == {STEPS}


def test_plain_runs_have_as_many_steps_as_the_presets_compute(prompt):
    from lemica.workflows import demo
    from lemica.workflows.learn import with_steps

    changed = with_steps(prompt, 24)
    steps = {key: changed[branch.sampler]["inputs"]["steps"] for key, branch in demo.branches(changed).items()}
    assert steps["full"] == steps["medium"] == 24
    assert [steps[f"{preset}_fewer_steps"] for preset in ("slow", "medium", "fast", "ultra")] == [14, 10, 8, 6]


@pytest.mark.parametrize("arguments, says", [(["--steps", "7"], "--steps is 7"), (["--pictures", "0"], "--pictures is 0")])
def test_mistakes_are_told_before_anything_starts(arguments, says):
    done = subprocess.run(
        [sys.executable, ROOT / "workflows" / "run", "learn", *arguments], capture_output=True, text=True, timeout=60,
        env=os.environ | {"COMFYUI_PATH": "/nowhere"},
    )
    assert done.returncode == 1 and says in done.stderr


def kept(server) -> list[dict]:
    """What the records of the server's user say."""
    return [
        json.loads(read_description(file.read_bytes())) for file in (server.user / "lemica" / "learned").glob("*.safetensors")
    ]


def test_refined_pictures_are_made_for_every_preset(server, prompt):
    from lemica.workflows import demo, learn

    try:
        files = learn.run(server.process, prompt, server.object_info(), STEPS, PICTURES, refine=True)
        presets = [key for key, branch in demo.branches(prompt).items() if branch.lemica is not None]
        assert len([file for file in files if "learned_from" in file.name]) == PICTURES + len(presets) - 1
        table = next(file for file in files if file.name == "table.json")
        rows = [row for row in json.loads(table.read_text(encoding="utf-8")) if row["run"] in presets]
        refined = {len(path["computed"]) for record in kept(server) for path in record.get("paths", [])}
        assert refined == {row["computed"] for row in rows}
        assert {row["origin"] for row in rows} == {"learned"}
    finally:
        shutil.rmtree(server.user / "lemica", ignore_errors=True)
