"""The nodes on a running ComfyUI server, over its HTTP API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STEPS = 6


@pytest.fixture(scope="module")
def demo_prompt(server) -> str:
    kind, *options = server.object_info()["LeMiCaDemoModel"]["input"]["required"]["prompt"]
    return (kind if isinstance(kind, list) else options[0]["options"])[0]


def lemica(**changed) -> dict:
    inputs = {"preset": "medium", "budget": 3, "schedule": "auto", "rule": "as scheduled", "cache_device": "auto"}
    return {"class_type": "LeMiCa", "inputs": {"model": ["model", 0], **inputs, **changed}}


def graph(demo_prompt: str, *nodes: dict, seed: int = 1, **sampler) -> dict:
    """A workflow in ComfyUI's API format: one KSampler on each LeMiCa node, each clip saved."""
    prompt = {"model": {"class_type": "LeMiCaDemoModel", "inputs": {"prompt": demo_prompt}}}
    for number, node in enumerate(nodes):
        prompt[f"lemica{number}"] = node
        inputs = {
            "model": [f"lemica{number}", 0], "positive": ["model", 1], "negative": ["model", 2],
            "latent_image": ["model", 3], "seed": seed, "steps": STEPS, "cfg": 3.0, "sampler_name": "euler",
            "scheduler": "simple", "denoise": 1.0, **sampler,
        }
        prompt[f"sampler{number}"] = {"class_type": "KSampler", "inputs": inputs}
        prompt[f"save{number}"] = {
            "class_type": "SaveLatent",
            "inputs": {"samples": [f"sampler{number}", 0], "filename_prefix": f"nodes/{number}"},
        }
    return prompt


def refused(server, prompt: dict) -> dict:
    """The answer of the server to a prompt that it does not take."""
    body = json.dumps({"prompt": prompt}).encode()
    request = urllib.request.Request(f"{server.url}/prompt", body, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)
    assert error.value.code == 400
    return json.loads(error.value.read())


def test_node_ids_and_the_order_of_their_inputs_stay_what_saved_workflows_hold(server):
    info = server.object_info()
    assert list(info["LeMiCa"]["input"]["required"]) == [
        "model", "preset", "budget", "schedule", "rule", "cache_device"
    ]
    assert list(info["LeMiCa"]["input"]["optional"]) == ["steps", "learn"]
    assert info["LeMiCa"]["output"] == ["MODEL"]
    assert list(info["LeMiCaDemoModel"]["input"]["required"]) == ["prompt"]
    assert info["LeMiCaDemoModel"]["output"] == ["MODEL", "CONDITIONING", "CONDITIONING", "LATENT", "VAE"]


def test_every_input_has_a_tooltip_and_every_text_is_in_the_locale(server):
    texts = json.loads((ROOT / "locales/en/nodeDefs.json").read_text())
    for node_id in ("LeMiCa", "LeMiCaDemoModel"):
        inputs = server.object_info()[node_id]["input"]
        inputs = inputs["required"] | inputs.get("optional", {})
        assert all(options["tooltip"] for _, options in inputs.values())
        assert {name: options["tooltip"] for name, (_, options) in inputs.items()} == {
            name: text["tooltip"] for name, text in texts[node_id]["inputs"].items()
        }
        assert (ROOT / "web/docs" / f"{node_id}.md").read_text().startswith("# ")


def test_two_samplers_in_one_workflow_report_each_for_itself(server, demo_prompt):
    execution = server.queue(graph(demo_prompt, lemica(preset="custom", budget=2), lemica(preset="custom", budget=4)))
    reports = {event["node"]: event for event in execution.lemica}
    assert {node: len(report["computed"]) for node, report in reports.items()} == {"lemica0": 2, "lemica1": 4}
    for report in reports.values():
        assert report["computed"][0] == 0
        assert (report["calls"], report["full_calls"]) == (2 * len(report["computed"]), 2 * STEPS)
        assert report["origin"] in report["line"] and report["schedule"] in report["line"]


def test_nodes_of_the_same_settings_report_each_for_itself(server, demo_prompt):
    execution = server.queue(graph(demo_prompt, lemica(), lemica(), seed=5))
    assert sorted(event["node"] for event in execution.lemica) == ["lemica0", "lemica1"]


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"preset": "warp"}, "warp"),
        ({"schedule": "no/such"}, "no/such"),
        ({"rule": "guess"}, "guess"),
        ({"budget": 0}, "budget"),
        ({"cache_device": "tape"}, "tape"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused_before_anything_runs(server, demo_prompt, changed, told):
    assert told in json.dumps(refused(server, graph(demo_prompt, lemica(**changed))))


@pytest.mark.parametrize("asked, told", [
    ({"budget": 5}, "The budget is 5 in a run of 3 steps"),
    ({"budget": 1, "steps": "0,1,4"}, "Computed step 4 is not in a run of 3 steps"),
])
def test_what_fits_the_first_pass_alone_computes_every_step_of_the_second(server, demo_prompt, asked, told):
    """One LeMiCa node, two samplers: the second makes fewer steps than the user asked to compute."""
    prompt = graph(demo_prompt, lemica(preset="custom", **asked), seed=2)
    inputs = {**prompt["sampler0"]["inputs"], "latent_image": ["sampler0", 0], "steps": 3, "denoise": 0.6}
    prompt["second"] = {"class_type": "KSampler", "inputs": inputs}
    prompt["save_second"] = {
        "class_type": "SaveLatent", "inputs": {"samples": ["second", 0], "filename_prefix": "nodes/second"}
    }
    first, second = server.queue(prompt).lemica
    assert (first["steps"], len(first["computed"])) == (6, 5 if "steps" not in asked else 3)
    assert (second["steps"], second["computed"]) == (3, [0, 1, 2])
    assert f"computing every step: {told}" in second["note"] and told in second["line"]
    assert "computing every step" not in first["line"]


def test_steps_chosen_by_hand_are_those_that_compute(server, demo_prompt):
    by_hand = lemica(preset="custom", budget=5, steps="0, 2,5")
    (report,) = server.queue(graph(demo_prompt, by_hand, seed=4)).lemica
    assert (report["computed"], report["origin"], report["schedule"]) == ([0, 2, 5], "custom", "by hand")
    (report,) = server.queue(graph(demo_prompt, lemica(preset="medium", steps="0,2,5"), seed=4)).lemica
    assert report["origin"] != "custom"


def test_steps_that_a_run_does_not_have_are_told_and_every_step_computes(server, demo_prompt):
    (report,) = server.queue(graph(demo_prompt, lemica(preset="custom", budget=1, steps="0,6"), seed=5)).lemica
    assert report["computed"] == [*range(STEPS)] and "6 is not in a run of 6 steps" in report["note"]


@pytest.mark.parametrize(
    "steps, told", [("0,x", "like '0, 3, 7'"), ("1,2", "start with step 0"), ("0,3,3", "in increasing order")]
)
def test_a_text_that_lists_no_steps_is_refused_before_anything_is_sampled(server, demo_prompt, steps, told):
    from lemica.workflows.failure import Failure

    with pytest.raises(Failure, match=told):
        server.queue(graph(demo_prompt, lemica(preset="custom", budget=1, steps=steps), seed=5))


def test_a_schedule_of_the_users_is_found_by_name_and_a_broken_one_hides_nothing(server, demo_prompt):
    folder = server.user / "lemica" / "schedules"
    folder.mkdir(parents=True, exist_ok=True)
    mine = {
        "schema": 1, "name": "mine", "family": "lemica-demo", "steps": STEPS, "computed": [0, 4],
        "rules": ["output hold", "output linear"], "origin": "custom", "sigmas": None, "source": {},
    }
    (folder / "mine.json").write_text(json.dumps(mine))
    (folder / "broken.json").write_text('{"schema": 1, "name": "half')
    try:
        kind, *options = server.object_info()["LeMiCa"]["input"]["required"]["schedule"]
        assert "mine" in (kind if isinstance(kind, list) else options[0]["options"])
        (report,) = server.queue(graph(demo_prompt, lemica(schedule="mine"), seed=3)).lemica
        assert report["computed"] == [0, 4] and report["schedule"] == "mine"
    finally:
        (folder / "mine.json").unlink()
        (folder / "broken.json").unlink()


def test_the_web_files_are_served(server):
    with urllib.request.urlopen(f"{server.url}/extensions") as answer:
        scripts = [path for path in json.loads(answer.read()) if path.endswith(("/lemica.js", "/run_view.js"))]
    assert len(scripts) == 2
    for path in scripts:
        with urllib.request.urlopen(server.url + path) as answer:
            assert "export" in (text := answer.read().decode()) or "registerExtension" in text


def test_the_stock_loaders_open_the_demo_model(comfy):
    import folder_paths

    import nodes

    for kind in ("diffusion_models", "vae"):
        folder_paths.add_model_folder_path(kind, str(ROOT / "nodes/demo_model"))
    (model,) = nodes.UNETLoader().load_unet("wan_tiny.safetensors", "default")
    (vae,) = nodes.VAELoader().load_vae("wan_tiny_vae.safetensors")
    assert type(model.model).__name__ == "WAN21"
    assert type(vae.first_stage_model).__name__ == "WanVAE"
    assert vae.latent_channels == 16


def test_the_demo_model_is_of_its_own_family(comfy):
    import comfy.sd
    from lemica.cache.identity import identify
    from lemica.schedules import Library, find_family

    model = comfy.sd.load_diffusion_model(str(ROOT / "nodes/demo_model/wan_tiny.safetensors"))
    identity = identify(model)
    assert identity.file == "wan_tiny.safetensors"
    assert find_family(identity, Library(ROOT / "schedules/library").families()).key == "lemica-demo"
