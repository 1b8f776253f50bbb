"""The blueprint that the node library offers: as ComfyUI hands it out, as the page reads it, and what it computes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from chromium import drive
from lemica.workflows.convert import to_prompt

ROOT = Path(__file__).resolve().parent.parent
NAME = "KSampler with LeMiCa"
FILE = ROOT / "subgraphs" / f"{NAME}.json"
SHOWN = ["preset", "budget", "seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"]


def read() -> tuple[dict[str, Any], dict[str, Any]]:
    """The whole file, and the subgraph in it."""
    graph = json.loads(FILE.read_text(encoding="utf-8"))
    [inside] = graph["definitions"]["subgraphs"]
    return graph, inside


def test_the_blueprint_is_sound():
    graph, inside = read()
    [host] = graph["nodes"]
    assert host["type"] == inside["id"] and inside["name"] == NAME == host["title"] and inside["description"]
    assert [entry["name"] for entry in host["inputs"]] == [entry["name"] for entry in inside["inputs"]]
    nodes = {node["id"]: node for node in inside["nodes"]}
    for link in inside["links"]:
        outputs = inside["inputs"] if link["origin_id"] < 0 else nodes[link["origin_id"]]["outputs"]
        inputs = inside["outputs"] if link["target_id"] < 0 else nodes[link["target_id"]]["inputs"]
        output, entry = outputs[link["origin_slot"]], inputs[link["target_slot"]]
        assert output["type"] == entry["type"] == link["type"]
        assert link["id"] in output.get("linkIds", output.get("links"))
        assert link["id"] in entry.get("linkIds", [entry.get("link")])
    packs = {node["type"]: node["properties"]["cnr_id"] for node in nodes.values()}
    assert packs == {"LeMiCa": "lemica", "KSampler": "comfy-core"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", nodes[1]["properties"]["ver"])


def test_the_server_hands_it_out(server):
    blueprints = server.process.get("/global_subgraphs")
    [number] = [number for number, entry in blueprints.items() if "LeMiCa" in entry["info"]["node_pack"]]
    entry = blueprints[number]
    assert (entry["name"], entry["source"]) == (NAME, "custom_node")
    assert json.loads(server.process.get(f"/global_subgraphs/{number}")["data"]) == read()[0]


def test_it_samples_with_fewer_model_calls(server):
    graph, inside = read()
    [host] = graph["nodes"]
    kinds = ("model", "positive", "negative", "latent_image")
    demo = {"id": 7, "type": "LeMiCaDemoModel", "mode": 0, "inputs": [], "widgets_values": []}
    links = [[place + 1, 7, place, host["id"], place, host["inputs"][place]["type"]] for place in range(len(kinds))]
    for place, name in enumerate(kinds):
        assert host["inputs"][place]["name"] == name
        host["inputs"][place]["link"] = place + 1
    decode = {
        "id": 8, "type": "VAEDecode", "mode": 0, "widgets_values": [],
        "inputs": [{"name": "samples", "type": "LATENT", "link": 5}, {"name": "vae", "type": "VAE", "link": 6}],
    }
    preview = {"id": 9, "type": "PreviewImage", "mode": 0, "inputs": [{"name": "images", "type": "IMAGE", "link": 7}]}
    links += [[5, host["id"], 0, 8, 0, "LATENT"], [6, 7, 4, 8, 1, "VAE"], [7, 8, 0, 9, 0, "IMAGE"]]
    graph |= {"nodes": [demo, host, decode, preview], "links": links}
    [event] = server.queue(to_prompt(graph, server.object_info())).lemica
    assert (len(event["computed"]), event["steps"]) == (13, 30)


@pytest.fixture(scope="module")
def page(server) -> dict[str, Any]:
    """What ComfyUI's page made of the blueprint."""
    values = {"type": read()[1]["id"], "set": {"preset": "fast", "steps": 12}}
    return drive("prompt.mjs", server.url, file=FILE, values=values)


def test_the_page_lists_it_and_shows_its_values(page):
    assert page["problems"] == [] and page["dialogs"] == []
    assert NAME in page["blueprints"]
    assert [name for name in page["widgets"] if name != "control_after_generate"] == SHOWN


def test_values_that_are_set_outside_are_those_that_are_queued(page):
    by_kind = {node["class_type"]: (number, node["inputs"]) for number, node in page["prompt"].items()}
    assert set(by_kind) == {"LeMiCa", "KSampler"}
    number, patched = by_kind["LeMiCa"]
    assert (patched["preset"], patched["budget"], patched["schedule"]) == ("fast", 15, "auto")
    assert by_kind["KSampler"][1]["model"] == [number, 0] and by_kind["KSampler"][1]["steps"] == 12
