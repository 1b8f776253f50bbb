"""What saved workflows hold of the nodes: ids, inputs in their order, outputs; and files of other versions.

frozen_nodes.json is what workflows that were saved may rely on. What is new goes to the end of the optional inputs, and
into that file.
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
        assert set(one.get("choices", [])) <= set(found.get("choices", [])), name
        assert (found["group"], found["kind"], found["default"]) == (one["group"], one["kind"], one["default"]), name
    assert all(one["group"] == "optional" for name, one in now["inputs"].items() if name not in then["inputs"])


def test_a_schedule_of_this_version_reads_and_a_newer_one_is_refused():
    from lemica.schedules import Schedule, ScheduleError

    data = {"schema": 1, "name": "old", **schedule()}
    assert Schedule.from_json(data).to_json() == data
    with pytest.raises(ScheduleError, match="schema 2, this version of ComfyUI-LeMiCa reads up to 1: update the node pack"):
        Schedule.from_json({**data, "schema": 2})
    del data["sigmas"], data["source"]
    assert Schedule.from_json(data).sigmas is None, "the first files had neither"


def test_a_graph_of_this_version_reads_and_a_newer_one_is_refused(tmp_path):
    from lemica.calibration import GraphError
    from lemica.calibration.graph import ErrorGraph

    path = tmp_path / "x.safetensors"
    make_graph().save(path)
    assert np.array_equal(ErrorGraph.load(path).errors, make_graph().errors)
    content = path.read_bytes()
    assert content.count(b'\\"schema\\": 1') == 1
    path.write_bytes(content.replace(b'\\"schema\\": 1', b'\\"schema\\": 2'))
    with pytest.raises(GraphError, match="schema 2, this version of ComfyUI-LeMiCa reads up to 1: update the node pack"):
        ErrorGraph.load(path)


@pytest.mark.parametrize("file", ["job.json", "sample"])
def test_a_job_of_a_newer_version_is_left_alone(tmp_path, file):
    from lemica.calibration import Sample
    from lemica.calibration.job_folder import JobError, JobFolder, Measured

    folder = JobFolder(tmp_path / "job", {"family": "x"}, 2)
    folder.open()
    folder.save(Measured(Sample("a cat", 1), "0123", [1.0], np.zeros(2), np.ones(2)))
    folder.close()
    (path,) = (tmp_path / "job").glob(f"{file}*")
    before, after = (b'"schema": 1', b'"schema": 2') if file == "job.json" else (b'\\"schema\\": 1', b'\\"schema\\": 2')
    assert before in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(before, after))
    content = path.read_bytes()
    with pytest.raises(JobError, match="version"):
        folder.open()
        folder.load_all()
    folder.close()
    assert path.read_bytes() == content
