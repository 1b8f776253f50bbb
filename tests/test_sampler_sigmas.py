"""The sigmas that a sampler will get, foretold from the nodes on its way, against those that it then got."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import re
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from route_requests import post
from test_route_events import listen

ROOT = Path(__file__).resolve().parent.parent
KSAMPLER = {"steps": 30, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
ADVANCED = {
    "steps": 30, "sampler_name": "euler", "scheduler": "simple", "start_at_step": 0, "end_at_step": 10000,
    "return_with_leftover_noise": "disable",
}
BASIC = {"scheduler": "simple", "steps": 30, "denoise": 1.0}


def node(kind: str, output: int = 0, **inputs) -> dict:
    return {"type": kind, "inputs": inputs, "output": output}


SHIFT = node("ModelSamplingSD3", shift=5.0)
RUNS = {
    "no shift": ([], [node("KSampler", **KSAMPLER)]),
    "shift 5": ([SHIFT], [node("KSampler", **KSAMPLER)]),
    "shift 8, denoise": ([node("ModelSamplingSD3", shift=8.0)], [node("KSampler", **KSAMPLER | {"denoise": 0.5})]),
    "the last shift counts": ([SHIFT, node("ModelSamplingAuraFlow", shift=2.0)], [node("KSampler", **KSAMPLER)]),
    "flux": (
        [node("ModelSamplingFlux", max_shift=1.15, base_shift=0.5, width=1024, height=512)],
        [node("KSampler", **KSAMPLER | {"scheduler": "beta", "sampler_name": "dpmpp_2m"})],
    ),
    "a sampler that drops a sigma": ([SHIFT], [node("KSampler", **KSAMPLER | {"sampler_name": "uni_pc"})]),
    "first part": ([SHIFT], [node("KSamplerAdvanced", **ADVANCED | {"end_at_step": 12})]),
    "last part": ([SHIFT], [node("KSamplerAdvanced", **ADVANCED | {"start_at_step": 12})]),
    "noise left": (
        [SHIFT], [node("KSamplerAdvanced", **ADVANCED | {"end_at_step": 12, "return_with_leftover_noise": "enable"})]
    ),
    "custom": ([SHIFT], [node("BasicScheduler", **BASIC | {"denoise": 0.6})]),
    "a part of custom": ([SHIFT], [node("BasicScheduler", **BASIC), node("SplitSigmas", output=1, step=11)]),
    "custom without a model": ([], [node("Flux2Scheduler", steps=12, width=1024, height=1024)]),
}


@pytest.fixture(scope="module")
def foretold(comfy):
    """The module, with the nodes of the core."""
    from lemica.nodes import sampler_sigmas

    import nodes

    asyncio.run(nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
    return sampler_sigmas


@pytest.fixture(scope="module")
def demo_family():
    from lemica.schedules import Library

    return next(one for one in Library(ROOT / "schedules" / "library").families() if one.key == "lemica-demo")


def expected(foretold, family, model, sigmas):
    return foretold.expected_sigmas(family, foretold.Sampling.from_json({"model": model, "sigmas": sigmas}))


def ran(server, prompt_name: str, model: list[dict], sigmas: list[dict]) -> dict:
    """The schedule that a run with these nodes follows, as it told the page."""
    prompt = {"demo": {"class_type": "LeMiCaDemoModel", "inputs": {"prompt": prompt_name}}}
    at = ["demo", 0]
    chain = [*((one["type"], one["inputs"]) for one in model), ("LeMiCa", {
        "preset": "medium", "budget": 15, "schedule": "auto", "rule": "as scheduled", "cache_device": "auto"
    })]
    for number, (kind, inputs) in enumerate(chain):
        prompt[f"model{number}"] = {"class_type": kind, "inputs": {"model": at, **inputs}}
        at = [f"model{number}", 0]
    latent = {"positive": ["demo", 1], "negative": ["demo", 2], "latent_image": ["demo", 3], "cfg": 3.0}
    if sigmas[0]["type"] == "KSampler":
        sampler = ("KSampler", {"model": at, "seed": uuid.uuid4().int % (1 << 32), **latent, **sigmas[0]["inputs"]})
    elif sigmas[0]["type"] == "KSamplerAdvanced":
        noise = {"add_noise": "enable", "noise_seed": uuid.uuid4().int % (1 << 32)}
        sampler = ("KSamplerAdvanced", {"model": at, **noise, **latent, **sigmas[0]["inputs"]})
    else:
        given = None
        for number, one in enumerate(sigmas):
            linked = {"model": at} if one["type"] == "BasicScheduler" else {"sigmas": given} if given else {}
            prompt[f"sigmas{number}"] = {"class_type": one["type"], "inputs": {**linked, **one["inputs"]}}
            given = [f"sigmas{number}", one["output"]]
        prompt["euler"] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}}
        noise = {"add_noise": True, "noise_seed": uuid.uuid4().int % (1 << 32), "sampler": ["euler", 0], "sigmas": given}
        sampler = ("SamplerCustom", {"model": at, **noise, **latent})
    prompt["sampler"] = {"class_type": sampler[0], "inputs": sampler[1]}
    prompt["save"] = {"class_type": "SaveLatent", "inputs": {"samples": ["sampler", 0], "filename_prefix": "sigmas"}}
    events, _ = listen(server, prompt)
    (plan,) = (data for kind, data in events if kind == "lemica.plan")
    return plan


@pytest.fixture(scope="module")
def prompt_name(server) -> str:
    kind, *options = server.object_info()["LeMiCaDemoModel"]["input"]["required"]["prompt"]
    return (kind if isinstance(kind, list) else options[0]["options"])[0]


@pytest.mark.parametrize("name", RUNS)
def test_the_plan_before_a_run_is_what_the_run_uses(server, foretold, demo_family, prompt_name, name):
    model, sigmas = RUNS[name]
    before = post(server, "plan", {
        "family": "lemica-demo", "steps": 30, "preset": "medium", "budget": 15, "schedule": "auto",
        "rule": "as scheduled", "sampling": {"model": model, "sigmas": sigmas},
    }).json
    run = ran(server, prompt_name, model, sigmas)
    for told in ("name", "origin", "steps", "computed", "rules"):
        assert before[told] == run[told]
    assert "known when it starts" not in before["note"]
    assert expected(foretold, demo_family, model, sigmas) == tuple(run["sigmas"])


def plan(server, **changed) -> dict:
    body = {
        "family": "lemica-demo", "steps": 30, "preset": "medium", "budget": 15, "schedule": "auto",
        "rule": "as scheduled", "sampling": {"model": [SHIFT], "sigmas": [node("KSampler", **KSAMPLER)]},
    }
    answer = post(server, "plan", body | changed)
    assert answer.status == 200, answer
    return answer.json


UNKNOWN = {
    "nothing is known": ([], []),
    "a node that may do anything": ([node("SomeonesShift", shift=5.0)], [node("KSampler", **KSAMPLER)]),
    "a scheduler of someone": ([SHIFT], [node("SomeonesScheduler", steps=30)]),
    "a sampler of someone": ([SHIFT], [node("SomeonesKSampler", **KSAMPLER)]),
    "a scheduler that KSampler has not": ([SHIFT], [node("KSampler", **KSAMPLER | {"scheduler": "someones"})]),
    "a value from elsewhere": ([node("ModelSamplingSD3", shift=None)], [node("KSampler", **KSAMPLER)]),
    "a latent that is connected": (
        [node("ModelSamplingLTXV", max_shift=2.05, base_shift=0.95, latent=None)], [node("KSampler", **KSAMPLER)]
    ),
    "a value out of range": ([SHIFT], [node("KSampler", **KSAMPLER | {"denoise": 1.5})]),
    "more steps than a run can have": ([SHIFT], [node("KSampler", **KSAMPLER | {"denoise": 0.001})]),
    "no step": ([SHIFT], [node("KSampler", **KSAMPLER | {"denoise": 0.0})]),
    "a node of another kind": ([node("LoraLoaderModelOnly", lora_name="x", strength_model=1.0)],
                               [node("KSampler", **KSAMPLER)]),
    "sigmas of nothing": ([SHIFT], [node("SplitSigmas", step=3)]),
    "an output that is not there": ([SHIFT], [node("BasicScheduler", output=4, **BASIC)]),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_cannot_be_known_is_said_to_be_settled_when_the_sampler_starts(server, name):
    model, sigmas = UNKNOWN[name]
    note = plan(server, sampling={"model": model, "sigmas": sigmas})["note"]
    assert note.endswith("; for the sigmas of flow shift 5: what the sampler will get is known when it starts")


def test_a_model_of_no_known_family_is_not_foretold_unless_the_scheduler_needs_no_model(server):
    assert "known when it starts" in plan(server, family=None)["note"]
    alone = {"model": [], "sigmas": [node("Flux2Scheduler", steps=12, width=1024, height=1024)]}
    planned = plan(server, family=None, sampling=alone)
    assert planned["steps"] == 12 and "known when it starts" not in planned["note"]


def test_the_sigmas_of_the_last_run_stand_in_for_those_that_cannot_be_foretold(server):
    sigmas = [1.0, 0.9, 0.7, 0.4, 0.1, 0.0]
    planned = plan(server, steps=5, sigmas=sigmas, sampling={"model": [], "sigmas": []})
    assert planned["steps"] == 5 and "sigmas of" not in planned["note"]


def test_a_schedule_of_as_many_steps_is_not_taken_for_the_run(server):
    """The demo's schedules were made with flow shift 5; the model's own is 8."""
    own = plan(server, sampling={"model": [], "sigmas": [node("KSampler", **KSAMPLER)]})
    assert own["origin"] == "resampled" and plan(server)["origin"] == "calibrated"


@pytest.mark.parametrize("sampling", [
    [], "x", {"model": []}, {"model": [], "sigmas": 3}, {"model": [3], "sigmas": []}, {"model": [], "sigmas": [{}]},
    {"model": [{"type": 3, "inputs": {}}], "sigmas": []}, {"model": [{"type": "x", "inputs": []}], "sigmas": []},
    {"model": [{"type": "x", "inputs": {"deep": json.loads("[" * 90 + "]" * 90)}}], "sigmas": []},
    {"model": [SHIFT] * 33, "sigmas": []}, {"model": [SHIFT | {"output": "0"}], "sigmas": []},
])
def test_a_sampling_of_another_shape_is_refused(server, sampling):
    body = {"family": "lemica-demo", "steps": 30, "preset": "medium", "budget": 15, "sampling": sampling}
    answer = post(server, "plan", body)
    assert answer.status == 400 and "sampling" in answer.error


def test_every_scheduler_and_sampler_of_ksampler_gives_what_comfyui_computes(foretold, comfy, demo_family, wan):
    import comfy.samplers
    import torch

    import nodes

    (shifted,) = nodes.NODE_CLASS_MAPPINGS["ModelSamplingSD3"]().patch(wan, 5.0)
    samplers = ("euler", *sorted(comfy.samplers.KSampler.DISCARD_PENULTIMATE_SIGMA_SAMPLERS))
    for scheduler, sampler, denoise, steps in itertools.product(
        comfy.samplers.KSampler.SCHEDULERS, samplers, (1.0, 0.55), (2, 9)
    ):
        settings = {"steps": steps, "sampler_name": sampler, "scheduler": scheduler, "denoise": denoise}
        real = comfy.samplers.KSampler(shifted, steps, torch.device("cpu"), sampler, scheduler, denoise).sigmas
        assert expected(foretold, demo_family, [SHIFT], [node("KSampler", **settings)]) == tuple(real.tolist())


def test_a_family_samples_as_comfyui_makes_its_models(foretold, comfy):
    """The model without its network has the sampling of the tiny model of the same config that was really built."""
    import comfy.samplers
    import tiny_models
    import torch
    from lemica.cache.identity import identify

    known = 0
    for name in tiny_models.MODELS:
        real = tiny_models.make(name)
        try:
            alone = foretold._model(dict(identify(real).config))
        except foretold.UnknownSigmasError:
            continue
        if type(alone.model.model_config) is not type(real.model.model_config):
            continue  # the tiny model was built as another one than its sizes say
        known += 1
        one, other = (
            comfy.samplers.KSampler(model, 9, torch.device("cpu"), "euler", "simple").sigmas for model in (real, alone)
        )
        assert type(alone.model) is type(real.model) and torch.equal(one, other), name
    assert known > len(tiny_models.MODELS) / 2


NUMBERS = st.one_of(st.integers(-5, 20000), st.floats(allow_nan=False, allow_infinity=False), st.none(), st.booleans())


@given(data=st.data())
@settings(max_examples=300)
def test_no_values_of_inputs_break_it(foretold, demo_family, data):
    """Whatever a widget holds, there are sigmas or there are none; and they take no long run."""
    import nodes

    def drawn(kind: str) -> dict:
        declared = nodes.NODE_CLASS_MAPPINGS[kind].INPUT_TYPES()
        inputs = {}
        for name, (type_, *options) in {**declared["required"], **declared.get("optional", {})}.items():
            if name in ("model", "sigmas"):
                continue
            option = options[0] if options else {}
            if isinstance(type_, list) or type_ == "COMBO":
                inputs[name] = data.draw(st.sampled_from([*(type_ if isinstance(type_, list) else option["options"]), "x"]))
            elif type_ == "INT":
                inputs[name] = data.draw(st.integers(option["min"], min(option["max"], 300)) | NUMBERS)
            elif type_ == "FLOAT":
                inputs[name] = data.draw(st.floats(option["min"], option["max"]) | NUMBERS)
            elif type_ == "BOOLEAN":
                inputs[name] = data.draw(st.booleans())
        return node(kind, output=data.draw(st.integers(-1, 2)) if data.draw(st.booleans()) else 0, **inputs)

    model = [drawn(kind) for kind in data.draw(st.lists(st.sampled_from(sorted(foretold.MODEL_NODES)), max_size=2))]
    sigmas = [drawn(kind) for kind in data.draw(st.lists(st.sampled_from(sorted(foretold.SIGMA_NODES)), max_size=3))]
    found = expected(foretold, demo_family, json.loads(json.dumps(model)), json.loads(json.dumps(sigmas)))
    assert found is None or 2 <= len(found) <= 10001


def test_a_value_between_those_that_a_node_knows_leaves_nothing_known(foretold, demo_family):
    """GITSScheduler looks its coefficient up in a table, and takes any number between the ends of it."""
    between, known = (node("GITSScheduler", coeff=coeff, steps=10, denoise=1.0) for coeff in (0.875, 0.85))
    assert expected(foretold, demo_family, [], [between]) is None
    assert len(expected(foretold, demo_family, [], [known])) == 11


def test_the_page_leaves_out_only_nodes_of_the_core_that_leave_the_sampling_alone(foretold):
    """Of the core's nodes that take and give a model, each is left out or run by its own code, as its source shows."""
    import nodes

    text = (ROOT / "web" / "sampling.js").read_text()
    listed = re.search(r"const NEUTRAL = new Set\(\[(.*?)\]\)", text, re.DOTALL)
    neutral = set(re.findall(r"'([^']+)'", listed.group(1)))
    for kind, made in nodes.NODE_CLASS_MAPPINGS.items():
        declared = made.INPUT_TYPES()
        inputs = {**declared.get("required", {}), **declared.get("optional", {})}.values()
        if "MODEL" not in made.RETURN_TYPES or not any(one[0] == "MODEL" for one in inputs):
            continue
        sources = [inspect.getsource(one) for one in made.__mro__ if one.__module__ == made.__module__]
        sets = any('"model_sampling",' in source for source in sources)
        if kind in neutral:
            assert not sets, kind
        if sets:
            assert kind in foretold.MODEL_NODES, kind
    assert neutral - {"LeMiCa"} <= nodes.NODE_CLASS_MAPPINGS.keys()
    assert foretold.MODEL_NODES | foretold.SIGMA_NODES | foretold.SAMPLERS <= nodes.NODE_CLASS_MAPPINGS.keys()
