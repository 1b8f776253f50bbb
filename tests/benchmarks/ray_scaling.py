"""A calibration on 1, 2 and 4 Ray workers: `tests/run --script tests/benchmarks/ray_scaling.py`.

Measures the speed-up, the payload of a replay and the share of time in which workers are idle, with the demo model and
one CPU thread a worker; every result is compared with that of one process, bit for bit. Workers load before the clock
starts. Then it simulates 8 to 512 GPUs and 1 to 1,000 samples with the times that it measured, for a 14B video model.

--simulate FILE        only the simulation, with the times of an earlier run
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

STEP = 10.0
"""Seconds of a step of a 14B video model on one GPU, both conds; the simulation's results hardly depend on it."""
SAMPLES = (1, 2, 4, 8, 16, 64, 256, 1000)
WORKERS = (8, 16, 32, 64, 128, 256, 512)


def measure(workers: tuple[int, ...], samples: int, steps: int) -> dict:
    """What real workers take."""
    from ray_calibration import DemoCalibration, all_loaded, enter_comfyui, same

    found = {"cores": os.cpu_count(), "samples": samples, "steps": steps, "workers": {}}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        enter_comfyui(Path(folder))
        demo = DemoCalibration(Path(folder), samples, steps, budgets=(steps // 2,))
        begin = time.perf_counter()
        alone = demo.run("alone")
        found["one_process"] = {"seconds": time.perf_counter() - begin, "load": os.getloadavg()[0]}
        for count in workers:
            crew = demo.crew(count)
            all_loaded(crew)
            crew.account.there = -count * time.monotonic()  # what they waited for each other does not count
            times: list[tuple[str, int, float]] = []
            note = crew.speeds.note
            crew.speeds.note = lambda worker, steps, seconds, note=note, times=times: (
                times.append((steps, seconds)), note(worker, steps, seconds)
            )
            begin, told = time.perf_counter(), []
            result = demo.run(f"{count} workers", crew, lambda progress, told=told: told.append(time.perf_counter()))
            seconds, account = told[-1] - begin, crew.account  # what follows is the end of the workers
            found["workers"][count] = {
                "seconds": seconds, "speed_up": found["one_process"]["seconds"] / seconds, "idle": account.idle,
                "bytes_a_run": account.bytes / account.runs, "runs": account.runs, "same": same(alone, result),
                "between_runs": (account.there - account.busy) / account.runs, "load": os.getloadavg()[0],
            }
            print(json.dumps({count: found["workers"][count]}), file=sys.stderr, flush=True)
            if count == 1:
                found["times"] = times
    return found


def costs_of(found: dict):
    """The costs for the simulation: those of a run are measured, a step is one of a large model."""
    import numpy as np
    from lemica.calibration.cluster.simulate import Costs

    steps, seconds = np.array(found["times"]).T
    step, run = np.polyfit(steps, seconds, 1)
    spread = float(np.std(seconds / (steps * step + max(run, 0.0))))
    one = found["workers"].get("1") or found["workers"][1]
    return Costs(STEP, max(float(run), 0.0), one["between_runs"], min(spread, 0.2))


def simulated(found: dict) -> str:
    """Tables of the speed-up by samples and GPUs, as Markdown."""
    from lemica.calibration.cluster.simulate import Plan, table
    from lemica.schedules import Rule

    costs = costs_of(found)
    lines = [
        f"A step takes {costs.step:.0f} s, a run {costs.run * 1000:.0f} ms besides with a spread of {costs.spread:.0%}, an "
        f"answer {costs.answer * 1000:.1f} ms until the next run begins."
    ]
    rules = tuple(Rule("output", order) for order in ("hold", "half", "linear"))
    head, *rows = table(Plan(50, rules, 8, (25, 17, 10), 32), SAMPLES, WORKERS, costs)
    lines += ["", "exact, N = 50, segments up to 8 steps, three rules, three budgets:", ""]
    lines += [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--output", type=Path, help="where the measurements go, as JSON")
    parser.add_argument("--simulate", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.simulate:
        pack = types.ModuleType("lemica")
        pack.__path__ = [str(ROOT)]
        sys.modules["lemica"] = pack
        found = json.loads(arguments.simulate.read_text())
    else:
        found = measure(tuple(arguments.workers), arguments.samples, arguments.steps)
        print(json.dumps({key: value for key, value in found.items() if key != "times"}, indent=2))
    if arguments.output:
        arguments.output.write_text(json.dumps(found))
    print(simulated(found))


if __name__ == "__main__":
    main()
