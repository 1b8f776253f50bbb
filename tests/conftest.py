"""What every test has: the pack as `lemica`, ComfyUI as modules (`comfy`) and as a running server (`server`)."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import signal
import sys
import types
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Neither the repository on sys.path, where its nodes/ would hide ComfyUI's nodes.py, nor its __init__, which needs
# a running ComfyUI.
pack = types.ModuleType("lemica")
pack.__path__ = [str(ROOT)]
sys.modules["lemica"] = pack

if TYPE_CHECKING:
    from lemica.workflows.client import Execution, Prompt
    from lemica.workflows.environment import ComfyUI
    from lemica.workflows.server import Server


def pytest_configure() -> None:
    """Cases take as long as the machine takes. SIGTERM ends as Ctrl-C does, so that fixtures end, and the server."""
    from hypothesis import HealthCheck, settings
    from lemica.workflows.environment import stop_once

    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")
    signal.signal(signal.SIGTERM, stop_once)


def pytest_report_header() -> str:
    """The versions that count, for tests/versions.py and for whoever reports a failure."""
    versions = {"Python": platform.python_version()}
    for name in ("numpy", "torch"):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    if "LEMICA_COMFYUI" in os.environ:
        text = Path(os.environ["LEMICA_COMFYUI"], "comfyui_version.py").read_text(encoding="utf-8")
        versions["ComfyUI"] = text.split('"')[1]
    return "versions: " + ", ".join(f"{name} {version}" for name, version in versions.items())


@pytest.fixture(scope="session")
def comfyui() -> ComfyUI:
    """The ComfyUI that tests/run found or built."""
    from lemica.workflows.environment import ComfyUI

    if "LEMICA_COMFYUI" not in os.environ:
        pytest.fail("This test needs ComfyUI: start the tests with tests/run, which finds or builds one.", pytrace=False)
    path, python = Path(os.environ["LEMICA_COMFYUI"]), Path(os.environ["LEMICA_COMFYUI_PYTHON"])
    return ComfyUI(path, python, owned=bool(os.environ["LEMICA_COMFYUI_OWNED"]))


@pytest.fixture(scope="session")
def comfy(comfyui: ComfyUI, tmp_path_factory: pytest.TempPathFactory) -> types.ModuleType:
    """ComfyUI's `comfy` package, importable from here on, on the CPU where there is no accelerator."""
    import torch

    sys.path.insert(0, str(comfyui.path))
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = not any(device.is_available() for device in (torch.cuda, torch.backends.mps, torch.xpu))
    import folder_paths

    folders = tmp_path_factory.mktemp("comfyui")
    for kind in ("output", "temp", "user", "input"):
        (folders / kind).mkdir()
        getattr(folder_paths, f"set_{kind}_directory")(str(folders / kind))
    return comfy


@pytest.fixture(scope="session")
def runs(comfy: types.ModuleType) -> types.ModuleType:
    """Tiny models under a schedule."""
    import family_runs

    return family_runs


@pytest.fixture(scope="session")
def tiny(comfy: types.ModuleType) -> types.ModuleType:
    """Transformer families at tiny width."""
    import tiny_models

    return tiny_models


class RunningServer:
    """The real ComfyUI server with this pack in it; ``pictures`` is the folder for those that tests take of its page."""

    def __init__(self, server: Server, pictures: Path) -> None:
        self._server = server
        self.pictures = pictures
        self.url = server.url
        self.output = server.output
        self.user = server.user
        self.log = server.log
        self.process = server

    def queue(self, prompt: Prompt) -> Execution:
        """Run a prompt to its end; its `lemica` holds the events of the LeMiCa nodes."""
        from lemica.workflows.client import queue

        return queue(self._server, prompt)

    def object_info(self) -> dict[str, Any]:
        return self._server.object_info()


@pytest.fixture(scope="session")
def server(comfyui: ComfyUI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all tests, with folders of its own."""
    from lemica.workflows.server import Server

    folders = tmp_path_factory.mktemp("server")
    with Server(comfyui, folders / "output", user=folders / "user") as running:
        yield RunningServer(running, ROOT / "tests" / "web" / "screenshots")


@pytest.fixture(scope="session")
def newest_server(comfyui: ComfyUI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all tests of the page, with the newest frontend in place of the one that its ComfyUI has."""
    from chromium import newest_frontend
    from lemica.workflows.server import Server

    folders = tmp_path_factory.mktemp("newest")
    frontend = newest_frontend(comfyui)
    with Server(comfyui, folders / "output", user=folders / "user", frontend=frontend) as running:
        yield RunningServer(running, folders / "pictures")


@pytest.fixture(scope="session")
def graphs(comfy: types.ModuleType) -> types.ModuleType:
    """What tests of whole graphs share; imported once ComfyUI is there."""
    import graphs

    return graphs


@pytest.fixture(scope="session")
def tiny_wan(comfy: types.ModuleType) -> types.ModuleType:
    """Wan models of tiny width; imported once ComfyUI is there."""
    import tiny_wan

    return tiny_wan


@pytest.fixture(scope="module")
def wan(tiny_wan: types.ModuleType) -> Any:
    """The patcher of a tiny Wan, one for a file of tests."""
    return tiny_wan.make_wan()


@pytest.fixture
def pictures(tiny_wan: types.ModuleType, wan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes pictures that are learned from, into a user folder of its own."""
    import folder_paths
    from learning_pictures import Pictures
    from lemica.cache.identity import identify

    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(tmp_path))
    return Pictures(tiny_wan, wan, replace(identify(wan), file="mine.safetensors"))


@pytest.fixture
def records(pictures: Any) -> Any:
    """What was learned from them."""
    from lemica.nodes.library import records

    return records()
