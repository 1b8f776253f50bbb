"""How long the solver takes for all budgets at once: `python tests/benchmarks/solver_speed.py`.

Random errors, all distinct, which is the hardest case; they grow with the segment, as measured ones do.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
pack = types.ModuleType("lemica")
pack.__path__ = [str(ROOT)]
sys.modules["lemica"] = pack

from lemica.calibration.segments import all_segments  # noqa: E402
from lemica.calibration.solver import OBJECTIVES, Edge, sweep  # noqa: E402
from lemica.schedules import Rule  # noqa: E402

CASES = (
    (50, 10, ("output hold",), "N=50, skip 10, first order", 0.1),
    (50, 10, ("output linear",), "N=50, skip 10, second order", 1.0),
    (50, 10, ("output hold", "output half", "output linear"), "N=50, skip 10, second order, three rules", 1.0),
    (200, 20, ("output hold",), "N=200, skip 20, first order", 5.0),
)


def random_edges(steps: int, longest: int, texts: tuple[str, ...]) -> list[Edge]:
    """Every segment up to the longest skip with a random error, the same at every start."""
    draw = random.Random(0)
    rules = tuple(Rule.parse(text) for text in texts)
    segments = all_segments(steps, longest, rules).tolist()
    return [Edge(h, i, j, rules[r], draw.random() * (j - i - 1) ** 2) for h, i, j, r in segments]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="runs of which the median is printed")
    repeat = parser.parse_args().repeat
    print(f"{'seconds, median (fastest)':<42}{'edges':>8}{'budgets':>9}{'minimax':>18}{'shortest':>18}{'goal':>7}")
    for steps, longest, texts, name, goal in CASES:
        edges = random_edges(steps, longest, texts)
        cells = []
        for objective in OBJECTIVES:
            seconds = []
            for _ in range(repeat):
                start = time.perf_counter()
                paths = sweep(edges, steps, objective=objective)
                seconds.append(time.perf_counter() - start)
            cells.append(f"{statistics.median(seconds):.3f} ({min(seconds):.3f})")
        print(f"{name:<42}{len(edges):>8}{len(paths):>9}{cells[0]:>18}{cells[1]:>18}{goal:>7}")


if __name__ == "__main__":
    main()
