"""Where a calibration may be measured on Ray: at what the owner of the server lists, and at nothing that a workflow names."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from calibration_prompts import calibrate, demo_models, watch
from lemica.workflows.calibration import offer
from lemica.workflows.environment import ComfyUI
from lemica.workflows.failure import Failure

NODES = ("LeMiCaCalibrate", "LeMiCaCalibrateCustom")


@pytest.fixture
def listed(server) -> Iterator[Path]:
    """The file of the server's owner, not there yet."""
    file = server.user / "lemica" / "ray.txt"
    file.parent.mkdir(exist_ok=True)
    yield file
    shutil.rmtree(file.parent)


@pytest.fixture
def door() -> Iterator[socket.socket]:
    """A place where nobody is to knock."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.settimeout(0)
        yield door
        with pytest.raises(BlockingIOError):
            door.accept()


def address_of(door: socket.socket) -> str:
    return "{}:{}".format(*door.getsockname())


def test_the_nodes_offer_what_the_owner_lists(server, listed):
    def offered() -> list[list[str]]:
        info = server.object_info()
        return [info[name]["input"]["optional"]["ray"][1]["options"] for name in NODES]

    assert offered() == [[""]] * 2
    listed.write_text("# ours\n\nlocal\n  10.0.0.5:6379  # the box\nlocal\n")
    assert offered() == [["", "local", "10.0.0.5:6379"]] * 2
    listed.write_bytes(b"auto\n\xff\xfe\n")
    assert offered()[0][:2] == ["", "auto"]
    listed.unlink()
    listed.mkdir()
    assert offered() == [[""]] * 2


def test_a_workflow_that_names_another_address_is_refused(server, listed, door):
    listed.write_text("local\n")
    prompt = {"model": demo_models(server)[0], "calibrate": calibrate(ray=address_of(door))}
    with pytest.raises(Failure, match=f"ray: '{address_of(door)}' not in \\['', 'local'\\]"):
        server.queue(prompt)


def test_an_address_that_another_node_brings_is_refused(server, listed, door):
    """ComfyUI does not look at it before the node runs."""
    listed.write_text("local\n")
    text = {"class_type": "PrimitiveString", "inputs": {"value": address_of(door)}}
    either = {"class_type": "ComfySwitchNode", "inputs": {"switch": True, "on_true": ["text", 0], "on_false": ["text", 0]}}
    one = calibrate(ray=["either", 0])
    prompt = {"model": demo_models(server)[0], "text": text, "either": either, "calibrate": one}
    with pytest.raises(Failure, match=f"ray is '{address_of(door)}', and this server offers local: its owner lists"):
        server.queue(prompt)


def test_the_command_lists_the_address_that_it_is_given_once(tmp_path):
    file = tmp_path / "lemica" / "ray.txt"
    for address in ("local", "10.0.0.5:6379", "local"):
        offer(tmp_path, address)
    assert file.read_text() == "local\n10.0.0.5:6379\n"


def test_the_node_calibrates_on_an_address_that_is_listed(comfyui, tmp_path):
    """On a worker whose own server lists none."""
    from lemica.workflows.server import Server

    with_ray = ComfyUI(comfyui.path, Path(sys.executable), comfyui.owned)
    with Server(with_ray, tmp_path / "output", user=tmp_path / "user") as server:
        offer(server.user, "local")
        one = calibrate(name="shared", ray="local", workers=1)
        watched = watch(server, {"model": demo_models(server)[0], "calibrate": one})
    assert watched.error == "" and any("1 workers" in event.get("stage", "") for event in watched.events)
