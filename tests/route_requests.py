"""Requests to the routes of the pack on a running server, and what they are about."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import numpy as np

PACKAGED = "wan2.1-t2v-14b/b20"
"""A schedule that comes with the pack."""

ODD_NAMES = [
    "../x", "a/b", "..", "/etc/passwd", "C:\\x", "\x00", "a\x00b", "x" * 300, "x" * 5000, "\u6d4b\u8bd5", "\ud800",
    "", " ", "%2e%2e%2fx", "CON", "a\nb",
]


@dataclass
class Answer:
    """Status, headers and content of an answer."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self):
        assert self.headers["Content-Type"].startswith("application/json"), self
        return json.loads(self.content, parse_constant=refuse)

    @property
    def error(self) -> str:
        """What an answer complains of."""
        assert self.status >= 400, self
        assert set(self.json) <= {"error", "nearest"}
        return self.json["error"]


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


OURS = {"X-LeMiCa": "1", "Content-Type": "application/json"}
"""What the pages of the pack send with what may change something."""


def send(server, path: str, content: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    request = urllib.request.Request(server.url + path, content, {**(OURS if content is not None else {}), **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return Answer(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, dict(error.headers), error.read())


def get(server, route: str, **query: str) -> Answer:
    return send(server, f"/lemica/{route}?{urlencode(query, quote_via=quote, errors='surrogatepass')}")


def post(server, route: str, body: object) -> Answer:
    return send(server, f"/lemica/{route}", json.dumps(body).encode())


def upload(server, name: str, content: bytes, field: str = "file") -> Answer:
    return send(server, "/lemica/import", *form(name, content, field))


def form(name: str, content: bytes, field: str = "file") -> tuple[bytes, dict[str, str]]:
    """A form with one file, as a browser sends it."""
    headers = f'Content-Disposition: form-data; name="{field}"; filename="{name}"\r\nContent-Type: application/x'
    body = b"--edge\r\n" + headers.encode() + b"\r\n\r\n" + content + b"\r\n--edge--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=edge"}


def send_much(server, size: int) -> int:
    """Upload a calibration of so many bytes, in pieces; the status of the answer."""
    head, _, tail = form("large.safetensors", b"|")[0].partition(b"|")
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=120)
    connection.putrequest("POST", "/lemica/import")
    connection.putheader("Content-Type", "multipart/form-data; boundary=edge")
    connection.putheader("X-LeMiCa", "1")
    connection.putheader("Content-Length", str(len(head) + size + len(tail)))
    connection.endheaders()
    connection.send(head)
    piece = bytes(1 << 20)
    for _ in range(size >> 20):
        connection.send(piece)
    connection.send(bytes(size % (1 << 20)) + tail)
    status = connection.getresponse().status
    connection.close()
    return status


def post_at_once(server, path: str, content: bytes, headers: Mapping[str, str]) -> int:
    """Send head and content in one piece, as programs may; the status of the answer."""
    parts = urlsplit(server.url)
    lines = [f"POST {path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{key}: {value}" for key, value in headers.items()]
    with socket.create_connection((parts.hostname, parts.port), timeout=120) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + content)
        return int(connection.makefile("rb").readline().split()[1])


def user_folder(server) -> Iterator[Path]:
    """The pack's folder in the user's directory, with a schedule and a calibration; nothing is left of it."""
    from lemica.calibration.store import Calibrations

    folder = server.user / "lemica"
    shutil.rmtree(folder, ignore_errors=True)
    assert post(server, "save", {"schedule": schedule(), "name": "mine"}).json == {"name": "mine"}
    Calibrations(folder / "calibrations").save("measured", make_graph())
    yield folder
    shutil.rmtree(folder)


def files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def schedule(**changed) -> dict[str, object]:
    """What a page sends of a schedule."""
    return {
        "family": "lemica-demo", "steps": 6, "computed": [0, 2, 4], "rules": ["output hold"] * 3, "origin": "custom",
        "sigmas": None, "source": {"by": "hand"}, **changed,
    }


def make_graph(steps: int = 6, longest: int = 6, rules: tuple[str, ...] = ("output hold",), **changed):
    """An error graph with two samples whose errors grow with the length of a segment."""
    from lemica.calibration import ErrorGraph, Sample, all_segments
    from lemica.schedules import ModelIdentity, Rule, nominal_sigmas

    parsed = tuple(map(Rule.parse, rules))
    segments = all_segments(steps, longest, parsed)
    noise = np.random.default_rng(1).random((2, len(segments)))
    fields = {
        "family": "lemica-demo", "model": ModelIdentity("WAN21", "WanModel", {"dim": 256}, "wan_tiny.safetensors"),
        "sigmas": nominal_sigmas(3.0, steps), "mode": "exact", "metric": "l1", "rules": parsed,
        "samples": (Sample("a cat", 1), Sample("a dog", 2)), "segments": segments,
        "errors": (segments[:, 2] - segments[:, 1]) ** 1.5 * (0.1 + noise), "setup": {"sampler": "euler"},
    }
    return ErrorGraph(**fields | changed)
