"""What saved workflows hold of the nodes: ids, inputs in their order, outputs; and files of other versions.

frozen_nodes.json is what workflows that were saved may rely on. What is new goes to the end of the optional inputs, and
into that file. What an input no longer offers is under ``former``: the nodes take it all the same, see
test_calibrate_nodes.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from route_requests import make_graph, schedule

FROZEN = json.loads((Path(__file__).parent / "frozen_nodes.json").read_text())
VARYING = {("LeMiCa", "schedule"), ("LeMiCaSolve", "calibration")}
"""Inputs that offer what the user has."""


def described(info: dict) -> dict[str, object]:
    """A node as frozen_nodes.json has it: kind, choices and default of every input, and the outputs."""
    inputs = {}
    for group in ("required", "optional"):
        for name in info["input_order"].get(group, []):
            kind, *more = info["input"][group][name]
            options = more[0] if more else {}
            choices = kind if isinstance(kind, list) else options.get("options")
            one = {"group": group, "kind": "COMBO" if isinstance(kind, list) else kind, "default": options.get("default")}
            if choices is not None and (info["name"], name) not in VARYING:
                one["choices"] = choices
            inputs[name] = one
    return {"inputs": inputs, "outputs": info["output"], "output_names": info["output_name"]}


def test_every_node_of_the_pack_is_frozen(server):
    ids = {name for name, info in server.object_info().items() if info["python_module"].endswith("ComfyUI-LeMiCa")}
    ids |= {name for name in server.object_info() if name.startswith("LeMiCa")}
    assert ids == set(FROZEN)


@pytest.mark.parametrize("node_id", FROZEN)
def test_workflows_that_were_saved_open(server, node_id):
    now, then = described(server.object_info()[node_id]), FROZEN[node_id]
    names = list(then["inputs"])
    assert list(now["inputs"])[: len(names)] == names, "the values of a saved workflow go by their order"
    assert now["outputs"] == then["outputs"] and now["output_names"] == then["output_names"]
    for name, one in then["inputs"].items():
        found = now["inputs"][name]
        assert not set(one.get("former", [])) & set(found.get("choices", [])), "one name for one thing"
        assert set(one.get("choices", [])) <= set(found.get("choices", [])), name
        assert (found["group"], found["kind"], found["default"]) == (one["group"], one["kind"], one["default"]), name
    assert all(one["group"] == "optional" for name, one in now["inputs"].items() if name not in then["inputs"])


def test_a_schedule_of_this_version_reads_and_a_newer_one_is_refused():
    from lemica.schedules import Schedule, ScheduleError

    data = {"schema": 1, "name": "old", **schedule()}
    assert Schedule.from_json(data).to_json() == data
    with pytest.raises(ScheduleError, match="schema 3, this version of ComfyUI-LeMiCa reads up to 2: update the node pack"):
        Schedule.from_json({**data, "schema": 3})
    del data["sigmas"], data["source"]
    assert Schedule.from_json(data).sigmas is None, "the first files had neither"


def test_a_graph_of_this_version_reads_and_a_newer_one_is_refused(tmp_path):
    from lemica.calibration import GraphError
    from lemica.calibration.graph import ErrorGraph

    path = tmp_path / "x.safetensors"
    make_graph().save(path)
    assert np.array_equal(ErrorGraph.load(path).errors, make_graph().errors)
    content = path.read_bytes()
    assert content.count(b'\\"schema\\": 2') == 1
    path.write_bytes(content.replace(b'\\"schema\\": 2', b'\\"schema\\": 3'))
    with pytest.raises(GraphError, match="schema 3, this version of ComfyUI-LeMiCa reads up to 2: update the node pack"):
        ErrorGraph.load(path)


def test_a_graph_of_the_first_version_reads_and_does_not_know_the_patches_of_its_model(tmp_path):
    from dataclasses import replace

    from lemica.calibration.graph import ErrorGraph
    from safetensors import safe_open
    from safetensors.numpy import save

    path = tmp_path / "x.safetensors"
    make_graph().save(path)
    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["lemica_error_graph"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    del about["model"]["patches"]
    path.write_bytes(save(tensors, {"lemica_error_graph": json.dumps({**about, "schema": 1})}))
    graph = ErrorGraph.load(path)
    assert graph.model == replace(make_graph().model, patches=None)
    assert np.array_equal(graph.errors, make_graph().errors)


@pytest.mark.parametrize(
    "origin, source, read",
    [
        ("calibrated", {"predicted": {"worst": 0.1, "total": 0.2}}, "predicted"),
        ("calibrated", {"measured": {"mean": 0.1, "worst": 0.2}}, "calibrated"),
        ("calibrated", {}, "calibrated"),
        ("custom", {"predicted": {"worst": 0.1, "total": 0.2}}, "custom"),
    ],
)
def test_what_the_first_version_called_calibrated_and_was_only_predicted_reads_as_predicted(origin, source, read):
    from lemica.schedules import Schedule

    data = {"schema": 1, "name": "old", **schedule(origin=origin, source=source)}
    assert Schedule.from_json(data).origin == read


@pytest.mark.parametrize("file", ["job.json", "run-", "replays-"])
def test_a_job_of_a_newer_version_is_left_alone(tmp_path, file):
    from lemica.calibration import Sample
    from lemica.calibration.full_run import FullRun, Measured
    from lemica.calibration.job_error import JobError
    from lemica.calibration.job_folder import JobFolder

    folder = JobFolder(tmp_path / "job", {"family": "x"}, 2)
    folder.open()
    final, derivatives = np.ones(1, dtype=np.float32), np.zeros((1, 2, 1), dtype=np.float32)
    full = FullRun(Sample("a cat", 1), "0123", final, derivatives, np.zeros((2, 2)))
    folder.save(full)
    folder.save_replayed(Measured(full, np.ones(2)))
    folder.close()
    (path,) = (tmp_path / "job").glob(f"{file}*")
    before, after = (b'"schema": 1', b'"schema": 3') if file == "job.json" else (b'\\"schema\\": 1', b'\\"schema\\": 3')
    assert before in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(before, after))
    content = path.read_bytes()
    with pytest.raises(JobError, match="version"):
        folder.open()
        folder.load_all()
    folder.close()
    assert path.read_bytes() == content


@pytest.mark.parametrize("now", ["", "0123456789abcdef"])
def test_a_job_of_the_first_version_goes_on_and_is_known_not_to_know_the_patches_of_its_model(tmp_path, now):
    from lemica.calibration.job_folder import JobFolder

    old = JobFolder(tmp_path / "job", {"family": "x", "file": "a"}, 2)
    old.open()
    old.close()
    assert not old.unknown_patches
    resumed = JobFolder(tmp_path / "job", {"family": "x", "file": "a", "patches": now}, 2)
    resumed.open()
    resumed.close()
    assert resumed.unknown_patches


def test_a_job_goes_on_only_with_the_patches_that_it_was_begun_with(tmp_path):
    from lemica.calibration.job_error import JobError
    from lemica.calibration.job_folder import JobFolder

    def job(**identity):
        return JobFolder(tmp_path / "job", {"family": "x", **identity}, 2)

    first = job(patches="abc")
    first.open()
    first.close()
    again = job(patches="abc")
    again.open()
    again.close()
    assert not again.unknown_patches
    for patches in ("", "abd"):
        with pytest.raises(JobError, match="patches"):
            job(patches=patches).open()
    with pytest.raises(JobError, match="file"):
        job(patches="abc", file="other").open()
