"""SECURITY.md: every promise names tests that are there; and the promises that have no other place."""

from __future__ import annotations

import ast
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from route_requests import files, get, make_graph, schedule, send, user_folder

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("cache", "calibration", "nodes", "schedules")
MODULES = {"pickle", "marshal", "shelve", "dill", "subprocess", "socket", "ctypes", "importlib", "yaml", "code", "pty"}
CALLS = {"eval", "exec", "compile", "__import__"}
LOADERS = {"load": {"torch", "np", "numpy"}, "load_state_dict_from_url": {"hub"}}
"""What reads tensors, and may unpickle them unless it is told not to."""


@pytest.fixture
def user(server) -> Iterator[Path]:
    """The pack's folder in the user's directory."""
    yield from user_folder(server)


def promises() -> list[tuple[str, list[str]]]:
    rows = re.findall(r"^\| (.+?) \| (`.+`) \|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    return [(promise, re.findall(r"`([^`]+)`", tests)) for promise, tests in rows]


def test_every_promise_names_tests_that_are_there():
    assert len(promises()) > 20
    table_rows = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| ")]
    assert len(promises()) == len(table_rows) - 2, "every row but the two heads names a test"
    for promise, tests in promises():
        for name in tests:
            file, _, function = name.partition("::")
            tree = ast.parse((ROOT / "tests" / file).read_text())
            there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert function.startswith("test_") and function in there, (promise, name)


def test_every_command_that_it_names_is_there():
    commands = re.findall(r"^tests/run --script (\S+) (.+)$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    assert len(commands) == 5
    for script, options in commands:
        for option in re.findall(r"--\w+", options):
            assert f'"{option}"' in (ROOT / script).read_text(), script


def test_nothing_is_unpickled_evaluated_or_started():
    everything = [path for package in PACKAGES for path in (ROOT / package).glob("**/*.py")]
    paths = [path for path in everything if path.parent != ROOT / "calibration" / "cluster"]
    assert len(everything) > len(paths)
    assert len(paths) > 40
    loaders = 0
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                modules.append(node.module or "")
            assert not MODULES & {module.partition(".")[0] for module in modules}, path
            if not isinstance(node, ast.Call):
                continue
            assert getattr(node.func, "id", "") not in CALLS, path
            if isinstance(node.func, ast.Attribute):
                owner = ast.unparse(node.func.value)
                assert owner != "os" or not node.func.attr.startswith(("system", "popen", "exec", "spawn", "fork")), path
                if owner.rpartition(".")[2] in LOADERS.get(node.func.attr, ()):
                    loaders += 1
                    told = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
                    assert told.get("weights_only") is True or told.get("allow_pickle") is False, (path, node.func.attr)
    assert loaders > 0, "the trunk of LPIPS is one"


WRITING = {
    "mkdir", "mkstemp", "mkdtemp", "TemporaryDirectory", "NamedTemporaryFile", "write_text", "write_bytes", "FileLock", "touch",
    "symlink_to", "copyfile", "copytree", "move", "savez", "save_file", "write_atomically", "write_changed",
}
WRITERS = {
    "schedules/atomic.py", "schedules/store.py", "calibration/store.py", "calibration/graph.py", "calibration/job_folder.py",
    "calibration/cluster/facts.py", "calibration/cluster/link.py", "calibration/learning/records.py", "nodes/library.py",
}
"""Those whose places SECURITY.md lists."""


def test_whoever_writes_is_known():
    """A file of the pack that begins to write is to say where, in SECURITY.md, before it is put on this list."""
    found = set()
    for path in (path for package in PACKAGES for path in (ROOT / package).glob("**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                modes = [one.value for one in node.args[:2] if isinstance(one, ast.Constant) and isinstance(one.value, str)]
                opened = name in ("open", "fdopen") and any(set(mode) & set("wax+") and len(mode) < 4 for mode in modes)
                if name in WRITING or opened:
                    found.add(path.relative_to(ROOT).as_posix())
    assert found == WRITERS
    told = (ROOT / "SECURITY.md").read_text()
    assert all(f"`lemica/{place}`" in told for place in ("schedules", "calibrations", "learned", "digests", ".lock"))


@pytest.mark.parametrize("place", ["schedules/out.json", "calibrations/out.safetensors", "calibrations/half-12345678"])
def test_no_link_leads_out_of_the_user_directory(server, user, tmp_path, place):
    """A link to a schedule, to a calibration, and to the folder of a job."""
    link = user / place
    if link.suffix == ".json":
        (tmp_path / "outside").write_text(json.dumps({"schema": 1, "name": "outside", **schedule()}))
    elif link.suffix:
        make_graph(source={"name": "outside"}).save(tmp_path / "outside")
    else:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "job.json").write_text('{"outside": 1}')
    link.symlink_to(tmp_path / "outside")
    before = files(tmp_path)
    listed = get(server, "library")
    shown = {**listed.json, "problems": []}
    assert "outside" not in json.dumps(shown) and "half-1234" not in json.dumps(shown)
    assert str(tmp_path).encode() not in listed.content
    for kind in ("schedule", "calibration"):
        assert get(server, "export", kind=kind, name="outside").status == 404
    assert files(tmp_path) == before


def test_compressed_requests_that_grow_are_refused(server, user):
    """A body of a few kilobytes that says it is compressed, and would be 64 MiB."""
    before = files(user)
    content = gzip.compress(b" " * (64 << 20))
    assert len(content) < 100_000
    answer = send(server, "/lemica/solve", content, {"Content-Encoding": "gzip"})
    assert answer.status in (400, 413) and files(user) == before
    assert get(server, "library").status == 200


@pytest.mark.parametrize("stem", ['a"b', "a\nSet-Cookie: x", "a;b", "é" * 50, "\udcff", "x" * 200])
def test_the_name_of_a_download_is_plain_whatever_the_file_is_called(server, user, stem):
    """Of a calibration that was put into the folder by hand, and has no name but its file's."""
    make_graph().save(user / "calibrations" / f"{stem}.safetensors")
    (name,) = (one["name"] for one in get(server, "library").json["calibrations"] if one["name"] != "measured")
    answer = get(server, "export", kind="calibration", name=name)
    assert answer.status == 200
    assert re.fullmatch(r'attachment; filename="[a-z0-9.-]+\.safetensors"', answer.headers["Content-Disposition"])
    assert "Set-Cookie" not in answer.headers
