"""Calibrations from full runs on held-out samples: `tests/run --script tests/benchmarks/full_runs.py`.

For every model, sampler and budget the schedules of the efforts short and normal, beside what results/side_by_side.json holds
of the other contestants on the same samples. Decoded frames against the full run: mean, 5 % quantile and worst.
What was measured lies under --work: started again, it goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from itertools import product
from pathlib import Path
from statistics import fmean

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE / "digits"), str(ROOT / "workflows" / "demo_model"), str(ROOT / "tests")]

from samples import DemoModel, enter_comfyui  # noqa: E402

RESULTS = HERE / "results"
OTHERS = {"uni_pc": "_uni_pc", "dpmpp_2m_sde": "_sde"}
"""Samplers whose contestants have a file of results of their own, and the end of its name."""

logger = logging.getLogger("benchmark")


def load(name: str, **setting) -> DemoModel:
    """The model of this name, with its own shift, shape and CFG unless others are given."""
    if name == "video":
        return DemoModel(**setting)
    from digits_model import DigitsModel

    return DigitsModel(**setting)


class HeldOutFrames:
    """What schedules do to the decoded frames of held-out samples; measured once, kept in a file."""

    def __init__(self, model: DemoModel, sampler: str, steps: int, samples: int, memory: Path) -> None:
        self._model, self._memory, self.steps = model, memory, steps
        self._samplings = [model.sampling(prompt, seed, steps, sampler) for prompt, seed in model.held_out(samples)]
        self.sigmas = self._samplings[0].sigmas
        self._known: dict[str, list[list[float]]] = json.loads(memory.read_text()) if memory.exists() else {}
        self._full: list | None = None

    def measure(self, schedule) -> list[list[float]]:
        """PSNR of decoded frames, and of latents with range 4, in dB, for every sample."""
        key = f"{schedule.computed}|{'|'.join(map(str, schedule.rules))}|{schedule.weights}"
        if key not in self._known:
            if self._full is None:
                from lemica.calibration.replay import full_schedule

                self._full = [self._run(one, full_schedule(self.steps)) for one in self._samplings]
            self._known[key] = [
                [self._decibels(one - other), self._decibels(latents - full, 4.0)]
                for (latents, one), (full, other) in zip(
                    (self._run(one, schedule) for one in self._samplings), self._full, strict=True
                )
            ]
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            self._memory.write_text(json.dumps(self._known))
        return self._known[key]

    def _run(self, sampling, schedule):
        from lemica.cache.placement import Placement
        from lemica.cache.run import SamplingRun

        noise = "carries" in schedule.source
        flat = sampling.run(lambda sigmas: SamplingRun(schedule, sigmas, Placement("auto"), noise=noise))
        latents = sampling.latents(flat)
        return latents, self._model.frames(latents)

    @staticmethod
    def _decibels(difference, square: float = 1.0) -> float:
        return min(100.0, -10 * math.log10(max(difference.square().mean().item() / square, 1e-10)))


def rows_of(name: str, sampler: str, arguments: argparse.Namespace) -> list[dict]:
    """One row for each way and budget."""
    from calibrate_demo import longest_of, measure

    model = load(name)
    memory = arguments.work / f"frames-{name}-{sampler}-{arguments.steps}-{arguments.held_out}.json"
    held_out = HeldOutFrames(model, sampler, arguments.steps, arguments.held_out, memory)
    longest = longest_of(arguments.steps, arguments.budgets)
    rows = []
    for effort, safe in product(arguments.efforts, (True, False)[: 1 + arguments.mean]):
        result = measure(
            model, arguments.steps, arguments.references, effort, arguments.budgets, longest, 0, arguments.work,
            sampler=sampler, safe=safe,
        )
        for schedule in result.schedules(name):
            values = np.array(held_out.measure(schedule))
            row = {
                "model": name, "sampler": sampler, "budget": schedule.budget,
                "way": f"this pack: {effort}, {'safe' if safe else 'mean'}",
                "computed": list(schedule.computed), "psnr": values[:, 0].tolist(), "latent": values[:, 1].tolist(),
            }
            logger.info("%s %s %s %d: %s", name, sampler, row["way"], schedule.budget, figures(row["psnr"]))
            rows.append(row)
    others = RESULTS / f"side_by_side{OTHERS.get(sampler, '')}.json"
    for row in json.loads(others.read_text(encoding="utf-8")):
        mine = (row["model"], row["sampler"]) == (name, sampler) and row["budget"] in arguments.budgets
        same = mine and len(row.get("each", {}).get("psnr", ())) == arguments.held_out
        if same and row["what"] not in ("this pack: short", "this pack: normal"):
            rows.append({
                "model": name, "sampler": sampler, "budget": row["budget"], "calls": row["calls"],
                "way": row["what"].replace("this pack: calibrated", "this pack: standard, hundreds of full runs"),
                "psnr": row["each"]["psnr"],
            })
    return rows


def figures(values: list[float]) -> str:
    """Mean / 5 % quantile / worst."""
    return f"{fmean(values):.1f} / {np.quantile(values, 0.05):.1f} / {min(values):.1f}"


def table(rows: list[dict], budgets: list[int]) -> list[str]:
    """Ways by budget, this pack's first."""
    lines = [f"| PSNR dB, mean / 5 % / worst | {' | '.join(f'{budget}' for budget in budgets)} |"]
    lines.append(f"|---|{'---|' * len(budgets)}")
    for way in dict.fromkeys(row["way"] for row in rows):
        found = {row["budget"]: figures(row["psnr"]) for row in rows if row["way"] == way}
        lines.append(f"| {way} | {' | '.join(found.get(budget, '') for budget in budgets)} |")
    return lines


def command(script: str = "full_runs.py") -> str:
    """The command that makes these results; where it keeps measurements is left out."""
    options = sys.argv[1:]
    if "--work" in options:
        place = options.index("--work")
        del options[place : place + 2]
    return " ".join([f"tests/run --script tests/benchmarks/{script}", *options])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["video", "digits"], choices=("video", "digits"))
    parser.add_argument("--samplers", nargs="+", default=["euler"])
    parser.add_argument("--budgets", type=int, nargs="+", default=[25, 17, 10, 7, 5])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--references", type=int, default=5)
    parser.add_argument("--efforts", nargs="+", default=["short", "normal"], choices=("short", "normal"))
    parser.add_argument("--mean", action="store_true", help="calibrations with safe turned off besides")
    parser.add_argument("--held-out", type=int, default=16)
    parser.add_argument("--work", type=Path, default=Path("output-lemica/full_runs"))
    parser.add_argument("--name", default="full_runs")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    enter_comfyui()
    rows, text = [], [f"# Calibrations from full runs\n\nMade by `{command()}`: {arguments.references} full runs to calibrate, "
                      f"{arguments.held_out} held-out samples, {arguments.steps} steps.\n"]
    for name in arguments.models:
        for sampler in arguments.samplers:
            found = rows_of(name, sampler, arguments)
            rows += found
            text += [f"## {name}, {sampler}\n", *table(found, arguments.budgets), ""]
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{arguments.name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            (RESULTS / f"{arguments.name}.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
