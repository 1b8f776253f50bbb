"""What a calibration costs (Table 7 of the paper): `tests/run --script tests/benchmarks/calibration_cost.py`.

Model steps and seconds of the embedded model, by mode, N, the longest segment and the number of samples, and what building
and solving the graph takes.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT / "workflows" / "demo_model"), str(ROOT / "tests")]

from samples import DemoModel, enter_comfyui  # noqa: E402

if TYPE_CHECKING:
    from lemica.calibration.job import Cost

CASES = (
    ("short", 20, 8, 1), ("short", 20, 8, 5), ("short", 30, 8, 5), ("short", 50, 8, 5), ("short", 50, 12, 5),
    ("normal", 20, 8, 5), ("normal", 30, 8, 5), ("normal", 50, 8, 5),
    ("exact", 20, 4, 1), ("exact", 20, 8, 1), ("exact", 50, 8, 1),
)
"""Mode, N, longest segment, samples."""

logger = logging.getLogger("benchmark")


def cost(mode: str, steps: int, longest: int, samples: int, budgets: tuple[int, ...]) -> Cost:
    """What a calibration asks of the model."""
    from calibrate_demo import RULES
    from lemica.calibration.cost import cost_of
    from lemica.calibration.estimate import replay_calls, replayed_edges
    from lemica.calibration.job import Settings
    from lemica.calibration.segments import all_segments
    from lemica.schedules import ModelIdentity, Rule

    rules = tuple(map(Rule.parse, RULES))
    settings = Settings("lemica-demo", ModelIdentity("WAN21", "WanModel"), mode, "l1", rules, longest, budgets)
    segments = all_segments(steps, longest, rules)
    replays = 0 if settings.fits else replay_calls(segments, steps, replayed_edges(segments))
    return cost_of(settings, steps, samples, 0, replays, ())


def calibrations(most: int) -> list[list[object]]:
    """A row for each of CASES; those of more than ``most`` model steps are not measured."""
    from calibrate_demo import measure, preset_budgets
    from lemica.calibration import solve, sweep

    rows, demo = [], DemoModel()
    with tempfile.TemporaryDirectory() as folder:
        measure(demo, 6, 1, "short", (), 3, 0, Path(folder))  # loads the model
    for mode, steps, longest, samples in CASES:
        budgets = () if mode == "exact" else tuple(preset_budgets(steps))
        asked = cost(mode, steps, longest, samples, budgets).computed
        row: list[object] = [mode, steps, longest, samples, asked, asked // steps]
        if asked > most:
            rows.append([*row, *["not measured"] * 5])
            continue
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            result = measure(demo, steps, samples, mode, budgets, longest, 0, Path(folder))
            measured = time.perf_counter() - begin
        edges, built = timed(result.graph.edges)
        _, one = timed(lambda: solve(edges, steps, steps // 2))
        _, every = timed(lambda: sweep(edges, steps))
        rows.append([
            *row, f"{measured:.1f}", f"{1000 * measured / result.computed:.1f}", f"{1000 * built:.0f}", f"{1000 * one:.0f}",
            f"{1000 * every:.0f}",
        ])
        logger.info("%s", rows[-1])
    return rows


def timed(make) -> tuple[object, float]:
    """What is made, and how many seconds it took."""
    begin = time.perf_counter()
    made = make()
    return made, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=20_000, help="cases of more model steps are only counted")
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
    about = (
        "Short and normal fit paths of the presets' budgets; exact is the graph of six rules, no whole paths. A step is both "
        "conds; model steps are the most that are asked for."
    )
    tables.plain("The offline part", about, head, calibrations(arguments.most))
    text = ["# What a calibration costs", "", "Made by `tests/run --script tests/benchmarks/calibration_cost.py` on "
            f"{device}.", "", *tables.text]
    (RESULTS / "calibration_cost.json").write_text(json.dumps(tables.data, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "calibration_cost.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
