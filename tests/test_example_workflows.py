"""The example workflows against ComfyUI's own node definitions and page; those that generate, also against the library."""

from __future__ import annotations

import copy
import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from chromium import drive
from lemica.schedules import PRESETS, Library, preset_budget
from lemica.schedules.match import Match, ModelIdentity
from lemica.workflows.convert import NOTES, to_prompt
from lemica.workflows.environment import COMFYUI_VERSION

ROOT = Path(__file__).resolve().parent.parent
FILES = {path.stem: path for path in sorted((ROOT / "example_workflows").glob("*.json"))}
LIBRARY = Library(ROOT / "schedules" / "library", ROOT / "no-own-schedules")
GENERATE = {
    "wan2.1_t2v": "wan2.1-t2v-1.3b",
    "wan2.2_two_experts": "wan2.2-14b",
    "flux": "flux.1-dev",
    "qwen_image": "qwen-image",
    "z_image": "z-image",
    "hunyuanvideo_1.5": "hunyuanvideo-1.5",
}
"""Workflow -> the family of its model, of those that sample a large model with LeMiCa."""
FOLDERS = {
    "UNETLoader": "diffusion_models", "CLIPLoader": "text_encoders", "DualCLIPLoader": "text_encoders", "VAELoader": "vae",
}
PATCHES = ("ModelSamplingSD3", "ModelSamplingAuraFlow", "LoraLoaderModelOnly")
every_workflow = pytest.mark.parametrize("name", FILES)


def read(name: str) -> dict[str, Any]:
    return json.loads(FILES[name].read_text(encoding="utf-8"))


def loaders(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [node for node in workflow["nodes"] if node["type"] in FOLDERS]


def notes_of(workflow: dict[str, Any]) -> str:
    return "\n".join(node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote")


def choices_of(spec: list[Any]) -> list[Any] | None:
    """What a combo offers; None for another input."""
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    if isinstance(kind, list):
        return kind
    if kind in ("COMBO", "COMFY_DYNAMICCOMBO_V3"):
        return [choice["key"] if isinstance(choice, dict) else choice for choice in options["options"]]
    return None


def refusal(server, prompt: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps({"prompt": prompt}).encode()
    request = urllib.request.Request(f"{server.url}/prompt", body, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)
    return json.loads(error.value.read())


@every_workflow
def test_the_server_finds_nothing_amiss_but_the_files_that_are_not_here(server, name):
    prompt = to_prompt(read(name), server.object_info())
    spoilt = set()
    for key, node in prompt.items():
        for entry, value in node["inputs"].items():
            file = node["class_type"] in FOLDERS and str(value).endswith(".safetensors")
            # The embedded model is there, and the prompt would run: with a prompt that it does not know it is refused.
            if file or (node["class_type"], entry) == ("LeMiCaDemoModel", "prompt"):
                node["inputs"][entry] = "what no machine has"
                spoilt.add((key, entry, "value_not_in_list"))
    errors = refusal(server, prompt)["node_errors"]
    told = {
        (key, error["extra_info"].get("input_name"), error["type"]) for key, node in errors.items() for error in node["errors"]
    }
    assert spoilt and told == spoilt


def test_templates_lists_every_workflow_once_and_hands_it_out_with_its_picture(server):
    pack = server.object_info()["LeMiCa"]["python_module"].removeprefix("custom_nodes.")
    assert sorted(server.process.get("/workflow_templates")[pack]) == sorted(FILES)
    for name, path in FILES.items():
        for file in (path, path.with_suffix(".jpg")):
            with urllib.request.urlopen(f"{server.url}/api/workflow_templates/{pack}/{file.name}") as answer:
                assert answer.read() == file.read_bytes(), name


@every_workflow
def test_every_node_names_the_pack_that_it_comes_from(name):
    """A missing pack is found by this name in the registry."""
    project, changes = ((ROOT / file).read_text(encoding="utf-8") for file in ("pyproject.toml", "CHANGELOG.md"))
    [pack] = re.findall(r'^name = "(.+)"$', project, re.MULTILINE)
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changes, re.MULTILINE)
    for node in read(name)["nodes"]:
        if node["type"].startswith("LeMiCa"):
            assert node["properties"]["cnr_id"] == pack and node["properties"]["ver"] in versions
        elif node["type"] not in NOTES:
            assert node["properties"]["cnr_id"] == "comfy-core" and node["properties"]["ver"] == COMFYUI_VERSION


@every_workflow
def test_every_widget_has_a_value_that_the_node_allows(server, name):
    info, workflow = server.object_info(), read(name)
    prompt = to_prompt(workflow, info)
    assert {node["type"] for node in workflow["nodes"]} <= {*info, *NOTES}
    files = {file["name"] for node in loaders(workflow) for file in node["properties"].get("models", [])}
    for node in prompt.values():
        specs = info[node["class_type"]]["input"]
        for entry, spec in {**specs.get("required", {}), **specs.get("optional", {})}.items():
            value, options = node["inputs"].get(entry), spec[1] if len(spec) > 1 else {}
            choices = choices_of(spec)
            if isinstance(value, list) or value is None:
                continue
            if choices is not None:
                assert value in choices or value in files, (node["class_type"], entry, value)
            elif spec[0] in ("INT", "FLOAT"):
                assert isinstance(value, int | float) and options["min"] <= value <= options["max"], (entry, value)
            elif spec[0] == "BOOLEAN":
                assert isinstance(value, bool), (entry, value)


@every_workflow
def test_every_model_file_has_a_name_an_address_and_the_folder_of_its_loader(server, name):
    workflow, folders = read(name), server.process.get("/models")
    for node in loaders(workflow):
        chosen = [value for value in node["widgets_values"] if str(value).endswith(".safetensors")]
        models = node["properties"]["models"]
        assert chosen and [file["name"] for file in models] == chosen
        for file in models:
            assert set(file) == {"name", "url", "directory"}
            address = r"https://huggingface\.co/[\w.-]+/[\w.-]+/resolve/main/([\w.-]+/)*" + re.escape(file["name"])
            assert re.fullmatch(address, file["url"])
            assert file["directory"] == FOLDERS[node["type"]] and file["directory"] in folders
            assert f"({file['url']})" in notes_of(workflow) and f"── {file['name']}\n" in notes_of(workflow)


@pytest.mark.parametrize("name", GENERATE)
def test_lemica_comes_last_between_loader_and_sampler(server, name):
    workflow = read(name)
    nodes, links = {node["id"]: node for node in workflow["nodes"]}, {link[0]: link for link in workflow["links"]}
    samplers = [node for node in workflow["nodes"] if node["type"] in ("KSampler", "KSamplerAdvanced", "CFGGuider")]

    def feeder(node: dict[str, Any]) -> dict[str, Any]:
        [link] = [entry["link"] for entry in node["inputs"] if entry["type"] == "MODEL"]
        return nodes[links[link][1]]

    caches = [feeder(sampler) for sampler in samplers]
    assert {node["type"] for node in caches} == {"LeMiCa"}
    assert len({node["id"] for node in caches}) == len(caches) == sum(node["type"] == "LeMiCa" for node in nodes.values())
    for node in map(feeder, caches):
        while node["type"] in PATCHES:
            node = feeder(node)
        assert node["type"] == "UNETLoader"


@pytest.mark.parametrize("name, family", GENERATE.items())
def test_the_notes_tell_the_budgets_that_the_presets_have(server, name, family):
    workflow = read(name)
    about = next(node["widgets_values"][0] for node in workflow["nodes"] if node["title"] == "About this workflow")
    [known] = [one for one in LIBRARY.families() if one.key == family]
    told = {preset: int(count) for preset, count in re.findall(r"\*(\w+)\* (?:computes )?(\d+)", about)}
    for node in workflow["nodes"]:
        if node["type"] != "LeMiCa":
            continue
        seen, (preset, budget, *rest) = node["properties"]["lemica"], node["widgets_values"]
        assert seen["family"] == family and rest == ["auto", "as scheduled", "auto", ""]
        assert any(seen["model"] == f"UNETLoader {loader['widgets_values'][0]}" for loader in loaders(workflow))
        match = Match(known, "", ModelIdentity("any", "any"))
        budgets = {one: preset_budget(match, one, seen["steps"]) for one in PRESETS}
        assert budget == budgets[preset] and f"**Start with *{preset}*" in about
        assert told == {one: count for one, count in budgets.items() if one != preset}
        assert re.search(rf"the model computes {budget}\.|: {budget} of {seen['steps']} steps compute", about)


@pytest.mark.parametrize("name, family", GENERATE.items())
def test_the_file_name_decides_for_the_family_of_the_workflow(name, family):
    file = loaders(read(name))[0]["widgets_values"][0]
    [known] = [one for one in LIBRARY.families() if one.key == family]
    assert known.names_file(file)


@pytest.fixture(scope="module")
def page(server) -> dict[str, Any]:
    """What ComfyUI's page made of every workflow."""
    return drive("workflows.mjs", server.url, files=FILES, download="wan2.1_t2v")


def test_the_page_offers_the_download_of_the_models(page):
    models = [file for node in loaders(read("wan2.1_t2v")) for file in node["properties"]["models"]]
    assert page["downloads"] == len(models)


def test_the_page_shows_every_workflow_without_a_complaint(page):
    # The page itself asks the registry for the pack of a node; here it cannot.
    assert [problem for problem in page["problems"] if "https://api.comfy.org" not in problem] == []
    assert set(page["found"]) == set(FILES)
    for name, found in page["found"].items():
        assert (found["missing"], found["dialogs"], found["errors"], found["tooSmall"]) == ([], [], None, []), name


@every_workflow
def test_what_the_page_would_save_is_what_the_file_says(server, page, name):
    saved, file = page["found"][name]["saved"], read(name)
    assert {node["id"]: node["type"] for node in saved["nodes"]} == {node["id"]: node["type"] for node in file["nodes"]}
    assert sorted(link[1:] for link in saved["links"]) == sorted(link[1:] for link in file["links"])
    before, after = (to_prompt(copy.deepcopy(graph), server.object_info()) for graph in (file, saved))
    assert after == before
