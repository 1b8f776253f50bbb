"""Calibrates the embedded model and writes its schedules into the family's file in the library.

    tests/run --script workflows/demo_model/calibrate_demo.py --steps 20 30 50
    tests/run --script workflows/demo_model/calibrate_demo.py --steps 30 --budgets 13 10 8 --mode normal --samples 10 --judges 0

The first makes those of fixed rules, which other steps and sigmas are resampled from; the second those with fitted weights
for exactly these. It goes on where it was stopped: what it has measured lies in the folder that --work names.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent))

from samples import ROOT, DemoModel, enter_comfyui  # noqa: E402

if TYPE_CHECKING:
    from lemica.calibration.job import Result
    from lemica.schedules import Schedule

LIBRARY = ROOT / "schedules" / "library" / "lemica-demo.json"
WORK = Path("output-lemica/calibration")
FAMILY = "lemica-demo"
RULES = ("output hold", "output half", "output linear", "residual hold", "residual half", "residual linear")

logger = logging.getLogger("demo_model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 30, 50])
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--judges", type=int, default=6, help="further samples on which only whole paths are measured")
    parser.add_argument("--mode", default="exact", choices=("short", "normal", "exact"))
    parser.add_argument("--budgets", type=int, nargs="*", help="default: those of the presets")
    parser.add_argument("--longest", type=int, default=0, help="default: twice the mean segment of the smallest budget")
    parser.add_argument("--tries", type=int, default=40, help="changed paths to measure per budget")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--no-write", action="store_true", help="leave the library as it is")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    enter_comfyui()
    demo = DemoModel()
    for steps in arguments.steps:
        budgets = arguments.budgets or preset_budgets(steps)
        longest = arguments.longest or longest_of(steps, budgets)
        result = measure(
            demo, steps, arguments.samples, arguments.mode, budgets, longest, arguments.tries, arguments.work,
            arguments.judges,
        )
        for budget, outcome in result.outcomes.items():
            logger.info(
                "%d of %d: %s, mean %.4f, worst %.4f, %s", budget, steps, outcome.route.found,
                sum(outcome.errors) / len(outcome.errors), max(outcome.errors), outcome.route.computed,
            )
        if not arguments.no_write:
            write(result.schedules(FAMILY if arguments.mode == "exact" else f"{FAMILY} fitted"))


def longest_of(steps: int, budgets: Sequence[int]) -> int:
    """How long segments are worth measuring: twice the mean segment of the smallest budget."""
    return min(steps, -(-2 * steps // min(budgets)))


def preset_budgets(steps: int) -> list[int]:
    """The budgets of the four presets in a run of N steps."""
    from lemica.schedules import PRESETS, Library, Match, ModelIdentity, preset_budget

    family = next(family for family in Library(LIBRARY.parent).families() if family.key == FAMILY)
    match = Match(family, "", ModelIdentity("WAN21", "WanModel"))
    return [preset_budget(match, preset, steps) for preset in PRESETS]


def measure(
    demo: DemoModel, steps: int, samples: int, mode: str, budgets: Sequence[int], longest: int, tries: int, work: Path,
    judges: int = 0, sampler: str = "euler", safe: bool = True,
) -> Result:
    """The calibration of a run of N steps, as far as it is not measured yet; its error graph is saved under ``work``."""
    from lemica.cache.identity import identify
    from lemica.calibration.job import Job, Progress, Settings, duration
    from lemica.calibration.store import Calibrations
    from lemica.schedules import Rule

    every = [demo.sampling(prompt, seed, steps, sampler) for prompt, seed in demo.calibration(samples + judges)]
    settings = Settings(
        family=demo.family, model=identify(demo.model), mode=mode, metric="l1",
        rules=tuple(Rule.parse(text) for text in RULES if mode == "exact" or text.startswith("output")),
        longest=longest, budgets=tuple(budgets), tries=tries, safe=safe,
        setup={"sampler": sampler, "scheduler": "simple", "cfg": demo.cfg, "shift": demo.shift},
    )
    name = f"{demo.family} {steps}" + (f" {sampler}" if sampler != "euler" else "")
    told: list[str] = []

    def tell(progress: Progress) -> None:
        if told[-1:] != [progress.stage]:
            told.append(progress.stage)
            left = "" if progress.seconds_left is None else f", {duration(progress.seconds_left)} left"
            logger.info("%d steps: %s (%d of %d model steps%s)", steps, progress.stage, progress.done, progress.total, left)

    name += " fitted" if settings.fits else ""  # its folder holds other measurements than that of replays
    job = Job(work, name, every[:samples], settings, judges=every[samples:], on_progress=tell)
    logger.info("%d steps, budgets %s, longest segment %d: %s", steps, budgets, longest, job.cost().describe())
    result = job.run()
    Calibrations(work).save(f"{name} {mode}", result.graph)
    return result


def write(schedules: list[Schedule]) -> None:
    """Put the schedules into the family's file, in place of the earlier ones of their names."""
    from lemica.schedules import dump_json
    from lemica.schedules.atomic import write_atomically

    family = json.loads(LIBRARY.read_text(encoding="utf-8"))
    entries = [{key: value for key, value in one.to_json().items() if key not in ("schema", "family")} for one in schedules]
    names = {one.name for one in schedules}
    others = [one for one in family.get("schedules", []) if one["name"] not in names]
    family["schedules"] = sorted([*others, *entries], key=lambda one: (one["steps"], -len(one["computed"]), one["name"]))
    write_atomically(LIBRARY, dump_json(family).encode())


if __name__ == "__main__":
    main()
