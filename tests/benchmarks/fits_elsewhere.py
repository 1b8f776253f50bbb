"""Fitted schedules where they were not fitted: `tests/run --script tests/benchmarks/fits_elsewhere.py`.

Paths fitted with other numbers of full runs, and those of five full runs at other sizes, CFG, samplers, sigma shifts and
step counts than the calibration's: what the LeMiCa node takes there, beside the same path with the half slope and held.
Decoded frames of held-out samples against their full run. What was measured lies under --work: started again, it goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from full_runs import RESULTS, ROOT, HeldOutFrames, load
from samples import DemoModel, enter_comfyui

if TYPE_CHECKING:
    from lemica.calibration.job import Result
    from lemica.schedules import Schedule

BUDGETS = (25, 17, 10, 7)
STEPS = 50
REFERENCES = (3, 5, 10)
SIZES = {
    "video": {
        "96x96, 9 frames": (1, 16, 3, 12, 12), "112x64, 9 frames": (1, 16, 3, 8, 14), "64x64, 17 frames": (1, 16, 5, 8, 8),
        "64x64, 1 frame": (1, 16, 1, 8, 8),
    },
    "digits": {"24x24": (1, 3, 24, 24), "24x16": (1, 3, 16, 24), "12x12": (1, 3, 12, 12)},
}
"""Of latents."""
CFGS = (0.5, 0.75, 1.25, 1.5, 2.0)
"""Times that of the calibration; without a negative prompt besides."""
SAMPLERS = ("dpmpp_2m", "uni_pc", "heun", "dpmpp_2m_sde")
SHIFTS = (0.75, 1.5)
COUNTS = (40, 30, 20)
MARGIN = 0.5
"""How many dB a fit may lie under hold, at most."""

logger = logging.getLogger("benchmark")


def calibrated(model: DemoModel, references: int, work: Path) -> Result:
    """What effort short finds at the calibration's own setting."""
    from calibrate_demo import longest_of, measure

    longest = longest_of(STEPS, BUDGETS)
    return measure(model, STEPS, references, "short", BUDGETS, longest, 0, work / f"{references} references")


def settings(name: str) -> Iterator[tuple[str, DemoModel, int, str, str]]:
    """Of every row but the first: what is other, the model with it, steps, sampler."""
    for size, shape in SIZES[name].items():
        yield "size", size, load(name, shape=shape), STEPS, "euler"
    own = load(name)
    for cfg in (1.0, *(factor * own.cfg for factor in CFGS)):
        yield "CFG", f"{cfg:g}", load(name, cfg=cfg), STEPS, "euler"
    for sampler in SAMPLERS:
        yield "sampler", sampler, own, STEPS, sampler
    for factor in SHIFTS:
        yield "shift", f"{factor * own.shift:g}", load(name, shift=factor * own.shift), STEPS, "euler"
    for steps in COUNTS:
        yield "steps", f"{steps}", own, steps, "euler"


def rows_of(name: str, arguments: argparse.Namespace) -> Iterator[dict]:
    """One row for each setting and budget."""
    own = load(name)
    results = {count: calibrated(own, count, arguments.work) for count in REFERENCES}

    def held_out(what: str, model: DemoModel, steps: int, sampler: str) -> HeldOutFrames:
        return HeldOutFrames(model, sampler, steps, arguments.held_out, arguments.work / f"frames {name} {what}.json")

    where = held_out("calibrated", own, STEPS, "euler")
    for count, result in results.items():
        for schedule in result.schedules(name):
            yield row(name, "full runs", f"{count}", where, schedule)
    choose = chooser(name, own, results[5], arguments.work)
    for what, value, model, steps, sampler in settings(name):
        where = held_out(f"{what} {value}", model, steps, sampler)
        for schedule in results[5].schedules(name):
            yield row(name, what, value, where, choose(schedule, where.sigmas))


def chooser(name: str, model: DemoModel, result: Result, work: Path) -> Callable[[Schedule, Sequence[float]], Schedule]:
    """What the LeMiCa node takes on any sigmas, with nothing but this calibration and its schedules at hand."""
    from lemica.cache.identity import identify
    from lemica.calibration.choose import choose
    from lemica.calibration.store import Calibrations
    from lemica.schedules import Library, find_family, same_grid

    calibrations = Calibrations(work / f"{name} graph")
    calibrations.save(name, result.graph)
    library = Library(ROOT / "schedules" / "library")
    match = find_family(identify(model.model), library.families())

    def chosen(schedule: Schedule, sigmas: Sequence[float]) -> Schedule:
        if same_grid(schedule.sigmas, sigmas):
            return schedule
        budget = round(schedule.budget * (len(sigmas) - 1) / schedule.steps)
        return choose(library, calibrations, match, sigmas, budget=budget, name=name).schedule

    return chosen


def row(name: str, what: str, value: str, held_out: HeldOutFrames, schedule: Schedule) -> dict:
    """What a schedule does, and its path with fixed rules: PSNR of every sample, in dB."""
    from lemica.schedules import Rule

    found = {"model": name, "what": what, "value": value, "budget": schedule.budget, "steps": schedule.steps}
    ways = {
        "taken": schedule, "half": schedule.with_rules((Rule("output", "half"),) * schedule.budget),
        "hold": schedule.with_rules((Rule("output", "hold"),) * schedule.budget),
    }
    for way, one in ways.items():
        found[way] = [psnr for psnr, _ in held_out.measure(one)]
    logger.info("%s %s %s %d: %s", name, what, value, schedule.budget, cell(found))
    return found


def cell(found: dict) -> str:
    """Mean of what is taken / of the half slope / of hold."""
    taken, half, hold = (fmean(found[way]) for way in ("taken", "half", "hold"))
    return f"{taken:.1f} / {half:.1f} / {hold:.1f}"


def table(rows: Sequence[dict]) -> list[str]:
    """Settings by the calibration's budgets; at another step count the budget is as large a share of it."""
    lines = [f"| | {' | '.join(f'{budget}' for budget in BUDGETS)} |", f"|---|{'---|' * len(BUDGETS)}"]
    for what, value in dict.fromkeys((one["what"], one["value"]) for one in rows):
        cells = [cell(one) for one in rows if (one["what"], one["value"]) == (what, value)]
        lines.append(f"| {what} {value} | {' | '.join(cells)} |")
    return lines


def behind(rows: Sequence[dict]) -> str:
    """Where what is taken lies under the same path held, in the mean."""
    lost = {
        "{model}, {what} {value}, {budget} of {steps}".format(**one): fmean(one["hold"]) - fmean(one["taken"])
        for one in rows
    }
    worst = [f"{where} by {value:.1f} dB" for where, value in lost.items() if value > MARGIN]
    return f"Under hold by more than {MARGIN} dB: {'; '.join(worst) or 'nowhere'} ({len(rows)} cases)."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["video", "digits"], choices=("video", "digits"))
    parser.add_argument("--held-out", type=int, default=16)
    parser.add_argument("--work", type=Path, default=Path("output-lemica/fits_elsewhere"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    enter_comfyui()
    rows: list[dict] = []
    for name in arguments.models:
        rows += rows_of(name, arguments)
        text = [
            "# Fitted schedules where they were not fitted\n",
            f"Made by `tests/run --script tests/benchmarks/fits_elsewhere.py`: {STEPS} Euler steps and five full runs to "
            f"calibrate unless said, effort short, {arguments.held_out} held-out samples. Mean PSNR in dB of decoded frames "
            "against the full run of the same setting: what the LeMiCa node takes / the same path with the half slope / held. "
            "On other sigmas (shift, steps) the node solves the error graph anew, with fixed rules and as many steps of the "
            "run.\n",
            f"{behind(rows)}\n",
        ]
        for each in arguments.models[: arguments.models.index(name) + 1]:
            text += [f"## {each}\n", *table([one for one in rows if one["model"] == each]), ""]
        (RESULTS / "fits_elsewhere.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        (RESULTS / "fits_elsewhere.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
