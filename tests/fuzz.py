"""Feeds every parser odd and hostile input: `tests/run --script tests/fuzz.py --cases 100000`.

The parsers are those of schedules, error graphs and what a job has on the disk, of texts in nodes, and every route with its
body, its parameters and its file. A case ends well when it is accepted, and then works, or when it is refused by an error of
the pack; anything else is printed with the seed that makes it again, and so is a case that takes too long, that lets the
process grow by more than it may, or that touches a file outside of the pack's two directories in the user's. Prints the
counts of each parser.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import NoReturn

from fuzz_ground import LONGEST_ERROR, Ground, Refused, Requests, Watch, ground_of

LONGEST_SECONDS = 30.0
"""Of one case, on a machine that has other work to do."""

MOST_MEMORY = 1 << 30
"""By how much the process may grow."""

MOST_ADDRESSES = 4 << 30
"""What a case may ask for beyond that fails, before it takes the machine's memory."""

SLOW = {"files that change": 100}
"""So many times fewer cases of a parser, as each starts a process."""

FEWEST = 20
"""Cases of a slow parser."""

TELL = 5000
"""After so many cases the command says where it stands."""

BODIES: dict[str, dict[str, object]] = {
    "plan": {"family": "lemica-demo", "steps": 6, "sigmas": None, "preset": "medium", "budget": 3, "schedule": "auto",
             "rule": "as scheduled"},
    "cost": {"steps": 8, "samples": 4, "tries": 1, "longest": 0, "mode": "normal", "rules": "output"},
    "kept": {"name": "measured", "tries": 1, "seed": 1, "seeds": 1, "connected": 1, "prompts": ["a cat"], "steps": 6,
             "longest": 0, "mode": "exact", "rules": "output", "metric": "l1", "setup": {"sampler": "euler"}},
    "solve": {"calibration": "measured", "budget": 3, "rule": None, "objective": "minimax", "tail": True, "fixed": [1],
              "reused": [3], "curve": True},
    "save": {"name": "new", "schedule": {}, "replace": True},
    "undo": {"saved": {}, "replaced": None},
    "rename": {"kind": "schedule", "old": "mine", "new": "new"},
    "delete": {"kind": "calibration", "name": "more"},
    "leave_out": {"name": "kept.safetensors", "left_out": True},
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


def body_of(draw: Random, route: str) -> dict[str, object]:
    """A body that a route takes."""
    from fuzz_cases import fitted
    from route_requests import schedule

    body = dict(BODIES[route])
    if route == "save":
        solved = {**BODIES["solve"], "schedule": None, "preset": "fast", "scope": "all steps"}
        body |= {"schedule": draw.choice([schedule(), fitted()])} if draw.random() < 0.5 else solved
    if route == "undo":
        saved = schedule(name="mine")
        body |= {"saved": saved, "replaced": {**saved, "computed": [0, 1, 4]} if draw.random() < 0.5 else None}
    if route == "rename" and draw.random() < 0.5:
        body |= {"kind": "calibration", "old": "measured"}
    for key in ("name", "new"):
        if key in body and route != "delete" and draw.random() < 0.3:
            body[key] = "taken"
    if route == "plan" and draw.random() < 0.03:
        body |= {"steps": draw.choice([150, 1000, 4000, 10_000]), "schedule": "ref"}
    return body


def targets(ground: Ground) -> dict[str, Callable[[Random], None]]:
    """What takes one case each, by the parser's name; raises Refused, or an error of the pack, for a bad one."""
    import fuzz_cases as cases
    from lemica.cache.trajectory import Trajectory
    from lemica.calibration import Sample
    from lemica.calibration.fit_folder import FitFolder
    from lemica.calibration.graph import ErrorGraph
    from lemica.calibration.half_run import half_run
    from lemica.calibration.job_folder import folder_name, sample_id
    from lemica.calibration.kept import Wanted, kept_of
    from lemica.calibration.learning.learned import learned_from
    from lemica.calibration.learning.records import Records
    from lemica.calibration.regrid import regrid
    from lemica.calibration.solutions import solutions
    from lemica.calibration.store import Calibrations
    from lemica.calibration.view import calibration_view
    from lemica.nodes.apply import parse_steps
    from lemica.nodes.route_guard import check_sender
    from lemica.schedules import Rule, Schedule, dump_json
    from lemica.schedules.store import file_name, parse_json
    from route_requests import make_graph

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
        identity = {"sigmas": [1.0, 0.75, 0.5, 0.25, 0.0], "longest": 2, "metric": "l1", "rules": ["output hold"], "setup": {}}
        sample, key = Sample("a cat", 1), "0,2|ab"
        job = FitFolder(folder / folder_name("job"), identity, 3, "job")
        try:
            job.path.mkdir(parents=True)
            known = {"schema": 1, "identity": identity}
            text = cases.as_json(draw, known) if draw.random() < 0.3 else json.dumps(known).encode()
            (job.path / "job.json").write_bytes(text)
            if draw.random() < 0.3:
                (job.path / "paths.json").write_bytes(cases.as_json(draw, {"0,2|output hold": {"0123": 0.5}}))
            if draw.random() < 0.3:
                fits = {key: {"weights": [[1.5]], "errors": {"0": 0.5}}}
                (job.path / "fits.json").write_bytes(cases.as_json(draw, fits))
            own = draw.choice([sample_id(sample, "0123"), "0"])
            (job.path / f"run-{own}.safetensors").write_bytes(cases.run_file(draw))
            (job.path / f"replays-{own}.safetensors").write_bytes(cases.replays_file(draw, 3))
            if draw.random() < 0.3:
                about = {"schema": 1, "mode": "exact", "tries": 1, "samples": [[1, "a cat"]]}
                (job.path / "finished.json").write_bytes(cases.as_json(draw, about))
            for effort in ({"mode": "exact", "tries": 1}, {"mode": "short", "safe": True}):
                half_run(folder, set()), kept_of(folder, "job", Wanted(effort, [(1, None)], {"steps": 4}))
            job.open()
            job.save_walk(key, sample, "0123", Trajectory(), 3)
            (walk,) = job.path.glob("walk-*")
            walk.write_bytes(cases.walk_file(draw))
            job.walk(key, sample, "0123"), job.fit(key), job.fit_errors()
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

    made = {"schedules": cases.schedule_file, "calibrations": cases.graph_file, "learned": cases.record_file}

    def list_library(draw: Random) -> None:
        ground.reset(always=draw.random() < 0.1)
        for _ in range(draw.randrange(1, 4)):
            kind = draw.choice(["schedules", "calibrations", "learned"])
            suffix = ".json" if kind == "schedules" else ".safetensors"
            path = ground.root / kind / f"{draw.choice(['a', 'measured', 'b c', 'ü', chr(10) + 'x', '-'])}{suffix}"
            with ground.watch.off():
                path.unlink(missing_ok=True)
                if draw.random() < 0.15:
                    path.symlink_to(draw.choice([ground.folder / "secret.json", "/etc/passwd", path, ground.user, "nowhere"]))
                else:
                    path.write_bytes(made[kind](draw))
        requests.query("library", {})
        for _, record in Records(ground.root / "learned").all():
            learned_from((record,)).schedule(2)

    changing = make_graph(20, 10, ("output hold", "output linear"), source={"name": "changing"})
    pieces = cases.pieces_of(changing)

    def read_while_it_changes(draw: Random) -> None:
        ground.reset(always=False)
        (job := folder / "job").mkdir(exist_ok=True)
        (job / "job.json").write_text("{}")
        files = folder / "changing.safetensors", job / "run-1.safetensors", job / "replays-1.safetensors"
        child = os.fork()  # a thread would wait while Rust or numpy reads
        if child == 0:
            rewrite(files, pieces, draw.choice([1, 3, 1000]))
        try:
            for _ in range(3):
                assert "measured" in Calibrations(folder).names()
                half_run(folder, set())
                requests.query("library", {})
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            with ground.watch.off():
                (folder / "changing.safetensors").unlink(missing_ok=True)
                shutil.rmtree(job, ignore_errors=True)

    def judge_headers(draw: Random) -> None:
        said, method = cases.headers(draw), draw.choice(["GET", "POST"])
        check_sender(SimpleNamespace(headers=said, method=method))
        if method == "POST":
            assert said["X-LeMiCa"] == "1"
            origin = said.get("Origin", f"http://{said.get('Host')}")
            assert origin.partition("://")[0] in ("http", "https")
            assert origin.partition("://")[2].lower().rstrip(".") == said.get("Host", "None").lower().rstrip("."), said

    def by_body(route: str) -> Callable[[Random], None]:
        def send(draw: Random) -> None:
            ground.reset(always=False)
            requests.body(route, cases.as_json(draw, body_of(draw, route)))

        return send

    def by_query(route: str) -> Callable[[Random], None]:
        return lambda draw: requests.query(route, cases.query(draw, QUERIES[route]))

    def send_file(draw: Random) -> None:
        ground.reset(always=False)
        requests.form(*cases.upload(draw))

    parsers = {
        "schedule file": read_schedule, "graph file": read_graph, "job folder": read_job,
        "node texts": read_texts,
    }
    parsers |= {"files that change": read_while_it_changes, "request headers": judge_headers, "GET library": list_library}
    parsers |= {f"GET {route}": by_query(route) for route in QUERIES} | {f"POST {route}": by_body(route) for route in BODIES}
    return {**parsers, "POST import": send_file}


def fuzz(target: Callable[[Random], None], name: str, seeds: Iterator[object], watch: Watch) -> Said:
    """Feed a parser; a seed is whatever Random takes, or a Random."""
    from lemica.calibration import GraphError, SolverError
    from lemica.calibration.job_error import JobError
    from lemica.nodes.route_guard import ForbiddenError
    from lemica.schedules import ScheduleError

    said, before = Said(), memory()
    for seed in seeds:
        if said.cases and said.cases % TELL == 0:
            print(f"  {name}: {said.cases} cases, {len(said.failures)} failures", flush=True)
        draw = seed if isinstance(seed, Random) else Random(f"{name} {seed}")
        begin, end, watch.outside = time.perf_counter(), "accepted", []
        with bounded():
            watch.on = True
            try:
                target(draw)
            except (Refused, GraphError, ScheduleError, SolverError, JobError, ForbiddenError) as error:
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


def cases_of(name: str, cases: int) -> int:
    """How many cases a parser gets where others get so many."""
    return min(max(cases // SLOW[name], FEWEST), cases) if name in SLOW else cases


def rewrite(files: Iterable[Path], pieces: list[bytes], size: int) -> NoReturn:
    """Write files in place until killed, as a copy over them does: empty at first, then longer and longer."""
    while True:
        for file in files:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for start in range(0, len(pieces), size):
                os.write(handle, b"".join(pieces[start : start + size]))
            os.close(handle)


@contextmanager
def bounded() -> Iterator[None]:
    """While a case runs: who asks for gigabytes gets a MemoryError."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_ADDRESSES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def memory() -> int:
    """The most that this process has taken so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


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
    warnings.filterwarnings("ignore", module="aiohttp")  # it warns of every odd form
    watch, failed = Watch(), 0
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as folder, ground_of(Path(folder), watch) as ground:
        for name, target in targets(ground).items():
            if arguments.only and name not in arguments.only:
                continue
            ground.reset()
            begin = time.monotonic()
            seeds = range(arguments.seed, arguments.seed + cases_of(name, arguments.cases))
            said = fuzz(target, name, iter(seeds), watch)
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
