"""Feeds every parser odd and hostile input: `tests/run --script tests/fuzz.py --cases 100000`.

The parsers are those of schedules, error graphs and what a job has on the disk, of texts in nodes, and every route with its
body, its parameters and its file. A case ends well when it is accepted, and then works, or when it is refused by an error of
the pack; anything else is printed with the seed that makes it again, and so is a case that takes too long, that lets the
process grow by more than it may, or that touches a file outside of the pack's two directories in the user's. Prints the
counts of each parser.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent
LONGEST_SECONDS = 30.0
"""Of one case, on a machine that has other work to do."""

MOST_MEMORY = 2 << 30
"""By how much the process may grow."""

LONGEST_ERROR = 20_000
TELL = 5000
"""After so many cases the command says where it stands."""

SECRET = "what-is-outside"

BODIES: dict[str, dict[str, object]] = {
    "plan": {"family": "lemica-demo", "steps": 6, "sigmas": None, "preset": "medium", "budget": 3, "schedule": "auto",
             "rule": "as scheduled"},
    "cost": {"steps": 8, "samples": 4, "tries": 1, "longest": 0, "mode": "standard", "rules": "output"},
    "solve": {"calibration": "measured", "budget": 3, "rule": None, "objective": "minimax", "tail": True, "fixed": [1],
              "reused": [3], "curve": True},
    "save": {"name": "new", "schedule": {}, "replace": True},
    "rename": {"kind": "schedule", "old": "mine", "new": "new"},
    "delete": {"kind": "calibration", "name": "more"},
    "merge": {"first": "measured", "second": "more", "name": "both"},
}
QUERIES: dict[str, dict[str, list[str]]] = {
    "jobs": {}, "calibration": {"name": ["measured", "more"]},
    "export": {"kind": ["schedule", "calibration"], "name": ["mine", "measured"]},
}


@dataclass
class Said:
    """What became of the cases of one parser."""

    cases: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    grown: int = 0
    failures: list[str] = field(default_factory=list)


class Watch:
    """Sees which files are opened, listed, made, moved and removed by Python while it is on, and tells those outside."""

    EVENTS = ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link", "os.symlink",
              "os.truncate", "os.chmod", "subprocess.Popen", "os.system", "os.exec", "pickle.find_class", "socket.connect")

    def __init__(self) -> None:
        self.inside: tuple[str, ...] = ()
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
                if not where.startswith(self.inside) and not code:
                    self.outside.append(f"{event} {where}")


class Ground:
    """A user directory with a schedule and two calibrations, and a secret beside it."""

    def __init__(self, folder: Path, watch: Watch) -> None:
        import folder_paths
        from lemica.calibration import Sample
        from lemica.calibration.store import Calibrations
        from lemica.schedules import Library, Schedule
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

        self._check(route, SimpleNamespace(content=SimpleNamespace(iter_any=chunks)))

    def query(self, route: str, query: dict[str, str]) -> None:
        self._check(route, SimpleNamespace(query=query))

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
        request = make_mocked_request("POST", "/lemica/import", headers, payload=stream, **limits, **self._server)
        self._check("import", request)

    def _check(self, route: str, request: object) -> None:
        from aiohttp import web

        answer = self._loop.run_until_complete(self._handlers[route](request))
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


class Refused(Exception):
    """An input was turned down as it should be."""


def _no_json(constant: str) -> None:
    raise AssertionError(f"{constant} in an answer")


def targets(ground: Ground) -> dict[str, Callable[[Random], None]]:
    """What takes one case each, by the parser's name; raises Refused, or an error of the pack, for a bad one."""
    import fuzz_cases as cases
    from lemica.calibration import Sample
    from lemica.calibration.graph import ErrorGraph
    from lemica.calibration.half_run import half_run
    from lemica.calibration.job_folder import JobFolder
    from lemica.calibration.regrid import regrid
    from lemica.calibration.solutions import solutions
    from lemica.calibration.view import calibration_view
    from lemica.nodes.apply import parse_steps
    from lemica.schedules import Rule, Schedule, dump_json
    from lemica.schedules.store import file_name, parse_json
    from route_requests import make_graph, schedule

    requests, base = Requests(ground), make_graph()
    folder = ground.root / "calibrations"

    def read_schedule(draw: Random) -> None:
        made = Schedule.from_json(parse_json(cases.schedule_file(draw)))
        assert Schedule.from_json(parse_json(dump_json(made.to_json()).encode())) == made
        assert "/" not in file_name(made.name) and len(file_name(made.name)) < 100

    def read_graph(draw: Random) -> None:
        file = folder / "case.safetensors"
        try:
            file.write_bytes(cases.graph_file(draw))
            graph = ErrorGraph.load(file)
            graph.save(folder / "again.safetensors")
            again = ErrorGraph.load(folder / "again.safetensors")
            assert again.samples == graph.samples and again.errors.tobytes() == graph.errors.tobytes()
            graph.merge(again), calibration_view("case", graph, solutions(graph))
            base.merge(graph) if draw.random() < 0.5 else regrid(graph, base.sigmas)
        finally:
            solutions.cache_clear()
            for path in (file, folder / "again.safetensors"):
                path.unlink(missing_ok=True)

    def read_job(draw: Random) -> None:
        identity, sample = {"family": "x"}, Sample("a cat", 1)
        job = JobFolder(folder / "job", identity, 3)
        try:
            job.path.mkdir(parents=True)
            known = {"schema": 1, "identity": identity}
            text = cases.as_json(draw, known) if draw.random() < 0.3 else json.dumps(known).encode()
            (job.path / "job.json").write_bytes(text)
            if draw.random() < 0.3:
                (job.path / "paths.json").write_bytes(cases.as_json(draw, {"0,2|output hold": {"0123": 0.5}}))
            (job.path / f"sample-{draw.randrange(3)}.safetensors").write_bytes(cases.sample_file(draw, 3))
            half_run(folder, set())
            job.open()
            job.load_all(), job.load(sample, "0123"), job.path_error("0,2|output hold", sample, "0123")
        finally:
            job.close()
            shutil.rmtree(job.path, ignore_errors=True)

    def read_texts(draw: Random) -> None:
        text = draw.choice([*cases.TEXTS, "0, 3, 7", "0,3,99999", "output half"])
        text = cases.cut(draw, text.encode("utf-8", "surrogatepass")).decode(errors="surrogateescape")
        if draw.random() < 0.5:
            parse_steps(text)
        else:
            assert str(Rule.parse(text)) == " ".join(text.split())

    def list_library(draw: Random) -> None:
        ground.reset(always=draw.random() < 0.1)
        for _ in range(draw.randrange(1, 4)):
            kind = draw.choice(["schedules", "calibrations"])
            suffix = ".json" if kind == "schedules" else ".safetensors"
            path = ground.root / kind / f"{draw.choice(['a', 'measured', 'b c', 'ü', chr(10) + 'x', '-'])}{suffix}"
            with ground.watch.off():
                path.unlink(missing_ok=True)
                if draw.random() < 0.15:
                    path.symlink_to(draw.choice([ground.folder / "secret.json", "/etc/passwd", path, ground.user, "nowhere"]))
                else:
                    path.write_bytes(cases.schedule_file(draw) if kind == "schedules" else cases.graph_file(draw))
        requests.query("library", {})

    def by_body(route: str) -> Callable[[Random], None]:
        def send(draw: Random) -> None:
            ground.reset(always=False)
            body = dict(BODIES[route])
            if route == "save":
                solved = {**BODIES["solve"], "schedule": None, "preset": "fast"}
                body |= {"schedule": schedule()} if draw.random() < 0.5 else solved
            if route == "rename" and draw.random() < 0.5:
                body |= {"kind": "calibration", "old": "measured"}
            requests.body(route, cases.as_json(draw, body))

        return send

    def by_query(route: str) -> Callable[[Random], None]:
        return lambda draw: requests.query(route, cases.query(draw, QUERIES[route]))

    def send_file(draw: Random) -> None:
        ground.reset(always=False)
        requests.form(*cases.upload(draw))

    parsers = {"schedule file": read_schedule, "graph file": read_graph, "job folder": read_job, "node texts": read_texts}
    parsers["GET library"] = list_library
    parsers |= {f"GET {route}": by_query(route) for route in QUERIES} | {f"POST {route}": by_body(route) for route in BODIES}
    return {**parsers, "POST import": send_file}


def fuzz(target: Callable[[Random], None], name: str, seeds: Iterator[object], watch: Watch) -> Said:
    """Feed a parser; a seed is whatever Random takes, or a Random."""
    from lemica.calibration import GraphError, SolverError
    from lemica.calibration.job_folder import JobError
    from lemica.schedules import ScheduleError

    said, before = Said(), memory()
    for seed in seeds:
        if said.cases and said.cases % TELL == 0:
            print(f"  {name}: {said.cases} cases, {len(said.failures)} failures", flush=True)
        draw = seed if isinstance(seed, Random) else Random(f"{name} {seed}")
        begin, end, watch.outside = time.perf_counter(), "accepted", []
        watch.on = True
        try:
            target(draw)
        except (Refused, GraphError, ScheduleError, SolverError, JobError) as error:
            end = f"refused: {error if isinstance(error, Refused) else type(error).__name__}"
            if len(str(error)) > LONGEST_ERROR:
                said.failures.append(f"{name}, seed {seed}: an error of {len(str(error))} letters")
        except Exception:  # whatever it is, it is what this looks for
            end = "failed"
            said.failures.append(f"{name}, seed {seed}: {traceback.format_exc()[-1500:]}")
        finally:
            watch.on = False
        seconds = time.perf_counter() - begin
        said.cases += 1
        said.ends[end] += 1
        said.slowest = max(said.slowest, seconds)
        said.grown = max(said.grown, memory() - before)
        if seconds > LONGEST_SECONDS:
            said.failures.append(f"{name}, seed {seed}: took {seconds:.1f} s")
        if watch.outside:
            said.failures.append(f"{name}, seed {seed}: outside: {watch.outside[:3]}")
    if said.grown > MOST_MEMORY:
        said.failures.append(f"{name}: the process grew by {said.grown >> 20} MiB")
    return said


def memory() -> int:
    """The most that this process has taken so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@contextmanager
def ground_of(folder: Path, watch: Watch) -> Iterator[Ground]:
    """The ground for the parsers, which may touch the pack's two directories and read its own library."""
    ground = Ground(folder, watch)
    ground.enter()
    watch.inside = tuple(map(str, (ground.root, ground.uploads, ROOT / "schedules" / "library", "/dev/null")))
    try:
        yield ground
    finally:
        ground.leave()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="the number of the first case")
    parser.add_argument("--only", action="append", help="a parser's name; may be given again")
    arguments = parser.parse_args()
    from kill_calibration import enter_comfyui

    enter_comfyui()
    import logging

    import lemica.nodes.routes  # noqa: F401  before anything is watched

    logging.getLogger("LeMiCa").setLevel(logging.CRITICAL)
    watch, failed = Watch(), 0
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as folder, ground_of(Path(folder), watch) as ground:
        for name, target in targets(ground).items():
            if arguments.only and name not in arguments.only:
                continue
            ground.reset()
            begin = time.monotonic()
            said = fuzz(target, name, iter(range(arguments.seed, arguments.seed + arguments.cases)), watch)
            ends = ", ".join(f"{count} {end}" for end, count in said.ends.most_common())
            print(
                f"{name}: {said.cases} cases in {time.monotonic() - begin:.0f} s, {ends}; slowest {said.slowest:.2f} s, "
                f"grown by {said.grown >> 20} MiB, {len(said.failures)} failures", flush=True,
            )
            for failure in said.failures[:5]:
                print(failure, flush=True)
            failed += bool(said.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
