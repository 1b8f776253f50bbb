"""Kills Ray workers of a calibration at random moments: `tests/run --script tests/kill_workers.py --kills 50`.

Every kill is SIGKILL to a worker that is at work; another one takes its place. Prints how many kills it
took, how many replays were made twice (at most one a kill may be), how many were lost, and how many calibrations came to
another result than in one process. A calibration that ends before all kills are done is followed by the next one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from ray_calibration import DemoCalibration, enter_comfyui, same  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--life", type=float, default=5.0, help="how many runs a worker begins, on average, until it is killed")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    said = {"kills": 0, "calibrations": 0, "replays": 0, "made_twice": 0, "lost": 0, "other_results": 0, "seconds": 0.0}
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        enter_comfyui(Path(folder))
        demo = DemoCalibration(Path(folder))
        alone = demo.run("alone")
        expected = demo.replays("alone")
        while said["kills"] < arguments.kills:
            lives: dict[int, int] = {}
            deaths: dict[int, float] = {}
            crew = demo.crew(arguments.workers)

            def kill(crew=crew, lives=lives, deaths=deaths) -> None:
                """Let every worker begin a random number of runs, and end it at a random moment of the last one."""
                for worker in crew.workers.values():
                    if worker.run is None or said["kills"] >= arguments.kills:
                        continue
                    number, now = worker.number, time.monotonic()
                    begun = sum(run[0] == number for run in crew.asked)
                    if begun >= lives.setdefault(number, 1 + int(draw.expovariate(1 / arguments.life))):
                        length = crew.account.busy / crew.account.runs if crew.account.runs else 0.1
                        if now >= deaths.setdefault(number, now + draw.uniform(0, length)):
                            os.kill(worker.pid, signal.SIGKILL)
                            deaths[number] = math.inf
                            said["kills"] += 1
                            print(f"{said['kills']} kills", file=sys.stderr, flush=True)

            crew.check = kill
            said["calibrations"] += 1
            result = demo.run(f"killed{said['calibrations']}", crew)
            replays = Counter(run[1:] for run in crew.asked if run[1] == "replay")
            said["replays"] += len(replays)
            said["made_twice"] += sum(replays.values()) - len(replays)
            said["lost"] += expected - len(replays)
            said["other_results"] += not same(alone, result)
            print(json.dumps(said), file=sys.stderr, flush=True)
    said["seconds"] = round(time.monotonic() - begin)
    print(json.dumps(said))


if __name__ == "__main__":
    main()
