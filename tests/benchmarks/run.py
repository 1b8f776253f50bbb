"""All benchmarks by name: `tests/run --script tests/benchmarks/run.py [NAME ...] [--work DIR]`; without a name, the list.

Each one is a command of its own, which this prints before it runs it; `all` runs every one of them, which takes many hours
on a CPU. What they measured is kept under --work, so that one that was ended goes on. Results are Markdown, JSON and plots
in tests/benchmarks/results.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

BENCHMARKS: dict[str, tuple[str, list[str], str]] = {
    "side_by_side": (
        "side_by_side.py", ["--samplers", "euler", "dpmpp_2m"], "this pack, its peers, and doing without",
    ),
    "side_by_side_uni_pc": (
        "side_by_side.py", ["--samplers", "uni_pc", "--name", "side_by_side_uni_pc"], "the same with uni_pc",
    ),
    "side_by_side_sde": (
        "side_by_side.py", ["--samplers", "dpmpp_2m_sde", "--name", "side_by_side_sde"], "the same with an SDE sampler",
    ),
    "figure_5": (
        "side_by_side.py", ["--models", "video", "--samplers", "euler", "--steps", "30", "--budgets", "19", "12", "9", "7",
                            "--name", "figure_5"], "the paper's budgets of 30 steps",
    ),
    "paper": ("paper.py", [], "the paper's Figures 6 and 7, Tables 5 and 6"),
    "full_runs": ("full_runs.py", [], "calibrations from full runs alone beside all of these"),
    "learned": ("learned.py", [], "what full runs teach that users make anyway"),
    "drawn_noise": ("drawn_noise.py", [], "what is carried over under samplers that draw noise"),
    "fits_elsewhere": ("fits_elsewhere.py", [], "fitted schedules at other sizes, CFG, samplers, shifts and step counts"),
    "calibration_tables": ("calibration_tables.py", [], "what calibration brings; the paper's Tables 2 and 3"),
    "calibration_cost": ("calibration_cost.py", [], "the paper's Table 7"),
    "any_steps": ("any_steps.py", [], "one calibration for any step count"),
    "wrapper_cost": ("wrapper_cost.py", [], "how much of N/B arrives"),
    "reuse_cost": ("reuse_cost.py", [], "a reused step beside a computed one"),
    "solver_speed": ("solver_speed.py", [], "the solver, for all budgets at once"),
    "ray_scaling": ("ray_scaling.py", [], "a calibration on 1, 2 and 4 workers, and simulated on 8 to 512 GPUs"),
    "page_load": ("page_load.py", [], "what the pack adds to ComfyUI's page"),
    "published": ("published.py", [], "what others published, as tables"),
}
KEEPS = (
    "side_by_side.py", "full_runs.py", "learned.py", "fits_elsewhere.py", "paper.py", "calibration_tables.py", "any_steps.py",
)
"""Those that take --work."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--work", type=Path, default=Path("output-lemica"))
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - {*BENCHMARKS, "all"}:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: choose from {', '.join(BENCHMARKS)} or all")
    if not arguments.names:
        width = max(map(len, BENCHMARKS))
        print("\n".join(f"{name:{width}}  {about}" for name, (_, _, about) in BENCHMARKS.items()))
        return 0
    failed = []
    for name in BENCHMARKS if "all" in arguments.names else arguments.names:
        script, options, _ = BENCHMARKS[name]
        if script in KEEPS:
            options = [*options, "--work", str(arguments.work / name)]
        print(f"{name}: tests/run --script tests/benchmarks/{script} {' '.join(options)}", flush=True)
        if subprocess.run([sys.executable, HERE / script, *options], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
