"""Lets libFuzzer look for input that breaks a parser of bytes: `tests/run --script tests/fuzz_guided.py --seconds 60`.

Beside fuzz.py, whose cases come from a generator that knows the formats: this one changes bytes by what parts of the pack's
code they reach (atheris, Linux on x86-64). Files of schedules and of error graphs, bodies of routes, uploaded forms. It ends
with the first input that does anything but work or be refused by an error of the pack, and keeps it in --corpus; what is
told at the end of a parser is libFuzzer's own account. Named parsers begin with what an earlier call left in --corpus.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

BODIES = ("plan", "cost", "kept", "solve", "save", "undo", "rename", "delete", "leave_out", "merge")
PARSERS = ("schedule file", "graph file", *(f"POST {route}" for route in BODIES), "POST import")
SEEDS = 300
MOST_BYTES = 1 << 17


def seed(parser: str, folder: Path) -> None:
    """Begin a corpus with cases of the generator."""
    import fuzz_cases as cases
    from fuzz import body_of

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(SEEDS):
        draw = Random(f"{parser} {number}")
        if parser == "schedule file":
            content = cases.schedule_file(draw)
        elif parser == "graph file":
            content = cases.graph_file(draw)
        elif parser == "POST import":
            content = cases.upload(draw)[0]
        else:
            content = cases.as_json(draw, body_of(draw, parser.removeprefix("POST ")))
        (folder / f"seed-{number}").write_bytes(content)


def feed(parser: str, corpus: Path, seconds: int) -> None:
    """Run libFuzzer on one parser; it ends the process itself."""
    import logging

    import atheris
    from kill_calibration import enter_comfyui

    with atheris.instrument_imports(include=["lemica"]):
        enter_comfyui()
        import lemica.nodes.routes  # noqa: F401
        from fuzz_ground import Refused, Requests, Watch, ground_of
        from lemica.calibration import GraphError, SolverError
        from lemica.calibration.graph import ErrorGraph
        from lemica.calibration.solutions import solutions
        from lemica.calibration.view import calibration_view
        from lemica.schedules import Schedule, ScheduleError
        from lemica.schedules.store import parse_json
        from route_requests import form

    logging.getLogger("LeMiCa").setLevel(logging.CRITICAL)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        watch = Watch()
        with ground_of(Path(name), watch) as ground:
            requests, file = Requests(ground), ground.root / "calibrations" / "case.safetensors"
            headers = form("x.json", b"", "file")[1]

            def read_graph(content: bytes) -> None:
                file.write_bytes(content)
                try:
                    graph = ErrorGraph.load(file)
                    calibration_view("case", graph, solutions(graph))
                finally:
                    solutions.cache_clear()

            def send(content: bytes) -> None:
                ground.reset(always=False)
                if parser == "POST import":
                    requests.form(content, headers)
                else:
                    requests.body(parser.removeprefix("POST "), content)

            read = {"schedule file": lambda content: Schedule.from_json(parse_json(content)), "graph file": read_graph}
            target = read.get(parser, send)

            def try_one(content: bytes) -> None:
                watch.outside, watch.on = [], True
                try:
                    target(content)
                except (Refused, GraphError, ScheduleError, SolverError):
                    pass
                finally:
                    watch.on = False
                if watch.outside:
                    raise AssertionError(f"outside: {watch.outside[:3]}")

            own = [sys.argv[0], str(corpus), f"-max_total_time={seconds}", f"-max_len={MOST_BYTES}", "-print_final_stats=1"]
            atheris.Setup([*own, f"-artifact_prefix={corpus}{os.sep}failed-", "-timeout=30", "-rss_limit_mb=4096"], try_one)
            atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each parser")
    parser.add_argument("--only", action="append", choices=PARSERS, help="a parser's name; may be given again")
    parser.add_argument("--corpus", type=Path, default=Path("output-lemica/fuzz"))
    parser.add_argument("--feed", choices=PARSERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.feed:
        feed(arguments.feed, arguments.corpus, arguments.seconds)
        return 0
    import types

    pack = types.ModuleType("lemica")
    pack.__path__ = [str(ROOT)]
    sys.modules["lemica"] = pack
    from lemica.workflows import environment

    python = environment.python_with(environment.find(), {"atheris": "atheris>=3"})
    failed = 0
    for name in arguments.only or PARSERS:
        corpus = arguments.corpus.resolve() / name.replace(" ", "-")
        seed(name, corpus)
        command = [python, __file__, "--feed", name, "--corpus", corpus, "--seconds", str(arguments.seconds)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        stats = dict(line.split(": ", 1) for line in done.stderr.splitlines() if line.startswith("stat::"))
        units = stats.get("stat::number_of_executed_units", "?").strip()
        coverage = [line.split("cov: ")[1].split()[0] for line in done.stderr.splitlines() if "cov: " in line]
        print(f"{name}: {units} cases, {coverage[-1] if coverage else '?'} parts reached, "
              f"{'1 failure' if done.returncode else 'no failure'}", flush=True)
        if done.returncode:
            failed += 1
            print((done.stdout + done.stderr)[-3000:], flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
