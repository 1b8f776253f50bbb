"""Where fuzzing happens: a user directory that is watched, with a secret beside it, and the routes called as a server does."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent
LONGEST_ERROR = 20_000
SECRET = "what-is-outside"
NEWER = b'{"schema": 99, "name": "taken"}'
"""What this version cannot read, in the files that something named ``taken`` would have."""


class Refused(Exception):
    """An input was turned down as it should be."""


def _no_json(constant: str) -> None:
    raise AssertionError(f"{constant} in an answer")


class Watch:
    """Sees which files are opened, listed, made, moved and removed by Python while it is on, and tells those outside."""

    EVENTS = ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link", "os.symlink",
              "os.truncate", "os.chmod", "subprocess.Popen", "os.system", "os.exec", "pickle.find_class", "socket.connect")

    def __init__(self) -> None:
        self.inside: tuple[str, ...] = ()
        self.folders: tuple[str, ...] = ()
        """Folders of which only some files are inside: they may be made and opened."""
        self.outside: list[str] = []
        self.on = False
        sys.addaudithook(self._hear)

    @contextmanager
    def off(self) -> Iterator[None]:
        """While the test itself works on the files."""
        before, self.on = self.on, False
        try:
            yield
        finally:
            self.on = before

    def _hear(self, event: str, arguments: tuple) -> None:
        if not self.on or event not in self.EVENTS:
            return
        if event.startswith(("subprocess", "os.system", "os.exec", "pickle", "socket")):
            self.outside.append(f"{event} {arguments}")
            return
        for path in arguments[: 2 if event in ("os.rename", "os.link") else 1]:
            if isinstance(path, bytes | str | os.PathLike):
                # A relative path goes by the descriptor of a folder, as removing a tree does; the pack has only whole ones.
                where = os.path.join(self.inside[0], os.fsdecode(path))
                code = where.endswith((".py", ".pyc", ".so")) or f"{os.sep}.hypothesis{os.sep}" in where
                # A lock of filelock 4 opens the folder that it lies in.
                folder = event in ("os.mkdir", "open") and where in self.folders
                if not where.startswith(self.inside) and not folder and not code:
                    self.outside.append(f"{event} {where}")


class Ground:
    """A user directory with a schedule and three calibrations, two files of a later version, and a secret beside it."""

    def __init__(self, folder: Path, watch: Watch) -> None:
        import folder_paths
        from fuzz_cases import record
        from lemica.calibration import Sample
        from lemica.calibration.job_folder import folder_name
        from lemica.calibration.store import Calibrations
        from lemica.schedules import Library, Schedule
        from lemica.schedules.store import file_name
        from route_requests import make_graph, schedule

        self.folder, self.watch = folder, watch
        self.user = folder / "user"
        self.root = self.user / "lemica"
        self.uploads = folder / "uploads"
        self.uploads.mkdir(parents=True)
        (folder / "secret.json").write_text(json.dumps({"schema": 1, "name": SECRET, **schedule()}))
        self._pristine = folder / "pristine"
        Library(ROOT / "schedules" / "library", self._pristine / "schedules").save(
            Schedule.from_json({"schema": 1, "name": "mine", **schedule()})
        )
        graphs = Calibrations(self._pristine / "calibrations")
        graphs.save("measured", make_graph())
        graphs.save("more", make_graph(samples=(Sample("a cat", 1), Sample("a bird", 9))))
        graphs.save("ref", make_graph(20, 8, ("output hold", "output half", "output linear")))
        self.kept = {f"schedules/{file_name('taken')}": NEWER, f"calibrations/{folder_name('taken')}.safetensors": NEWER}
        for path, content in self.kept.items():
            (self._pristine / path).write_bytes(content)
        (self._pristine / "learned").mkdir()
        (self._pristine / "learned" / "kept.safetensors").write_bytes(record())
        self._get_user = folder_paths.get_user_directory
        self._folder_paths = folder_paths
        self._uses = 0

    def enter(self) -> None:
        self._folder_paths.get_user_directory = lambda: str(self.user)
        tempfile.tempdir, self._temporary = str(self.uploads), tempfile.tempdir
        self.reset()

    def leave(self) -> None:
        self._folder_paths.get_user_directory = self._get_user
        tempfile.tempdir = self._temporary

    def reset(self, always: bool = True) -> None:
        """Back to the beginning: always, or when there is much in it."""
        self._uses += 1
        if always or self._uses % 10 == 0:
            with self.watch.off():
                shutil.rmtree(self.root, ignore_errors=True)
                shutil.copytree(self._pristine, self.root)


class Requests:
    """Calls the routes as the server does."""

    def __init__(self, ground: Ground) -> None:
        from lemica.nodes.routes import ROUTES

        self.ground = ground
        self._loop = asyncio.new_event_loop()
        self._handlers = {name: handler for _, name, handler in ROUTES}
        self._server: dict[str, object] = {}

    def body(self, route: str, content: bytes) -> None:
        async def chunks() -> Iterator[bytes]:
            for start in range(0, len(content), 1 << 16):
                yield content[start : start + (1 << 16)]

        asked = {"method": "POST", "headers": {"X-LeMiCa": "1"}, "content_type": "application/json"}
        self._check(route, SimpleNamespace(**asked, content=SimpleNamespace(iter_any=chunks)))

    def query(self, route: str, query: dict[str, str]) -> None:
        self._check(route, SimpleNamespace(method="GET", headers={}, query=query))

    def form(self, content: bytes, headers: dict[str, str]) -> None:
        from unittest import mock

        from aiohttp import streams
        from aiohttp.test_utils import make_mocked_request

        if not self._server:  # made once: they take longer than a case
            first = make_mocked_request("POST", "/", loop=self._loop)
            self._server = {"app": first.app, "transport": first.transport, "protocol": first.protocol, "writer": mock.Mock()}
        stream = streams.StreamReader(mock.Mock(_reading_paused=False), 1 << 20, loop=self._loop)
        stream.feed_data(content)
        stream.feed_eof()
        limits = {"client_max_size": 100 << 20, "loop": self._loop}
        headers = {**headers, "X-LeMiCa": "1"}
        request = make_mocked_request("POST", "/lemica/import", headers, payload=stream, **limits, **self._server)
        self._check("import", request)

    def _check(self, route: str, request: object) -> None:
        from aiohttp import web

        answer = self._loop.run_until_complete(self._handlers[route](request))
        with self.ground.watch.off():
            for path, content in self.ground.kept.items():
                if (self.ground.root / path).read_bytes() != content:
                    self.ground.reset()
                    raise AssertionError(f"{route} replaced {path}")
        if isinstance(answer, web.FileResponse):
            return
        text = answer.text
        if SECRET in text or str(self.ground.folder) in text:
            raise AssertionError(f"{route} gives away {text[:300]}")
        if not 200 <= answer.status < 300:
            told = json.loads(text)
            if answer.status not in (400, 404, 409, 413) or not told["error"] or len(text) > LONGEST_ERROR:
                raise AssertionError(f"{route} answers {answer.status} {text[:300]}")
            raise Refused(str(answer.status))
        json.loads(text, parse_constant=_no_json)


@contextmanager
def ground_of(folder: Path, watch: Watch) -> Iterator[Ground]:
    """The ground for the parsers, which may touch the pack's directories and read its own library."""
    ground = Ground(folder, watch)
    ground.enter()
    places = (*(ground.root / place for place in ("schedules", "calibrations", "learned", ".lock")), ground.uploads)
    watch.inside = tuple(map(str, (*places, ROOT / "schedules" / "library", "/dev/null")))
    watch.folders = (str(ground.root),)
    try:
        yield ground
    finally:
        ground.leave()
