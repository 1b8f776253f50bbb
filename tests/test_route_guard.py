"""Requests that a page of another web site could send are turned away, and those of the server's own pages are not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp
import pytest
from route_requests import OURS, files, form, user_folder

DELETE = json.dumps({"kind": "schedule", "name": "mine"}).encode()
GETS = ["library", "calibration?name=measured", "jobs", "export?kind=schedule&name=mine"]
POSTS = ["plan", "cost", "solve", "save", "rename", "delete", "merge", "import"]


@pytest.fixture
def user(server) -> Iterator[Path]:
    """The pack's folder in the user's directory."""
    yield from user_folder(server)


def ask(server, route: str, content: bytes | None, headers: dict[str, str]) -> tuple[int, str]:
    """Status and text of an answer; nothing is sent but these headers."""

    async def asked() -> tuple[int, str]:
        session = aiohttp.ClientSession(server.url, skip_auto_headers=("Content-Type", "User-Agent"))
        async with session, session.request(
            "GET" if content is None else "POST", f"/lemica/{route}", data=content, headers=headers
        ) as answer:
            return answer.status, await answer.text()

    return asyncio.run(asked())


def host(server) -> str:
    return urlsplit(server.url).netloc


@pytest.mark.parametrize("change, status, told", [
    ({"X-LeMiCa": None}, 403, "X-LeMiCa: 1"),
    ({"X-LeMiCa": "2"}, 403, "X-LeMiCa: 1"),
    ({"Content-Type": None}, 415, "application/json"),
    ({"Content-Type": "text/plain"}, 415, "application/json"),
    ({"Content-Type": "text/plain; charset=application/json"}, 415, "application/json"),
    ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "application/json"),
    ({"Content-Type": "multipart/form-data; boundary=edge"}, 415, "application/json"),
    ({"Origin": "null"}, 403, "null"),
    ({"Origin": "file://"}, 403, "file://"),
    ({"Origin": ""}, 403, "page of ''"),
])
def test_what_a_foreign_page_could_send_changes_nothing(server, user, change, status, told):
    before = files(user)
    headers = {key: value for key, value in {**OURS, **change}.items() if value is not None}
    answered, text = ask(server, "delete", DELETE, headers)
    assert answered == status and told in json.loads(text)["error"]
    assert files(user) == before
    assert ask(server, "delete", DELETE, OURS) == (200, "{}")


@pytest.mark.parametrize("route", POSTS)
def test_every_route_that_is_posted_to_wants_the_header(server, user, route):
    body, headers = form("x.json", b"{}") if route == "import" else (b"{}", {"Content-Type": "application/json"})
    for origin in ({}, {"Origin": server.url}, {"Origin": "null"}):
        assert ask(server, route, body, {**headers, **origin})[0] == 403
    assert ask(server, route, body, {**headers, "X-LeMiCa": "1", "Origin": "null"})[0] == 403
    assert ask(server, route, body, {**headers, "X-LeMiCa": "1", "Origin": server.url})[0] == 400


@pytest.mark.parametrize("name", ["rebound.example", "rebound.example:8188", "localhost.rebound.example", "127.0.0.1.example", ""])
def test_a_name_that_leads_here_without_being_ours_is_told_nothing(server, user, name):
    """A page of rebound.example, whose name now leads to this machine: host and origin agree."""
    before = files(user)
    for route in GETS:
        status, text = ask(server, route, None, {"Host": name})
        assert status == 403 and "hosts.txt" in json.loads(text)["error"] and "measured" not in text
    status, text = ask(server, "delete", DELETE, {**OURS, "Host": name, "Origin": f"http://{name}"})
    assert status == 403 and "hosts.txt" in json.loads(text)["error"]
    assert files(user) == before


@pytest.mark.parametrize("name", ["localhost", "comfy.localhost", "127.0.0.1", "[::1]", "192.168.1.5"])
def test_names_that_lead_to_this_machine_only_are_ours(server, user, name):
    port = urlsplit(server.url).port
    for own in (name, f"{name}:{port}"):
        assert ask(server, "library", None, {"Host": own})[0] == 200
        assert ask(server, "plan", b"{}", {**OURS, "Host": own, "Origin": f"http://{own}"})[0] == 400


def test_a_name_that_the_owner_wrote_down_is_let_in(server, user):
    headers = {"Host": "Comfy.Example:8443"}
    assert ask(server, "library", None, headers)[0] == 403
    (user / "hosts.txt").write_text("other.example\n\n  comfy.example \n")
    assert ask(server, "library", None, headers)[0] == 200
    posted = {**OURS, **headers}
    assert ask(server, "delete", DELETE, {**posted, "Origin": "https://elsewhere.example"})[0] == 403
    assert ask(server, "delete", DELETE, {**posted, "Origin": "https://comfy.example:8443"})[0] == 200
    (user / "hosts.txt").write_bytes(b"\xff\xfe" * 100_000)
    assert ask(server, "library", None, headers)[0] == 403


def judged(monkeypatch, listen: str, method: str = "POST", **headers: str) -> bool:
    """Whether a server that listens there takes a request."""
    from comfy.cli_args import args
    from lemica.nodes.route_guard import ForbiddenError, check_sender

    monkeypatch.setattr(args, "listen", listen)
    try:
        check_sender(SimpleNamespace(method=method, headers={"X-LeMiCa": "1", **headers}))
    except ForbiddenError:
        return False
    return True


@pytest.mark.parametrize("listen, taken", [
    ("127.0.0.1", False), ("127.0.0.1,::1", False), ("localhost", False), ("127.2.2.2, 127.3.3.3", False),
    ("0.0.0.0", True), ("0.0.0.0,::", True), ("127.0.0.1,192.168.1.5", True), ("", True),
])
def test_a_server_that_others_can_reach_may_have_any_name(comfy, monkeypatch, listen, taken):
    assert judged(monkeypatch, listen, "GET", Host="workstation.lan:8188") == taken


@pytest.mark.parametrize("origin, own, taken", [
    ("http://workstation:8188", "workstation:8188", True),
    ("http://Workstation:8188", "workstation:8188", True),
    ("https://comfy.example", "comfy.example", True),
    ("https://comfy.example", "comfy.example:443", True),
    ("https://comfy.example:8443", "comfy.example", True),
    ("http://workstation:3000", "workstation:8188", False),
    ("http://workstation", "workstation:8188", False),
    ("http://elsewhere.example", "workstation:8188", False),
    ("http://workstation:8188.elsewhere.example", "workstation:8188", False),
    ("http://workstation@elsewhere.example", "workstation", False),
    ("http://", "", False), ("http://x:y", "x", False), ("null", "null", False),
])
def test_an_origin_has_to_be_where_the_request_goes(comfy, monkeypatch, origin, own, taken):
    assert judged(monkeypatch, "0.0.0.0", Origin=origin, Host=own) == taken


def test_programs_that_name_neither_host_nor_origin_are_taken(comfy, monkeypatch):
    assert judged(monkeypatch, "127.0.0.1")
