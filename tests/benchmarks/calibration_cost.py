"""What a calibration costs (Table 7 of the paper): `tests/run --script tests/benchmarks/calibration_cost.py`.

Model steps and seconds of the embedded model, by mode, N, the longest segment and the number of samples, and what building
and solving the graph takes. Then plain runs in batches: what replays would gain if several of them shared a model call.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT / "workflows" / "demo_model"), str(ROOT / "tests")]

from samples import DemoModel, enter_comfyui  # noqa: E402

CASES = (
    ("quick", 20, 8, 1), ("quick", 30, 8, 1), ("quick", 50, 8, 1),
    ("standard", 20, 8, 1), ("standard", 30, 8, 1), ("standard", 50, 4, 1), ("standard", 50, 8, 1), ("standard", 50, 12, 1),
    ("standard", 20, 8, 2), ("standard", 20, 8, 4),
    ("exact", 20, 4, 1), ("exact", 20, 8, 1), ("exact", 50, 8, 1),
)
"""Mode, N, longest segment, samples."""

BATCHES = (1, 2, 4, 8)
RUNS = 3
FEW = 10
"""Steps of a run in batches."""

logger = logging.getLogger("benchmark")


def calls(mode: str, steps: int, longest: int, samples: int) -> int:
    """Model steps that the error graph asks for."""
    from calibrate_demo import RULES
    from lemica.calibration.estimate import replay_calls, replayed_edges
    from lemica.calibration.segments import all_segments
    from lemica.schedules import Rule

    rules = tuple(map(Rule.parse, RULES))
    segments = all_segments(steps, longest, rules)
    return samples * (steps + replay_calls(segments, steps, replayed_edges(segments, steps, rules, mode)))


def calibrations(most: int) -> list[list[object]]:
    """A row for each of CASES; those of more than ``most`` model steps are not measured."""
    from calibrate_demo import measure
    from lemica.calibration import solve, sweep

    rows, demo = [], DemoModel()
    with tempfile.TemporaryDirectory() as folder:
        measure(demo, 6, 1, "quick", (), 3, 0, Path(folder))  # loads the model
    for mode, steps, longest, samples in CASES:
        asked = calls(mode, steps, longest, samples)
        row: list[object] = [mode, steps, longest, samples, asked, asked // steps]
        if asked > most:
            rows.append([*row, *["not measured"] * 5])
            continue
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            graph = measure(demo, steps, samples, mode, (), longest, 0, Path(folder)).graph
            measured = time.perf_counter() - begin
        edges, built = timed(graph.edges)
        _, one = timed(lambda: solve(edges, steps, steps // 2))
        _, every = timed(lambda: sweep(edges, steps))
        rows.append([
            *row, f"{measured:.1f}", f"{1000 * measured / asked:.1f}", f"{1000 * built:.0f}", f"{1000 * one:.0f}",
            f"{1000 * every:.0f}",
        ])
        logger.info("%s", rows[-1])
    return rows


def timed(make) -> tuple[object, float]:
    """What is made, and how many seconds it took."""
    begin = time.perf_counter()
    made = make()
    return made, time.perf_counter() - begin


def batches(name: str) -> list[list[object]]:
    """Seconds a sample, by how many share a call; the batch sizes take turns."""
    import torch
    from wrapper_cost import Bench

    bench = Bench.of(name, not torch.cuda.is_available(), False)
    bench.run(bench.model, 1, FEW)
    seconds: dict[int, list[float]] = {size: [] for size in BATCHES}
    for _ in range(RUNS):
        for size in BATCHES:
            seconds[size].append(bench.run(bench.model, size, FEW)[0] / size)
    found = {size: statistics.median(values) for size, values in seconds.items()}
    return [[bench.about, size, f"{value:.2f}", f"{found[1] / value:.2f}"] for size, value in found.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=20_000, help="cases of more model steps are only counted")
    parser.add_argument("--models", nargs="+", default=["embedded", "wan"], help="of which plain runs are made in batches")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    enter_comfyui()
    logging.getLogger("benchmark").setLevel(logging.INFO)
    import torch
    from calibration_tables import RESULTS, Tables

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    tables = Tables()
    head = ["mode", "N", "longest segment", "samples", "model steps", "in full runs", "measure, s", "ms a step", "build, ms",
            "solve one budget, ms", "solve all budgets, ms"]
    tables.plain("The offline part", "Six rules, no whole paths; a step is both conds.", head, calibrations(arguments.most))
    rows: Sequence[list[object]] = [row for name in arguments.models for row in batches(name)]
    about = f"Plain runs of {FEW} steps: seconds of a run a sample, and how many times as fast as one by one."
    tables.plain("Runs in batches", about, ["model", "batch", "seconds a sample", "times as fast"], rows)
    text = ["# What a calibration costs", "", "Made by `tests/run --script tests/benchmarks/calibration_cost.py` on "
            f"{device}.", "", *tables.text]
    (RESULTS / "calibration_cost.json").write_text(json.dumps(tables.data, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "calibration_cost.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
