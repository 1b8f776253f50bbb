"""The example workflows for calibrating and comparing, their thumbnails, and the calibrate command."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lemica.workflows.convert import to_prompt
from lemica.workflows.failure import Failure
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = ROOT / "example_workflows"
FILES = sorted(WORKFLOWS.glob("*.json"))
CALIBRATIONS = {
    "calibrate": ("LeMiCaCalibrate", "output", [f"positive.positive{place}" for place in range(4)]),
    "calibrate_wan": ("LeMiCaCalibrate", "output", []),
    "calibrate_flux": ("LeMiCaCalibrateCustom", "output", [f"guiders.guider{place}" for place in range(4)]),
}
"""Name of the workflow -> the node that calibrates, rules that its model has, the inputs that grew."""
STEPS = 6


def read(name: str) -> dict[str, Any]:
    return json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))


def prompt_of(server, name: str) -> dict[str, Any]:
    return to_prompt(read(name), server.object_info())


def only(prompt: dict[str, Any], kind: str) -> dict[str, Any]:
    [node] = [node for node in prompt.values() if node["class_type"] == kind]
    return node


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_is_sound(path):
    graph = json.loads(path.read_text(encoding="utf-8"))
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert len(nodes) == len(graph["nodes"]) and graph["last_node_id"] == max(nodes)
    for link, origin, slot, target, target_slot, kind in graph["links"]:
        output, entry = nodes[origin]["outputs"][slot], nodes[target]["inputs"][target_slot]
        assert link in output["links"] and entry["link"] == link
        assert output["type"] == kind and entry["type"] in (kind, "*")
        assert nodes[origin]["order"] < nodes[target]["order"]
    linked = [entry["link"] for node in nodes.values() for entry in node["inputs"] if entry["link"] is not None]
    assert sorted(linked) == sorted(link[0] for link in graph["links"])
    assert all(len(node["widgets_values"][0]) > 200 for node in nodes.values() if node["type"] == "MarkdownNote")
    assert any(node["type"] == "MarkdownNote" for node in nodes.values())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nodes_do_not_overlap_and_stand_in_their_groups(path):
    graph = json.loads(path.read_text(encoding="utf-8"))
    boxes = [(node["pos"][0], node["pos"][1] - 30, *node["size"]) for node in graph["nodes"]]
    for place, (left, top, width, height) in enumerate(boxes):
        for other_left, other_top, other_width, other_height in boxes[:place]:
            beside = left >= other_left + other_width or other_left >= left + width
            assert beside or top >= other_top + other_height + 30 or other_top >= top + height + 30
        for x, y, group_width, group_height in (group["bounding"] for group in graph["groups"]):
            inside = x <= left and left + width <= x + group_width and y <= top and top + height + 30 <= y + group_height
            assert inside or left >= x + group_width or left + width <= x or top >= y + group_height or top + height <= y


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_thumbnail_is_a_small_jpeg(path):
    thumbnail = path.with_suffix(".jpg")
    with Image.open(thumbnail) as image:
        assert image.format == "JPEG" and min(image.size) >= 480 and max(image.size) <= 1024
    assert thumbnail.stat().st_size < 60_000


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_a_calibration_asks_for_values_that_the_nodes_take(server, name):
    kind, rules, grown = CALIBRATIONS[name]
    prompt, info = prompt_of(server, name), server.object_info()
    inputs = only(prompt, kind)["inputs"]
    prefix = "guiders." if "Custom" in kind else "positive."
    assert sorted(key for key in inputs if key.startswith(prefix)) == grown and inputs["rules"] == rules
    for key in grown:
        assert prompt[inputs[key][0]]["class_type"] in ("LeMiCaDemoModel", "BasicGuider")
    assert len({inputs[key][0] for key in grown}) == len(grown)
    for node in prompt.values():
        specs = info[node["class_type"]]["input"]
        known = {**specs.get("required", {}), **specs.get("optional", {})}
        assert set(node["inputs"]) <= {*known, *grown}
        for key, value in node["inputs"].items():
            if key not in known or isinstance(value, list) or key.endswith("_name") or key.startswith("clip_name"):
                continue
            sort, *options = known[key]
            choices = sort if isinstance(sort, list) else options[0].get("options") if sort == "COMBO" else None
            assert choices is None or value in choices, (node["class_type"], key)
            if sort in ("INT", "FLOAT"):
                assert options[0]["min"] <= value <= options[0]["max"]


def test_the_model_files_have_an_address_and_a_folder():
    for name in ("calibrate_wan", "calibrate_flux"):
        files = [file for node in read(name)["nodes"] for file in node["properties"].get("models", [])]
        chosen = [
            value for node in read(name)["nodes"] if node["type"].endswith("Loader")
            for value in node["widgets_values"] if value.endswith(".safetensors")
        ]
        assert sorted(file["name"] for file in files) == sorted(chosen)
        notes = "".join(node["widgets_values"][0] for node in read(name)["nodes"] if node["type"] == "MarkdownNote")
        for file in files:
            assert file["url"].startswith("https://huggingface.co/") and file["url"].endswith(f"/{file['name']}")
            assert file["directory"] in ("diffusion_models", "text_encoders") and file["url"] in notes


def test_compare_runs_and_reports(server):
    from lemica.workflows import demo

    prompt = prompt_of(server, "compare")
    assert set(demo.branches(prompt)) == {"full", "lemica"}
    small = copy.deepcopy(prompt)
    for node in small.values():
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = 4
    report = next(key for key, node in small.items() if node["class_type"] == "LeMiCaReport")
    execution = server.queue(small)
    assert "| PSNR |" in execution.outputs[report]["text"][0] and len(execution.lemica) == 1


@pytest.fixture(scope="module")
def calibrated(server) -> Iterator[tuple[dict[str, Any], list[Path]]]:
    """What the command queued, small, and the files it named; the server's user has none of it afterwards."""
    from lemica.workflows import calibration

    changes = calibration.Changes(steps=STEPS, mode="short", samples=2, name="command")
    prompt = calibration.changed(prompt_of(server, "calibrate"), server.object_info(), changes)
    only(prompt, "LeMiCaCalibrate")["inputs"]["tries"] = 0
    yield prompt, calibration.run(server.process, prompt)
    shutil.rmtree(server.user / "lemica")


def test_the_command_calibrates_and_tells_the_estimate_the_progress_the_table_and_the_picture(server, calibrated, capsys):
    from lemica.calibration.store import Calibrations
    from lemica.workflows import calibration

    prompt, files = calibrated
    graph = Calibrations(server.user / "lemica" / "calibrations").get("command")
    assert (graph.steps, graph.mode, len(graph.samples)) == (STEPS, "short", 2)
    [picture] = files
    with Image.open(picture) as image:
        assert image.format == "PNG" and image.width > 1000
    assert picture.is_relative_to(server.output)

    again = copy.deepcopy(prompt)
    only(again, "LeMiCaCalibrate")["inputs"]["negative_prompt"] = "not read, but not what the server remembers"
    calibration.run(server.process, again)
    told = capsys.readouterr().out
    assert "  command: about " in told and " full runs (" in told
    assert f"command: lemica-demo, {STEPS} steps, short mode, 2 samples" in told
    assert "0 model steps computed" in told
    head = "budget computed steps rules predicted worst measured mean measured worst"
    assert head in [" ".join(line.split()) for line in told.splitlines()]
    assert str(server.user / "lemica" / "calibrations") in told


@pytest.mark.parametrize("count", (1, 4, 6, 24))
def test_samples_are_the_workflows_own_prompts_and_then_others(server, count):
    from lemica.workflows import calibration

    prompt = prompt_of(server, "calibrate")
    changed = calibration.changed(prompt, server.object_info(), calibration.Changes(samples=count))
    inputs, own = (only(one, "LeMiCaCalibrate")["inputs"] for one in (changed, prompt))
    grown = [inputs[f"positive.positive{place}"] for place in range(count)]
    assert f"positive.positive{count}" not in inputs and all(slot == 1 for _, slot in grown)
    shown = [changed[node]["inputs"]["prompt"] for node, _ in grown]
    first = [prompt[own[f"positive.positive{place}"][0]]["inputs"]["prompt"] for place in range(4)]
    assert shown[:4] == first[:count] and len(set(shown)) == count
    assert "positive.positive4" not in own


def test_more_samples_than_prompts_are_refused(server):
    from lemica.workflows import calibration

    with pytest.raises(Failure, match="knows 24 prompts"):
        calibration.changed(prompt_of(server, "calibrate"), server.object_info(), calibration.Changes(samples=25))


def test_progress_of_a_calibration_is_told_with_the_time_that_is_left(monkeypatch):
    from lemica.workflows import client

    lines: list[str] = []
    progress = client._Progress({"7": {"class_type": "LeMiCaCalibrate"}}, lines.append)
    event = {"node": "7", "name": "mine", "state": "estimate", "text": "about 90 model steps"}
    progress.calibration(event)
    running = {"node": "7", "name": "mine", "state": "running", "stage": "sample 1 of 2", "done": 3, "total": 90}
    progress.calibration(running | {"seconds_left": None})
    progress.calibration(running | {"seconds_left": 4.0})
    monkeypatch.setattr(client, "LINE_SECONDS", -1.0)
    progress._next_line = 0.0
    progress.calibration(running | {"seconds_left": 3725.4})
    progress.step("7", 3, 90)
    progress.calibration({"node": "7", "name": "mine", "state": "done"})
    assert lines == [
        "  mine: about 90 model steps", "  sample 1 of 2: step 3 of 90", "  sample 1 of 2: step 3 of 90, 1:02:05 left"
    ]
    assert [client.clock(seconds) for seconds in (0.2, 59.6, 3600)] == ["0:00", "1:00", "1:00:00"]


def test_markdown_is_set_in_columns():
    from lemica.workflows.calibration import in_columns

    markdown = "**Mine**: 2 steps\n\n| a | long head |\n| --- | --- |\n| value | 1 |\n\nSaved.\n"
    assert in_columns(markdown) == "Mine: 2 steps\n\na      long head\nvalue  1\n\nSaved."


def test_the_modes_of_the_command_are_those_of_the_calibration():
    from lemica.calibration import MODES
    from lemica.workflows import command

    assert tuple(MODES) == command.EFFORTS


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "workflows" / "run", "calibrate", *arguments], capture_output=True, text=True, timeout=60,
        env=os.environ | {"COMFYUI_PATH": "/nowhere"},
    )


def test_the_command_has_help_of_its_own():
    done = command("--help")
    assert done.returncode == 0 and "--samples" in done.stdout and "--serve" not in done.stdout


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--steps", "1"], "--steps is 1"),
        (["--samples", "0"], "--samples is 0"),
        (["--mode", "slow"], "invalid choice: 'slow'"),
        (["--workers", "2"], "together with --ray"),
        (["--ray", "--workers", "0"], "--workers is 0"),
        ([], "no ComfyUI folder"),
    ],
)
def test_mistakes_are_told_before_anything_starts(arguments, says):
    done = command(*arguments)
    assert done.returncode != 0 and says in done.stderr and "Traceback" not in done.stderr
