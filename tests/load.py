"""Long load: `tests/run --script tests/load.py --runs 1000 --solves 10000 --schedules 5000`.

Sampling runs in one process, by turns of models, sizes, schedules and rules; requests to solve a calibration, from several
clients of one ComfyUI server; the list of a large library on it. Prints what was done, how long the first and the last of it
took, and by how much memory grew.
"""

from __future__ import annotations

import argparse
import gc
import http.client
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
WARM = 0.1
"""The share of the runs that come before anything is compared."""


@dataclass
class Load:
    """What came of many times the same: seconds of each, memory after the first tenth and at the end."""

    seconds: list[float] = field(default_factory=list)
    memory: tuple[int, int] = (0, 0)
    tensors: tuple[int, int] = (0, 0)

    @property
    def slower(self) -> float:
        """How many times longer the last quarter took than the second one."""
        count = len(self.seconds) // 4
        return statistics.median(self.seconds[-count:]) / statistics.median(self.seconds[count : 2 * count])

    @property
    def grown(self) -> int:
        """Bytes."""
        return self.memory[1] - self.memory[0]


def resident(pid: int | str = "self", what: str = "VmRSS") -> int:
    """The memory that a process has now, in bytes; or the most that it had so far, with ``VmHWM``."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) << 10


def tensors() -> int:
    """How many tensors this process has."""
    import torch

    gc.collect()
    return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())


def repeated(once: Callable[[int], None], times: int) -> Load:
    """Do something many times."""
    load, warm = Load(), (0, 0)
    for number in range(times):
        if number == max(int(WARM * times), 1):
            warm = resident(), tensors()
        begin = time.process_time()
        once(number)
        load.seconds.append(time.process_time() - begin)
    load.tensors, load.memory = (warm[1], tensors()), (warm[0], resident())
    return load


def sampling() -> Callable[[int], None]:
    """One run, by turns of two models, three sizes, five schedules and four rules."""
    import tiny_wan
    from lemica.cache.wrapper import install
    from lemica.schedules import PRESETS, Library, Match, ModelIdentity, Rule, select

    library = Library(ROOT / "schedules" / "library")
    models = [tiny_wan.make_wan(seed) for seed in (0, 8)]
    match = Match(None, "", ModelIdentity("any", "any"))
    rules = ["output hold", "output linear", "residual hold", "residual linear"]
    shapes = [(1, 16, 2, 4, 4), (1, 16, 1, 6, 4), (1, 16, 3, 4, 8)]

    def once(number: int) -> None:
        rule = Rule.parse(rules[number % 4])
        asked = {"budget": 3} if number % 5 == 4 else {"preset": PRESETS[number % 5]}

        def choose(setting):
            selection = select(library, match, setting.sigmas, rule=rule, **asked)
            return selection.schedule, selection.note

        model = install(models[number % 2], choose)
        latent = tiny_wan.sample(model, steps=6 + number % 3, shape=shapes[number % 3])
        assert latent.isfinite().all()

    return once


def fill(folder: Path, schedules: int) -> None:
    """A library of so many schedules of 50 steps in a directory."""
    from lemica.schedules import Rule, Schedule, dump_json, nominal_sigmas
    from lemica.schedules.store import file_name

    folder.mkdir(parents=True, exist_ok=True)
    sigmas, rule = nominal_sigmas(5.0, 50), Rule("output", "hold")
    for number in range(schedules):
        made = Schedule(
            name=f"family/{number} schedule", family="lemica-demo", steps=50, computed=tuple(range(0, 50, 3)),
            rules=(rule,) * 17, origin="custom", sigmas=sigmas, source={"number": number},
        )
        (folder / file_name(made.name)).write_text(dump_json(made.to_json()))


def requests(url: str, route: str, bodies: list[dict | None]) -> tuple[list[float], set[int]]:
    """Ask one after the other on one connection; the seconds of each, and the statuses."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=300)
    seconds, statuses = [], set()
    for body in bodies:
        begin = time.perf_counter()
        content = None if body is None else json.dumps(body).encode()
        headers = {"X-LeMiCa": "1", "Content-Type": "application/json"}
        connection.request("GET" if body is None else "POST", f"/lemica/{route}", content, headers)
        answer = connection.getresponse()
        answer.read()
        seconds.append(time.perf_counter() - begin)
        statuses.add(answer.status)
    connection.close()
    return seconds, statuses


def solving(url: str, count: int, clients: int) -> Load:
    """Clients that move the budget of one calibration and its options at once."""
    load = Load()
    statuses: set[int] = set()
    orders = [
        {
            "calibration": "measured", "budget": 2 + number % 18, "objective": ("minimax", "shortest")[number % 7 == 0],
            "tail": number % 5 > 0, "fixed": [3 + number % 11] if number % 3 == 0 else [], "curve": number % 2 == 0,
        }
        for number in range(count)
    ]

    def client(place: int) -> None:
        seconds, found = requests(url, "solve", orders[place::clients])
        load.seconds.extend(seconds)
        statuses.update(found)

    threads = [threading.Thread(target=client, args=(place,)) for place in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses <= {200, 400}, statuses
    return load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--solves", type=int, default=10_000)
    parser.add_argument("--schedules", type=int, default=5000)
    arguments = parser.parse_args()
    from kill_calibration import enter_comfyui

    enter_comfyui()
    if arguments.runs:
        load = repeated(sampling(), arguments.runs)
        print(json.dumps({
            "runs": arguments.runs, "median_ms": round(1000 * statistics.median(load.seconds), 1),
            "last_to_second_quarter": round(load.slower, 3), "grown_mib": round(load.grown / 2**20, 1), "tensors": load.tensors,
        }), flush=True)
    if not arguments.solves and not arguments.schedules:
        return
    from lemica.calibration.store import Calibrations
    from lemica.workflows.environment import ComfyUI
    from lemica.workflows.server import Server
    from route_requests import make_graph

    comfy = ComfyUI(
        Path(os.environ["LEMICA_COMFYUI"]), Path(os.environ["LEMICA_COMFYUI_PYTHON"]), bool(os.environ["LEMICA_COMFYUI_OWNED"])
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Calibrations(folder / "user" / "lemica" / "calibrations").save("measured", make_graph(20, 10))
        with Server(comfy, folder / "output", folder / "user") as server:
            solving(server.url, max(arguments.solves // 10, 20), 4)
            before = resident(server._process.pid)
            begin = time.perf_counter()
            load = solving(server.url, arguments.solves, 4)
            print(json.dumps({
                "solves": arguments.solves, "clients": 4, "seconds": round(time.perf_counter() - begin, 1),
                "median_ms": round(1000 * statistics.median(load.seconds), 2), "slowest_ms": round(1000 * max(load.seconds), 1),
                "server_grown_mib": round((resident(server._process.pid) - before) / 2**20, 1),
            }), flush=True)
            fill(folder / "user" / "lemica" / "schedules", arguments.schedules)
            seconds, statuses = requests(server.url, "library", [None] * 6)
            assert statuses == {200}, statuses
            print(json.dumps({
                "schedules": arguments.schedules, "first_list_s": round(seconds[0], 3),
                "next_lists_s": round(statistics.median(seconds[1:]), 3),
            }), flush=True)


if __name__ == "__main__":
    sys.exit(main())
