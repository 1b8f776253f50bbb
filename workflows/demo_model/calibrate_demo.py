"""Calibrates the embedded model and writes its schedules into the family's file in the library.

    tests/run --script workflows/demo_model/calibrate_demo.py --steps 20 30 50

It goes on where it was stopped: what it has measured lies in the folder that --work names.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from samples import ROOT, DemoModel, enter_comfyui  # noqa: E402

LIBRARY = ROOT / "schedules" / "library" / "lemica-demo.json"
FAMILY = "lemica-demo"
RULES = ("output hold", "output half", "output linear", "residual hold", "residual half", "residual linear")

logger = logging.getLogger("demo_model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 30, 50])
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--mode", default="exact", choices=("quick", "standard", "exact"))
    parser.add_argument("--budgets", type=int, nargs="*", help="default: those of the presets")
    parser.add_argument("--longest", type=int, default=0, help="default: twice the mean segment of the smallest budget")
    parser.add_argument("--tries", type=int, default=40, help="changed paths to measure per budget")
    parser.add_argument("--work", type=Path, default=Path("output-lemica/calibration"))
    parser.add_argument("--no-write", action="store_true", help="leave the library as it is")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    enter_comfyui()
    demo = DemoModel()
    for steps in arguments.steps:
        schedules = calibrate(demo, steps, arguments)
        if not arguments.no_write:
            write(steps, schedules)


def calibrate(demo: DemoModel, steps: int, arguments: argparse.Namespace) -> list:
    """The calibrated schedules for a run of N steps; the error graph is saved under --work."""
    from lemica.cache.identity import identify
    from lemica.calibration.job import Job, Progress, Settings, duration
    from lemica.calibration.store import Calibrations
    from lemica.schedules import PRESETS, Library, Rule, find_family, preset_budget

    identity = identify(demo.model)
    match = find_family(identity, Library(LIBRARY.parent).families())
    budgets = arguments.budgets or [preset_budget(match, preset, steps) for preset in PRESETS]
    longest = arguments.longest or min(steps, -(-2 * steps // min(budgets)))
    samplings = [demo.sampling(prompt, seed, steps) for prompt, seed in demo.calibration(arguments.samples)]
    settings = Settings(
        family=FAMILY, model=identity, mode=arguments.mode, metric="l1", rules=tuple(map(Rule.parse, RULES)),
        longest=longest, budgets=tuple(budgets), tries=arguments.tries,
        setup={"sampler": "euler", "scheduler": "simple", "cfg": 4.0, "shift": 5.0},
    )
    name = f"{FAMILY} {steps}"
    told: list[str] = []

    def tell(progress: Progress) -> None:
        if told[-1:] != [progress.stage]:
            told.append(progress.stage)
            left = "" if progress.seconds_left is None else f", {duration(progress.seconds_left)} left"
            logger.info("%d steps: %s (%d of %d model steps%s)", steps, progress.stage, progress.done, progress.total, left)

    job = Job(arguments.work, name, samplings, settings, on_progress=tell)
    logger.info("%d steps, budgets %s, longest segment %d: %s", steps, budgets, longest, job.cost().describe())
    result = job.run()
    Calibrations(arguments.work).save(f"{name} {arguments.mode}", result.graph)
    for budget, outcome in result.outcomes.items():
        logger.info(
            "%d of %d: %s, mean %.4f, worst %.4f, %s", budget, steps, outcome.route.found,
            sum(outcome.errors) / len(outcome.errors), max(outcome.errors), outcome.route.computed,
        )
    return result.schedules(FAMILY)


def write(steps: int, schedules: list) -> None:
    """Put the schedules into the family's file, in place of the earlier ones for as many steps."""
    from lemica.schedules import dump_json
    from lemica.schedules.atomic import write_atomically

    family = json.loads(LIBRARY.read_text(encoding="utf-8"))
    entries = [{key: value for key, value in one.to_json().items() if key not in ("schema", "family")} for one in schedules]
    others = [one for one in family.get("schedules", []) if one["steps"] != steps]
    family["schedules"] = sorted([*others, *entries], key=lambda one: (one["steps"], -len(one["computed"])))
    write_atomically(LIBRARY, dump_json(family).encode())


if __name__ == "__main__":
    main()
