"""What the registry hands out: packed by comfy-cli, checked, and run in a ComfyUI that has nothing else."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from chromium import drive
from lemica.workflows.calibration import Changes, calibrate_node, changed
from lemica.workflows.client import queue
from lemica.workflows.convert import to_prompt
from PIL import Image

if TYPE_CHECKING:
    from lemica.workflows.server import Server

ROOT = Path(__file__).resolve().parent.parent
SHIPS = {
    "LICENSE", "README.md", "__init__.py", "cache", "calibration", "example_workflows", "locales", "nodes", "pyproject.toml",
    "requirements.txt", "schedules", "subgraphs", "web",
}
"""Everything at the top of the archive."""
OPTIONAL = {"nodes/cluster"}
"""Modules that the pack does without: they come with a checkout of the repository only."""
MEBIBYTE = 1 << 20
FLAGGED = re.compile(
    r"subprocess|os\.system|urllib|(import|from)\s+(requests|socket)\b|\b(requests|socket)\.\w|os\.environ|importlib|pickle"
    r"|torch\.load\b"
    r"|\beval\s*\(|\bexec\s*\(|pip install|\.connect\s*\(|\.bind\s*\(|\.send\s*\("
)
"""What the registry's scan is reported to hold a version back for, wherever it stands."""


def run(command: list[str | Path], folder: Path, **variables: str) -> str:
    done = subprocess.run(command, cwd=folder, env=os.environ | variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """The files of this checkout in a repository of their own, as they are now."""
    folder = tmp_path_factory.mktemp("checkout")
    files = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT).split("\0")
    for file in {file for file in files if file and os.path.lexists(ROOT / file)}:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes((ROOT / file).read_bytes())
    run(["git", "init", "--quiet"], folder)
    run(["git", "add", "--all"], folder)
    return folder


@pytest.fixture(scope="module")
def told(checkout, tmp_path_factory) -> dict[str, str]:
    """What comfy-cli says when it validates and packs the checkout; it asks nothing, and tells nobody."""
    home = tmp_path_factory.mktemp("home")
    private = {"DO_NOT_TRACK": "1", "HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home)}
    comfy = [sys.executable, "-m", "comfy_cli", "--skip-prompt", "node"]
    return {command: run([*comfy, command], checkout, **private) for command in ("validate", "pack")}


@pytest.fixture(scope="module")
def archive(told, checkout) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(checkout / "node.zip") as file:
        yield file


@pytest.fixture(scope="module")
def base(archive, tmp_path_factory) -> Path:
    """The base folder of a ComfyUI that has this archive as its only node pack."""
    folder = tmp_path_factory.mktemp("base")
    archive.extractall(folder / "custom_nodes" / "lemica")
    return folder


def test_the_registry_would_take_it(told):
    for command, text in told.items():
        assert not re.search("warning|error|invalid|not found", text, re.IGNORECASE), (command, text)
    assert "All validation checks passed" in told["validate"] and "Created zip file" in told["pack"]


def test_only_what_comfyui_loads_is_in_it(archive, checkout):
    assert {name.partition("/")[0] for name in archive.namelist()} == SHIPS
    assert (checkout / "node.zip").stat().st_size < 13 * MEBIBYTE
    for member in archive.infolist():
        assert member.external_attr >> 28 != 0o12, f"{member.filename} is a link"
        assert not re.search(r"__pycache__|\.pyc$|(^|/)\.", member.filename)


def test_nothing_that_a_scan_holds_back_is_in_it(archive):
    looked = 0
    for name in archive.namelist():
        if not name.endswith((".jpg", ".safetensors")):
            looked += name.endswith((".py", ".js"))
            found = [line for line in archive.read(name).decode().splitlines() if FLAGGED.search(line)]
            assert found == [], name
    assert looked > 100


@pytest.mark.parametrize(
    "line",
    [
        "import subprocess", "os.system('x')", "from urllib.request import urlopen", "import requests", "requests.get(x)",
        "import socket", "socket.socket()", "os.environ['X']", "importlib.import_module(x)", "from pickle import loads",
        "torch.load(x)", "model.eval()", "exec(x)", "python -m pip install x", "other.connect(x)", "call.bind(x)",
        "server.send(x)",
    ],
)
def test_the_scan_finds_what_it_looks_for(line):
    assert FLAGGED.search(line)


def test_what_is_packed_imports_nothing_that_is_not(archive):
    """Relative imports lead to a file of the archive, but for parts that are not there on purpose."""
    names = set(archive.namelist())
    for name in names:
        if not name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(archive.read(name))):
            if isinstance(node, ast.ImportFrom) and node.level:
                folder = name.split("/")[: -node.level]
                path = "/".join([*folder, *(node.module or "").split(".")]).strip("/")
                there = {f"{path}.py", f"{path}/__init__.py"} & names
                assert there or path in OPTIONAL, (name, path)


@pytest.fixture(scope="module")
def packed(base, comfyui, tmp_path_factory) -> Iterator[Server]:
    """A ComfyUI that has the archive as its only node pack."""
    from lemica.workflows.server import Server

    folder = tmp_path_factory.mktemp("packed")
    with Server(comfyui, folder / "output", user=folder / "user", base=base) as server:
        yield server
        log = server.log.read_text(encoding="utf-8")
        assert "Cannot import" not in log and "Traceback" not in log


def test_the_demo_runs_from_it_in_an_empty_comfyui(archive, packed):
    info = packed.object_info()
    ours = {node["python_module"] for name, node in info.items() if name.startswith("LeMiCa")}
    assert ours == {"custom_nodes.lemica"}
    templates = [f"example_workflows/{name}.json" for name in packed.get("/workflow_templates")["lemica"]]
    assert sorted(templates) == sorted(name for name in archive.namelist() if re.match("example_.*json", name))
    graph = json.loads(archive.read("example_workflows/demo_video.json"))
    execution = queue(packed, to_prompt(graph, info))
    computed = sorted((len(event["computed"]), event["steps"]) for event in execution.lemica)
    assert computed == [(8, 30), (10, 30), (13, 30), (18, 30)]
    assert len(execution.files(packed.output)) > len(computed)


def test_without_the_part_for_ray_a_workflow_that_asks_for_it_is_measured_in_one_process(archive, packed):
    info = packed.object_info()
    for name in ("LeMiCaCalibrate", "LeMiCaCalibrateCustom"):
        assert not {"ray", "workers"} & set(info[name]["input"]["optional"])
    graph = json.loads(archive.read("example_workflows/calibrate.json"))
    prompt = changed(to_prompt(graph, info), info, Changes(steps=4, mode="quick", samples=1, name="elsewhere"))
    node = calibrate_node(prompt)
    prompt[node]["inputs"] |= {"tries": 0, "ray": "127.0.0.1:1", "workers": 2}
    [summary] = queue(packed, prompt).outputs[node]["text"]
    assert summary.startswith("**elsewhere**: lemica-demo, 4 steps")


def test_without_the_part_for_ray_the_page_shows_a_workflow_that_has_its_values(archive, packed, tmp_path):
    graph = json.loads(archive.read("example_workflows/calibrate.json"))
    [node] = [node for node in graph["nodes"] if node["type"] == "LeMiCaCalibrate"]
    node["widgets_values"] += ["local", 2]
    (tmp_path / "saved.json").write_text(json.dumps(graph))
    values = {"type": node["type"], "set": {"tries": 7}}
    page = drive("prompt.mjs", packed.url, file=tmp_path / "saved.json", values=values)
    assert page["problems"] == [] and page["dialogs"] == [] and not {"ray", "workers"} & set(page["widgets"])
    queued = page["prompt"][str(node["id"])]["inputs"]
    assert not {"ray", "workers"} & set(queued)
    before = to_prompt(graph, packed.object_info())[str(node["id"])]["inputs"]
    assert {name: queued[name] for name in before} == before | {"tries": 7}


def test_the_registry_gets_a_picture_of_each_kind(checkout):
    project = (checkout / "pyproject.toml").read_text(encoding="utf-8")
    repository = re.search(r'^Repository = "https://github.com/(.+)"$', project, re.MULTILINE)[1]
    for kind, most in (("Icon", (800, 400)), ("Banner", (2100, 900))):
        file = re.search(rf'^{kind} = "https://raw.githubusercontent.com/{repository}/main/(.+)"$', project, re.MULTILINE)[1]
        with Image.open(checkout / file) as image:
            assert image.format == "PNG" and image.width <= most[0] and image.height <= most[1]
            assert kind == "Icon" or image.width * 9 == image.height * 21
        assert (checkout / file).stat().st_size < 100_000


@pytest.mark.parametrize("tag, changes, told", [
    ("v{}", "## [{}]\n\n- New.\n\n## [0.0.1]\n\n- Old.\n", "- New."),
    ("v{}1", "## [{}]\n\n- New.\n", "The tag is v"),
    ("v{}", "## [0.0.1]\n\n- Old.\n", "CHANGELOG.md says nothing"),
])
def test_a_tag_is_published_if_it_is_the_version_and_the_changelog_has_it(checkout, tmp_path, tag, changes, told):
    """The step of the workflow, as GitHub would run it."""
    steps = yaml.safe_load((checkout / ".github/workflows/publish.yml").read_text())["jobs"]["publish"]["steps"]
    [command] = [step["run"] for step in steps if "run" in step]
    version = re.search(r'^version = "(.+)"$', (checkout / "pyproject.toml").read_text(), re.MULTILINE)[1]
    (tmp_path / "pyproject.toml").write_bytes((checkout / "pyproject.toml").read_bytes())
    (tmp_path / "CHANGELOG.md").write_text(changes.format(version))
    variables = {"GITHUB_REF_NAME": tag.format(version), "GITHUB_ENV": str(tmp_path / "env")}
    done = subprocess.run(
        ["bash", "-e", "-c", command], cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True
    )
    assert (done.returncode == 0) == told.startswith("- ") and told in (done.stdout or (tmp_path / "env").read_text())
    assert done.returncode or "Old" not in (tmp_path / "env").read_text()


def test_the_changelog_has_the_version(checkout):
    version = re.search(r'^version = "(.+)"$', (checkout / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert re.search(r"^## \[(.+)\]", (checkout / "CHANGELOG.md").read_text(), re.MULTILINE)[1] in (version, "Unreleased")


def test_the_workflows_run_commands_that_the_readme_names(checkout):
    steps = yaml.safe_load((checkout / ".github/workflows/test.yml").read_text())["jobs"]["test"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands == ["tests/run --lint", "tests/run"]
    assert "\n    tests/run\n" in (checkout / "README.md").read_text() and (checkout / "tests" / "run").is_file()
