"""Importing and exporting schedules and calibrations, on a running server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from route_requests import PACKAGED, files, form, get, make_graph, post, schedule, send, send_much, upload, user_folder


@pytest.fixture
def user(server) -> Iterator[Path]:
    """The pack's folder in the user's directory."""
    yield from user_folder(server)


@pytest.mark.parametrize("kind, name, suffix", [
    ("schedule", "mine", ".json"), ("calibration", "measured", ".safetensors"), ("schedule", PACKAGED, ".json"),
])
def test_what_was_exported_is_the_same_when_imported_but_for_a_mark(server, user, kind, name, suffix):
    from lemica.calibration import ErrorGraph

    exported = get(server, "export", kind=kind, name=name)
    file = re.fullmatch(r'attachment; filename="([a-z0-9.-]+)"', exported.headers["Content-Disposition"])[1]
    assert file.endswith(suffix)
    if name != PACKAGED:
        assert post(server, "delete", {"kind": kind, "name": name}).status == 200
    again = upload(server, file, exported.content).json
    assert again == {"kind": kind, "name": f"{name} (2)" if name == PACKAGED else name}
    back = get(server, "export", kind=kind, name=again["name"]).content
    if kind == "schedule":
        one, other = json.loads(exported.content), json.loads(back)
        assert other["source"].pop("imported") is True
        if name == PACKAGED:
            assert (one.pop("origin"), other.pop("origin")) == ("published", "imported")
        assert other == {**one, "name": again["name"]}
    else:
        assert get(server, "library").json["calibrations"][0]["imported"] is True
        (user / "one").write_bytes(exported.content)
        (user / "other").write_bytes(back)
        one, other = (ErrorGraph.load(user / file) for file in ("one", "other"))
        assert np.array_equal(one.errors, other.errors) and (one.model, one.setup) == (other.model, other.setup)
        assert {**one.source, "imported": True} == other.source
    assert upload(server, file.upper(), exported.content).json["name"] == f"{name} ({3 if name == PACKAGED else 2})"


def test_an_import_never_takes_a_name_that_is_in_use(server, user):
    graph = replace(make_graph(), source={"name": "mine"})
    graph.save(user / "import")
    content = (user / "import").read_bytes()
    assert upload(server, "x.safetensors", content).json == {"kind": "calibration", "name": "mine (2)"}
    data = {"schema": 1, "name": "auto", **schedule()}
    assert upload(server, "x.json", json.dumps(data).encode()).json == {"kind": "schedule", "name": "auto (2)"}


def test_a_calibration_without_a_name_takes_that_of_its_file(server, user):
    make_graph().save(user / "import")
    content = (user / "import").read_bytes()
    assert upload(server, "../../From a friend.safetensors", content).json["name"] == "From a friend"
    from lemica.calibration.store import Calibrations

    graph = Calibrations(user / "calibrations").get("From a friend")
    assert np.array_equal(graph.errors, make_graph().errors) and graph.samples == make_graph().samples


def broken_files(user: Path) -> dict[str, tuple[str, bytes]]:
    from safetensors.numpy import save

    make_graph().save(user / "import")
    graph = (user / "import").read_bytes()
    (user / "import").unlink()
    good = json.dumps({"schema": 1, "name": "x", **schedule()}).encode()
    arrays = {"segments": np.zeros((1, 4), np.int32), "errors": np.zeros((1, 1))}
    return {
        "empty": ("x.json", b""), "half": ("x.json", good[:-9]), "list": ("x.json", b"[1]"),
        "deep": ("x.json", b"[" * 99999),
        "newer": ("x.json", good.replace(b'"schema": 1', b'"schema": 9')), "not a text": ("x.json", b"\xff\xfe\xfa"),
        "path": ("x.json", good.replace(b'"name": "x"', b'"name": "a\\u0000b"')),
        "a workflow": ("x.json", b'{"nodes": [], "links": []}'), "a graph": ("x.json", graph),
        "nothing": ("x.safetensors", b""), "half a graph": ("x.safetensors", graph[:-9]),
        "a header": ("x.safetensors", graph[:40]), "a schedule": ("x.safetensors", good),
        "a long number": ("x.safetensors", save(arrays, {"lemica_error_graph": "9" * 5000})),
        "a model": ("x.safetensors", save({"weight": np.zeros(4)})),
        "numbers": ("x.safetensors", graph.replace(b'\\"seed\\": 1', b'\\"seed\\": x')),
        "other kind": ("x.txt", good), "no suffix": ("json", good), "no name": (".safetensors", graph),
    }


@pytest.mark.parametrize("which", [
    "empty", "half", "list", "deep", "newer", "not a text", "path", "a workflow", "a graph", "nothing", "half a graph",
    "a header", "a schedule", "a model", "a long number", "numbers", "other kind", "no suffix", "no name",
])
def test_files_that_are_none_are_refused_and_leave_nothing(server, user, which):
    name, content = broken_files(user)[which]
    before = files(user)
    answer = upload(server, name, content)
    assert answer.status == 400 and answer.error and str(server.user) not in answer.error
    assert files(user) == before and not list(user.rglob(".import*"))


def test_files_that_are_too_large_are_refused(server, user):
    before = files(user)
    assert upload(server, "x.json", b" " * (1 << 20) + b"{}").status == 413
    assert send_much(server, 101 << 20) == 413
    assert files(user) == before


def test_a_disk_that_refuses_is_told_without_its_paths(server, user):
    content = get(server, "export", kind="schedule", name="mine").content
    for file in (user / "schedules").iterdir():
        file.unlink()
    (user / "schedules").rmdir()
    (user / "schedules").write_text("in the way")
    for answer in (upload(server, "x.json", content), post(server, "save", {"schedule": schedule(), "name": "new"})):
        assert answer.status == 507 and "could not be written" in answer.error.replace("read or ", "")
        assert str(server.user) not in answer.error


def test_forms_without_a_file_are_refused(server, user):
    body, headers = form("x.json", b"{}")
    assert "'file'" in upload(server, "x.json", b"{}", field="other").error
    fields = {"Content-Type": "application/x-www-form-urlencoded"}
    assert "'file'" in send(server, "/lemica/import", b"file=x", fields).error
    assert send(server, "/lemica/import", b"{}").status == 400
    for broken in (b"", body[:60], body[:-12], b"--edge\r\n\r\n{}\r\n--edge--\r\n", body.replace(b"edge", b"else")):
        assert send(server, "/lemica/import", broken, headers).status == 400
    assert send(server, "/lemica/import", body, {"Content-Type": "multipart/form-data"}).status == 400


@pytest.mark.parametrize("query", [{}, {"kind": "schedule"}, {"name": "mine"}, {"kind": "../", "name": "mine"}])
def test_an_export_of_nothing_is_refused(server, user, query):
    assert get(server, "export", **query).status == 400
