"""The commands: environment, conversion, comparison, and the demo on the real server."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from lemica.workflows import environment
from lemica.workflows.command import _workflow
from lemica.workflows.convert import to_prompt
from lemica.workflows.failure import Failure

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "example_workflows"
FILES = sorted(EXAMPLES.glob("*.json"))

BUDGETS = {"slow": 18, "medium": 13, "fast": 10, "ultra": 8}
STEPS = 30
MEDIUM_CALLS = 0.65
"""The medium preset makes fewer model calls than this part of the full run's."""
MEDIUM_GAIN = 3.0
"""The medium preset's PSNR is at least this much over plain sampling with as many steps, in dB."""

OBJECT_INFO = {
    "Load": {
        "input": {"required": {"file": [["a.safetensors", "b.safetensors"]]}},
        "input_order": {"required": ["file"]},
    },
    "Sample": {
        "input": {
            "required": {
                "model": ["MODEL"],
                "seed": ["INT", {"default": 0}],
                "steps": ["INT", {"default": 20}],
                "sampler": ["COMBO", {"options": ["euler", "heun"]}],
            },
            "optional": {"mask": ["MASK"], "note": ["STRING", {"default": ""}]},
        },
        "input_order": {"required": ["model", "seed", "steps", "sampler"], "optional": ["mask", "note"]},
    },
    "Patch": {"input": {"required": {"model": ["MODEL"]}}},
    "Resize": {
        "input": {
            "required": {
                "how": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {
                        "options": [
                            {"key": "by", "inputs": {"required": {"factor": ["FLOAT", {"default": 1.0}]}}},
                            {"key": "to", "inputs": {"required": {"w": ["INT", {}], "h": ["INT", {}]}}},
                        ]
                    },
                ],
                "after": ["BOOLEAN", {}],
            }
        }
    },
}


def node(number, kind, values=(), inputs=(), mode=0, **more):
    entries = [{"name": name, "type": kind, "link": link} for name, kind, link in inputs]
    return {"id": number, "type": kind, "mode": mode, "inputs": entries, "widgets_values": list(values), **more}


def workflow(*nodes, links):
    return {"nodes": list(nodes), "links": [list(link) for link in links], "version": 0.4}


def model(link):
    return [("model", "MODEL", link)]


def test_widgets_are_read_by_position_past_the_control_after_a_seed():
    graph = workflow(
        node(1, "Load", ["b.safetensors"]),
        node(2, "Sample", [7, "randomize", 30, "heun", "hello"], model(1), title="Mine"),
        node(3, "MarkdownNote", ["text"]),
        links=[(1, 1, 0, 2, 0, "MODEL")],
    )
    prompt = to_prompt(graph, OBJECT_INFO)
    assert set(prompt) == {"1", "2"}
    assert prompt["1"]["inputs"] == {"file": "b.safetensors"}
    assert prompt["2"]["inputs"] == {"model": ["1", 0], "seed": 7, "steps": 30, "sampler": "heun", "note": "hello"}
    assert prompt["2"]["_meta"] == {"title": "Mine"}


def test_widgets_are_read_by_name_and_missing_ones_have_their_default():
    graph = workflow(node(2, "Sample", inputs=model(None)) | {"widgets_values": {"steps": 5}}, links=[])
    inputs = to_prompt(graph, OBJECT_INFO)["2"]["inputs"]
    assert inputs == {"seed": 0, "steps": 5, "sampler": "euler", "note": ""}


def test_a_link_replaces_the_value_of_a_widget():
    steps = {"name": "steps", "type": "INT", "link": 2, "widget": {"name": "steps"}}
    sample = node(2, "Sample", [7, "fixed", 30, "heun"], model(None))
    sample["inputs"].append(steps)
    graph = workflow(node(1, "PrimitiveNode", [12, "fixed"]), sample, links=[(2, 1, 0, 2, 1, "INT")])
    assert to_prompt(graph, OBJECT_INFO)["2"]["inputs"]["steps"] == 12


@pytest.mark.parametrize("kind, mode", [("Reroute", 0), ("Patch", 4)])
def test_reroutes_and_bypassed_nodes_are_passed(kind, mode):
    graph = workflow(
        node(1, "Load", ["a.safetensors"]),
        node(2, kind, inputs=model(1), mode=mode),
        node(3, "Sample", [1, "fixed", 2, "euler"], model(2)),
        links=[(1, 1, 0, 2, 0, "MODEL"), (2, 2, 0, 3, 0, "MODEL")],
    )
    prompt = to_prompt(graph, OBJECT_INFO)
    assert set(prompt) == {"1", "3"}
    assert prompt["3"]["inputs"]["model"] == ["1", 0]


def test_a_muted_node_takes_its_links_with_it():
    graph = workflow(
        node(1, "Load", ["a.safetensors"], mode=2), node(3, "Patch", inputs=model(1)), links=[(1, 1, 0, 3, 0, "MODEL")]
    )
    assert to_prompt(graph, OBJECT_INFO) == {"3": {"class_type": "Patch", "inputs": {}, "_meta": {"title": "Patch"}}}


def test_the_widgets_of_a_dynamic_combo_follow_its_choice():
    graph = workflow(node(1, "Resize", ["to", 640, 480, True]), links=[])
    assert to_prompt(graph, OBJECT_INFO)["1"]["inputs"] == {"how": "to", "how.w": 640, "how.h": 480, "after": True}


def test_subgraphs_are_unfolded():
    def edge(number, origin, slot, target, target_slot):
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        return dict(zip(names, (number, origin, slot, target, target_slot, "MODEL"), strict=True))

    inside = {
        "id": "uuid", "name": "Inside", "inputNode": {"id": -10}, "outputNode": {"id": -20},
        "inputs": [{"name": "model"}], "outputs": [{"name": "out"}],
        "nodes": [node(5, "Patch", inputs=model(1))],
        "links": [edge(1, -10, 0, 5, 0), edge(2, 5, 0, -20, 0)],
    }
    graph = workflow(
        node(1, "Load", ["a.safetensors"]), node(2, "uuid", inputs=model(1)), node(3, "Patch", inputs=model(2)),
        links=[(1, 1, 0, 2, 0, "MODEL"), (2, 2, 0, 3, 0, "MODEL")],
    ) | {"definitions": {"subgraphs": [inside]}}
    prompt = to_prompt(graph, OBJECT_INFO)
    assert prompt["2:5"]["inputs"] == {"model": ["1", 0]}
    assert prompt["3"]["inputs"] == {"model": ["2:5", 0]}


def test_an_api_prompt_stays_as_it_is():
    prompt = {"1": {"class_type": "Patch", "inputs": {}}}
    assert to_prompt(prompt, OBJECT_INFO) is prompt


@pytest.mark.parametrize(
    "graph, says",
    [
        ({}, "holds no workflow"),
        ([1], "holds no workflow"),
        ({"a": 1}, "neither"),
        ({"1": {"class_type": "Nowhere", "inputs": {}}}, "no node type Nowhere"),
        (workflow(node(1, "Nowhere"), links=[]), "no node type Nowhere"),
    ],
)
def test_what_is_no_workflow_is_told(graph, says):
    with pytest.raises(Failure, match=says):
        to_prompt(graph, OBJECT_INFO)


def test_an_interrupted_build_is_done_again(tmp_path):
    folder, python = tmp_path / "built", tmp_path / "built" / "python"
    with pytest.raises(KeyboardInterrupt), environment._building(folder, python):
        (folder / "half").touch()
        raise KeyboardInterrupt
    with environment._building(folder, python) as log:
        assert log is not None and not (folder / "half").exists()
        python.touch()
    with environment._building(folder, python) as log:
        assert log is None


def test_two_builds_wait_for_each_other(tmp_path):
    order = []

    def other():
        with environment._locked(tmp_path / "lock"):
            order.append("other")

    with environment._locked(tmp_path / "lock"):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(timeout=10)
    assert order == ["first", "other"]


def test_a_wrong_comfyui_path_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(Failure, match="no ComfyUI folder"):
        environment.find()


def test_a_second_start_finds_everything_built(comfyui):
    begin = time.monotonic()
    environment.python_with(environment.find(), environment.TESTS)
    assert time.monotonic() - begin < 10


def command(*arguments, **variables):
    return subprocess.run(
        [sys.executable, ROOT / "workflows" / "run", *arguments],
        capture_output=True, text=True, env=os.environ | variables, timeout=300,
    )


def test_help_needs_no_environment():
    done = command("--help", COMFYUI_PATH="/nowhere")
    assert done.returncode == 0 and "COMFYUI_PATH" in done.stdout


NAMES = ["demo_video", "wan2.1_t2v", "demo_video.json", "workflows/demo_video.json", "./workflows/wan2.1_t2v.json"]


@pytest.mark.parametrize("text", [*NAMES, str(ROOT / "workflows" / "demo_video.json"), "example_workflows/demo_video.json"])
def test_an_example_is_found_by_its_name_and_where_it_once_was(monkeypatch, text):
    monkeypatch.chdir(ROOT)
    stem = "wan2.1_t2v" if "wan" in text else "demo_video"
    assert _workflow(text).samefile(EXAMPLES / f"{stem}.json")


def test_a_file_that_is_there_comes_before_an_example_of_its_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert _workflow("demo_video.json").samefile(EXAMPLES / "demo_video.json")
    (tmp_path / "demo_video.json").write_text("{}")
    assert _workflow("demo_video.json").samefile(tmp_path / "demo_video.json")
    assert _workflow("elsewhere/demo_video.json") == Path("elsewhere/demo_video.json")


@pytest.mark.parametrize("content, says", [(None, "cannot be read"), ("{", "no JSON file"), ("\x00\xff", "no JSON file")])
def test_a_file_that_is_no_workflow_is_told_before_anything_starts(tmp_path, content, says):
    path = tmp_path / "some.json"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    done = command(str(path), COMFYUI_PATH="/nowhere")
    assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr


def test_frames_that_are_alike_are_counted_and_compared(tmp_path):
    np = pytest.importorskip("numpy")
    from lemica.workflows import compare
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    clip = noise[[0, 0, 1, 1, 1, 2]]
    images = [Image.fromarray(frame) for frame in clip]
    images[0].save(tmp_path / "clip.webp", save_all=True, append_images=images[1:], duration=125, lossless=True)
    assert np.array_equal(compare.read_frames(tmp_path / "clip.webp", 8), clip)
    assert compare.measure(clip, clip) == compare.Quality(math.inf, 1.0)
    near = compare.measure(np.where(clip < 255, clip + 1, clip).astype(np.uint8), clip)
    assert near.psnr == pytest.approx(48.1, abs=0.2) and 0.99 < near.ssim < 1
    with pytest.raises(Failure, match="differ in size"):
        compare.measure(clip[1:], clip)


def test_the_demo_workflow_asks_for_the_presets_and_their_budgets():
    graph = json.loads((EXAMPLES / "demo_video.json").read_text(encoding="utf-8"))
    titles = [group["title"] for group in graph["groups"]]
    for preset, budget in BUDGETS.items():
        assert f"LeMiCa {preset}: {budget} of {STEPS} steps" in titles


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_workflow_converts_to_what_the_server_knows(server, path):
    prompt = to_prompt(json.loads(path.read_text(encoding="utf-8")), server.object_info())
    assert prompt


def test_the_servers_refusal_is_told(server):
    with pytest.raises(Failure, match=r"node 1 \(VAEDecode\): Required input is missing"):
        server.queue({
            "1": {"class_type": "VAEDecode", "inputs": {}},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        })


def test_a_node_that_fails_is_told(server):
    picture = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}}
    crop = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "../../outside"}}
    with pytest.raises(Failure, match=r"SaveImage \(node 2\) failed: "):
        server.queue({"1": picture, "2": crop})


@pytest.fixture(scope="module")
def demo(server):
    """The demo's rows for one prompt, as it wrote them, and the files."""
    from lemica.workflows import demo

    prompt = to_prompt(json.loads((EXAMPLES / "demo_video.json").read_text(encoding="utf-8")), server.object_info())
    names = demo.demo_prompts(prompt, server.object_info(), [])[:1]
    files = demo.run(server.process, prompt, names)
    [data] = [path for path in files if path.suffix == ".json"]
    return {row["run"]: row for row in json.loads(data.read_text(encoding="utf-8"))}, files


def test_the_demo_computes_as_many_steps_as_its_budgets(demo):
    rows, _ = demo
    assert list(rows) == ["full", *BUDGETS]
    assert (rows["full"]["computed"], rows["full"]["steps"]) == (STEPS, STEPS)
    for preset, budget in BUDGETS.items():
        assert (rows[preset]["computed"], rows[preset]["steps"]) == (budget, STEPS)
        assert rows[preset]["calls"] * STEPS == rows[preset]["full_calls"] * budget


def test_the_medium_preset_makes_fewer_calls_and_keeps_the_picture(demo):
    medium = demo[0]["medium"]
    assert medium["calls"] < MEDIUM_CALLS * medium["full_calls"]
    assert medium["quality"]["psnr"] >= medium["fewer_steps"]["psnr"] + MEDIUM_GAIN


def test_the_demo_writes_a_table_and_a_moving_picture(demo):
    from PIL import Image

    files = {path.name: path for path in demo[1]}
    assert set(files) == {"table.md", "table.json", "side_by_side.webp", "side_by_side.gif"}
    for name in ("side_by_side.webp", "side_by_side.gif"):
        with Image.open(files[name]) as image:
            assert image.n_frames > 1 and image.width > image.height / 2
    table = files["table.md"].read_text(encoding="utf-8")
    assert all(f"| {run} |" in table for run in demo[0])
