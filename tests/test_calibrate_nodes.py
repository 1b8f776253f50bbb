"""The nodes that calibrate, on a running ComfyUI server with the demo model."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from calibration_prompts import (
    ROOT,
    STEPS,
    Watched,
    basic_run,
    calibrate,
    custom,
    demo_models,
    files,
    saved,
    saved_names,
    schedule,
    solve,
    watch,
)
from route_requests import post

NODES = ("LeMiCaCalibrate", "LeMiCaCalibrateCustom", "LeMiCaSolve")


@pytest.fixture(scope="module")
def demo(server) -> list[dict]:
    """Two of the demo model's prompts as nodes."""
    return demo_models(server)


@pytest.fixture(scope="module")
def basic(server) -> Iterator[Watched]:
    """A calibration and a solved schedule; the server's user has none of them afterwards."""
    yield basic_run(server)
    shutil.rmtree(server.user / "lemica")


def test_node_ids_and_the_order_of_their_inputs_stay_what_saved_workflows_hold(server):
    info = server.object_info()
    measuring = ["seed", "seeds", "mode", "longest", "rules", "name", "metric", "tries"]
    assert list(info["LeMiCaCalibrate"]["input"]["required"]) == [
        "model", "latent", "positive", "prompts", "negative_prompt", "steps", "cfg", "sampler_name", "scheduler",
        "denoise", *measuring,
    ]
    assert list(info["LeMiCaCalibrate"]["input"]["optional"]) == ["negative", "clip", "vae", "safe", "ray", "workers"]
    assert list(info["LeMiCaCalibrateCustom"]["input"]["optional"]) == ["vae", "safe", "ray", "workers"]
    added = [info["LeMiCaCalibrate"]["input"]["optional"][name][1] for name in ("safe", "ray", "workers")]
    assert all(one["advanced"] for one in added)
    assert info["LeMiCaCalibrate"]["input"]["required"]["mode"][1]["display_name"] == "effort"
    assert list(info["LeMiCaCalibrateCustom"]["input"]["required"]) == [
        "guiders", "sampler", "sigmas", "latent", "prompts", "add_noise", *measuring
    ]
    assert list(info["LeMiCaSolve"]["input"]["required"]) == [
        "calibration", "preset", "budget", "objective", "rules", "compute_last", "name", "save"
    ]
    assert list(info["LeMiCaSolve"]["input"]["optional"]) == ["error_graph"]
    for node_id in NODES[:2]:
        assert info[node_id]["output"] == ["LEMICA_ERROR_GRAPH", "IMAGE", "STRING"]
    assert info["LeMiCaSolve"]["output"] == ["LEMICA_SCHEDULE", "IMAGE", "STRING"]
    assert all(info[node_id]["output_node"] for node_id in NODES)


@pytest.mark.parametrize("node_id", NODES)
def test_every_text_is_in_the_locale_and_every_node_has_a_page(server, node_id):
    info = server.object_info()[node_id]
    texts = json.loads((ROOT / "locales/en/nodeDefs.json").read_text())[node_id]
    inputs = {**info["input"]["required"], **info["input"].get("optional", {})}
    assert {name: spec[1]["tooltip"] for name, spec in inputs.items()} == {
        name: text["tooltip"] for name, text in texts["inputs"].items()
    }
    assert info["description"] == texts["description"]
    assert info["output_tooltips"] == [texts["outputs"][place]["tooltip"] for place in sorted(texts["outputs"])]
    assert (ROOT / "web/docs" / f"{node_id}.md").read_text().startswith(f"# {info['display_name']}\n")


def test_a_calibration_saves_its_graph_and_a_measured_schedule_for_every_preset(server, basic):
    graph = saved(server, "basic")
    assert (graph.steps, graph.family, graph.mode, len(graph.samples)) == (STEPS, "lemica-demo", "short", 1)
    assert not np.isnan(graph.errors).any()
    assert graph.setup["sampler"] == "euler" and graph.setup["cfg"] == 3.0
    assert graph.samples[0].prompt.startswith("conditioning ") and graph.samples[0].seed == 5
    text = basic.text("calibrate")
    for budget in (5, 3, 2):
        made = schedule(server, f"basic/{STEPS}b{budget}")
        assert made.budget == budget and made.source["measured"]["worst"] > 0
        assert any(made.weights) and made.source["metric"] == "l1" and graph.metric == "l2"
        assert f"| {budget} | {' '.join(map(str, made.computed))} |" in text
    assert str(server.user / "lemica" / "calibrations") in text
    assert basic.outputs["calibrate"]["images"]


def test_the_page_hears_the_cost_before_and_after_the_first_full_run_and_the_progress_after(basic):
    states = [event["state"] for event in basic.events]
    assert states[0] == "estimate" and states.count("estimate") == 2 and states[-1] == "done"
    before, timed = (event for event in basic.events if event["state"] == "estimate")
    assert (before["seconds"] is None or before["seconds"] > 0) and timed["seconds"] > 0, "other tests may have sampled it"
    assert before["steps"] == timed["steps"] > STEPS and before["text"].partition(", ")[0] in timed["text"]
    assert {event["node"] for event in basic.events} == {"calibrate"}
    done = [event["done"] for event in basic.events if event["state"] == "running"]
    assert done == sorted(done) and done[-1] <= before["steps"]
    assert basic.previews > 0


def test_what_was_measured_is_not_measured_again(server, demo, basic):
    before = saved(server, "basic")
    again = watch(server, {"model": demo[0], "calibrate": calibrate(name="basic", negative_prompt="not read")})
    assert again.text("calibrate").splitlines()[2].startswith("0 model steps computed")
    (estimate,) = (event for event in again.events if event["state"] == "estimate")
    assert estimate["seconds"] > 0 and re.search(r"model steps\), \d+", estimate["text"]), "the time is known beforehand by now"
    assert np.array_equal(saved(server, "basic").errors, before.errors)
    assert again.text("calibrate").splitlines()[4:] == basic.text("calibrate").splitlines()[4:]


def test_the_page_is_told_the_time_where_the_family_has_sampled(server, basic):
    order = {"steps": 8, "samples": 4, "tries": 1, "longest": 0, "mode": "short", "rules": "output", "family": "lemica-demo"}
    text = post(server, "cost", order).json["text"]
    assert re.fullmatch(
        r"about 9.0 full runs \(72 model steps\), \d+ \w+ at the size of the last run, a latent of 16 x 3 x 8 x 8", text
    ), text


def test_the_lemica_node_uses_the_calibration_from_then_on(server, demo, basic):
    prompt = {
        "model": demo[0],
        "lemica": {
            "class_type": "LeMiCa",
            "inputs": {
                "model": ["model", 0], "preset": "medium", "budget": 3, "schedule": "auto", "rule": "as scheduled",
                "cache_device": "auto",
            },
        },
        "sampler": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["lemica", 0], "positive": ["model", 1], "negative": ["model", 2], "latent_image": ["model", 3],
                "seed": 1, "steps": STEPS, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
            },
        },
        "save": {
            "class_type": "SaveLatent", "inputs": {"samples": ["sampler", 0], "filename_prefix": "calibrated"}
        },
    }
    (report,) = server.queue(prompt).lemica
    assert report["origin"] == "calibrated" and report["schedule"] == f"basic/{STEPS}b3"
    assert tuple(report["computed"]) == schedule(server, f"basic/{STEPS}b3").computed


def lemica_run(server, demo, budget: int, merged: bool) -> dict:
    """What a run with the LeMiCa node reports, on the demo model as it is or merged with itself."""
    inputs = {"preset": "custom", "budget": budget, "schedule": "auto", "rule": "as scheduled", "cache_device": "auto"}
    prompt = {
        "model": demo[0],
        "merged": {
            "class_type": "ModelMergeSimple", "inputs": {"model1": ["model", 0], "model2": ["model", 0], "ratio": 0.5}
        },
        "lemica": {"class_type": "LeMiCa", "inputs": {"model": ["merged" if merged else "model", 0], **inputs}},
        "sampler": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["lemica", 0], "positive": ["model", 1], "negative": ["model", 2], "latent_image": ["model", 3],
                "seed": 2, "steps": STEPS, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
            },
        },
        "save": {"class_type": "SaveLatent", "inputs": {"samples": ["sampler", 0], "filename_prefix": "claims"}},
    }
    (report,) = server.queue(prompt).lemica
    return report


def test_a_model_with_patches_borrows_what_was_measured_without_them(server, demo, basic):
    own, patched = (lemica_run(server, demo, 3, merged) for merged in (False, True))
    assert own["schedule"] == patched["schedule"] == f"basic/{STEPS}b3" and own["computed"] == patched["computed"]
    assert (own["origin"], patched["origin"]) == ("calibrated", "borrowed")
    assert "borrowed from basic" in patched["note"] and "made without the LoRAs" in patched["note"]
    own, patched = (lemica_run(server, demo, 4, merged) for merged in (False, True))
    assert (own["origin"], patched["origin"]) == ("predicted", "borrowed"), "4 steps are solved, not measured"


def test_custom_sampling_with_equal_settings_finds_equal_errors(server, demo, basic):
    run = watch(server, {"model": demo[0], **custom(name="twin", prompts="a name\n")})
    assert not run.error
    one, twin = saved(server, "basic"), saved(server, "twin")
    assert np.array_equal(one.segments, twin.segments) and one.sigmas == twin.sigmas
    assert np.allclose(one.errors, twin.errors, rtol=1e-5)
    assert twin.samples[0].prompt == "a name"
    assert twin.setup["sampler"] == "euler" and twin.setup["guider"] == {"class": "CFGGuider", "cfg": 3.0}
    for budget in (5, 3, 2):
        measured = (schedule(server, f"{name}/{STEPS}b{budget}").source["measured"]["worst"] for name in ("basic", "twin"))
        assert next(measured) == pytest.approx(next(measured), rel=1e-4)


@pytest.mark.parametrize("mode, now", [("quick", "short"), ("standard", "normal")])
def test_a_workflow_of_an_earlier_version_still_runs(server, demo, mode, now):
    run = watch(server, {"model": demo[0], "calibrate": calibrate(name=f"once {mode}", mode=mode, steps=4)})
    assert not run.error and saved(server, f"once {mode}").mode == now
    assert f"{now} mode" in run.text("calibrate")


def test_an_unknown_effort_is_refused_before_anything_runs(server, demo):
    with pytest.raises(AssertionError, match="'slow' is none of short, normal, exact"):
        watch(server, {"model": demo[0], "calibrate": calibrate(mode="slow")})


def test_every_prompt_is_sampled_with_every_seed_and_the_name_is_made_up(server, demo):
    prompt = {"model": demo[0], "other": demo[1]}
    prompt["calibrate"] = calibrate(**{"positive.positive1": ["other", 1]}, seeds=2, tries=0, steps=4)
    assert not (run := watch(server, prompt)).error
    graph = saved(server, "lemica-demo-4-euler-simple-cfg3")
    names = {sample.seed: sample.prompt for sample in graph.samples}
    assert sorted(names) == [5, 6, 7, 8]
    assert names[5] == names[6] != names[7] == names[8]
    assert "4 samples" in run.text("calibrate")


def test_residual_rules_are_measured_beside_output_rules(server, demo):
    rules = "output and residual"
    prompt = {"model": demo[0], "calibrate": calibrate(name="both", rules=rules, steps=4, tries=0, mode="exact")}
    prompt["solve"] = solve(error_graph=["calibrate", 0], rules="residual hold", compute_last=True, name="mine")
    assert not watch(server, prompt).error
    assert {rule.target for rule in saved(server, "both").rules} == {"output", "residual"}
    made = schedule(server, "mine")
    assert {str(rule) for rule in made.rules} == {"residual hold"} and made.computed[-1] == 3


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"positive.positive0": []}, "no prompt"),
        ({"prompts": "a cat"}, "connect a CLIP"),
        ({"negative": []}, "connect a conditioning to negative"),
        ({"steps": 1}, "1 step"),
        ({"longest": 9}, "from 2 to 8"),
        ({"rules": "residual"}, "effort short does not make: set effort to exact, or rules to output"),
        ({"rules": "output and residual", "mode": "normal"}, "effort normal does not make: set effort to exact"),
        ({"sampler_name": "dpm_adaptive"}, "cannot be fitted.*take another one"),
        ({"metric": "lpips"}, "connect a VAE"),
        ({"positive.positive1": None}, "JobError: positive1 came as null: connect"),
        ({"denoise": 0.0}, "Nothing is sampled.*denoise above 0"),
        ({"name": "auto"}, "'auto' is in use"),
        ({"name": " linked "}, "'linked' is in use"),
        ({"name": "basic", "cfg": 2.0}, "basic.*already.*another name"),
        ({"name": "lemica-demo", "steps": 30}, "comes with the pack"),
        ({"name": "x" * 118}, "1 to 120 characters"),
        ({"model": ["easy", 0]}, "EasyCache"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_runs_and_nothing_is_lost(server, demo, basic, changed, told):
    before = files(server)
    prompt = {"model": demo[0], "calibrate": calibrate(**changed)}
    if "model" in changed:
        inputs = {
            "model": ["model", 0], "reuse_threshold": 0.2, "start_percent": 0.15, "end_percent": 0.95, "verbose": False
        }
        prompt["easy"] = {"class_type": "EasyCache", "inputs": inputs}
    run = watch(server, prompt)
    assert re.search(told, run.error, re.DOTALL), run.error
    assert "running" not in [event["state"] for event in run.events]
    assert files(server) == before


def test_a_guider_that_is_null_and_sigmas_that_are_none_are_told(server, demo):
    nodes = custom()
    nodes["calibrate"]["inputs"]["guiders.guider1"] = None
    assert "JobError: guider1 came as null" in watch(server, {"model": demo[0], **nodes}).error
    nodes = custom()
    nodes["sigmas"]["inputs"]["denoise"] = 0.0
    assert "Nothing is sampled" in watch(server, {"model": demo[0], **nodes}).error


def test_an_interrupted_calibration_keeps_what_it_has_and_goes_on_from_there(server, demo):
    settings = {"mode": "exact", "seed": 77}
    stopped = watch(server, {"model": demo[0], "calibrate": calibrate(name="stopped", **settings)}, interrupt_at=4)
    assert stopped.interrupted and not stopped.error
    assert "stopped" not in saved_names(server)
    went_on = watch(server, {"model": demo[0], "calibrate": calibrate(name="stopped", **settings)})
    whole = watch(server, {"model": demo[0], "calibrate": calibrate(name="whole", **settings)})
    assert not went_on.error and not whole.error
    assert _spent(went_on) < _spent(whole)
    assert np.allclose(saved(server, "stopped").errors, saved(server, "whole").errors, rtol=1e-5)


def _spent(run: Watched) -> int:
    return int(run.text("calibrate").splitlines()[2].split()[0])


def sampled(demo, steps: int, **inputs) -> dict:
    """A run of the demo model with the LeMiCa node."""
    chosen = {"preset": "medium", "budget": 3, "schedule": "auto", "rule": "as scheduled", "cache_device": "auto"} | inputs
    return {
        "model": demo[0],
        "lemica": {"class_type": "LeMiCa", "inputs": {"model": ["model", 0], **chosen}},
        "sampler": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["lemica", 0], "positive": ["model", 1], "negative": ["model", 2], "latent_image": ["model", 3],
                "seed": 1, "steps": steps, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
            },
        },
        "save": {"class_type": "SaveLatent", "inputs": {"samples": ["sampler", 0], "filename_prefix": "fitted"}},
    }


def test_full_runs_alone_give_fitted_schedules_that_the_node_takes(server, demo):
    run = watch(server, {"model": demo[0], "calibrate": calibrate(name="fits", mode="short", steps=10)})
    graph, text = saved(server, "fits"), run.text("calibrate")
    assert not run.error and (graph.mode, graph.metric, graph.steps) == ("short", "l2", 10)
    assert {str(rule) for rule in graph.rules} == {"output hold", "output half", "output linear"}
    assert not np.isnan(graph.errors).any() and "output fitted" in text
    made = schedule(server, "fits/10b4")
    assert made.origin == "calibrated" and made.source["measured"]["worst"] > 0
    reusing = [end - start > 1 for start, end in made.segments()]
    assert [bool(own) for own in made.weights] == reusing and str(made.rules[0]) == "output fitted"
    before = [event for event in run.events if event["state"] == "estimate"][0]
    assert f"{before['steps']} model steps computed" in text, "the estimate is what was spent"
    again = watch(server, {"model": demo[0], "calibrate": calibrate(name="fits", mode="short", steps=10, negative_prompt="x")})
    assert again.text("calibrate").splitlines()[2].startswith("0 model steps computed")

    (report,) = server.queue(sampled(demo, 10, preset="custom", budget=4)).lemica
    assert (report["origin"], report["schedule"]) == ("calibrated", "fits/10b4")
    assert tuple(report["computed"]) == made.computed
    (report,) = server.queue(sampled(demo, 10, preset="custom", budget=4, rule="output half")).lemica
    assert report["origin"] != "calibrated"
    refused = watch(server, {"model": demo[0], "calibrate": calibrate(name="no", mode="short", steps=10, rules="residual")})
    assert "Rules of the residual are measured by replays" in refused.error
