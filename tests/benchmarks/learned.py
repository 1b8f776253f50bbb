"""What full runs teach that users make anyway: `tests/run --script tests/benchmarks/learned.py`.

The schedules that the LeMiCa node takes after so many pictures of a model that it knows nothing of, beside those that it
estimates and those of a calibration of effort short. Decoded frames of held-out samples against their full run; and what
recording adds to a run. What was measured lies under --work: started again, it goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from full_runs import RESULTS, HeldOutFrames, command, figures, load
from samples import DemoModel, enter_comfyui

if TYPE_CHECKING:
    from lemica.calibration.learning.learned import Learned
    from lemica.schedules import Schedule

STEPS = 50
BUDGETS = (25, 17, 10, 7)
PICTURES = (3, 8)
TIMED = 12
"""How many runs of each kind are timed, in turns."""

logger = logging.getLogger("benchmark")


class Pupil:
    """One model and sampler, whose full runs are learned from."""

    def __init__(self, model: DemoModel, sampler: str, work: Path) -> None:
        from lemica.cache.identity import identify
        from lemica.calibration.learning.records import Records

        self.model, self.sampler = model, sampler
        self.identity = replace(identify(model.model), file=model.family)
        self.records = Records(work)

    def picture(self, pair: tuple[int, int], record: bool = True, budget: int | None = None) -> float:
        """Make a full run of a prompt and seed, learned from or not, and refined at a budget or not; its seconds."""
        from lemica.cache.placement import Placement
        from lemica.cache.run import SamplingRun
        from lemica.cache.setting import RunSetting
        from lemica.cache.wrapper import full_schedule
        from lemica.calibration.learning.kind import kind_of
        from lemica.calibration.learning.lesson import FullRunLesson

        sampling = self.model.sampling(*pair, STEPS, self.sampler)
        setting = RunSetting(sampling.sigmas, {}, sampling.sampler, sampling.guider, sampling.shape, None, pair[1])
        begin = time.perf_counter()
        lesson = FullRunLesson(self.records, kind_of("pupil", self.identity, setting), setting, budget) if record else None
        sampling.run(lambda sigmas: SamplingRun(
            full_schedule(sigmas), sigmas, Placement("auto"), answered=lesson and lesson.answered, ended=lesson and lesson.ended
        ))
        return time.perf_counter() - begin

    def learned(self) -> Learned:
        """What the records teach."""
        (learned,) = self.records.learned(self.records.all()[0][1].kind)
        return learned


def schedules(pupil: Pupil, pairs: list[tuple[int, int]], sigmas: tuple[float, ...]) -> Iterator[tuple[str, int, Schedule]]:
    """What the node would take, by what is known, and by budget."""
    from lemica.schedules.prior import estimate
    from lemica.schedules.select import ESTIMATED_RULE

    for budget in BUDGETS:
        yield "estimated", budget, estimate("pupil", sigmas, budget, ESTIMATED_RULE)
    made = 0
    for count in PICTURES:
        for pair in pairs[made:count]:
            pupil.picture(pair)
        made = count
        learned = pupil.learned()
        for budget in BUDGETS:
            yield f"learned from {count} pictures", budget, learned.schedule(budget)
    for count in PICTURES:
        for budget in BUDGETS:
            refined = Pupil(pupil.model, pupil.sampler, pupil.records.root.with_name(f"refined-{time.time_ns()}"))
            for pair in pairs[:count]:
                refined.picture(pair, budget=budget)
            yield f"refined on {count} pictures", budget, refined.learned().schedule(budget)


def calibrated(name: str, sampler: str, held_out: int) -> dict[int, list[float]]:
    """What results/full_runs.json has of effort short on the same samples, by budget."""
    rows = json.loads((RESULTS / "full_runs.json").read_text(encoding="utf-8"))
    return {
        row["budget"]: row["psnr"] for row in rows
        if (row["model"], row["sampler"]) == (name, sampler) and row["way"] == "this pack: short, safe"
        and len(row["psnr"]) == held_out
    }


def cost(pupil: Pupil, pair: tuple[int, int]) -> tuple[float, float]:
    """The median seconds of a full run, and of one that is recorded."""
    times = [(pupil.picture(pair, record=False), pupil.picture(pair)) for _ in range(TIMED + 1)][1:]
    plain, recorded = zip(*times, strict=True)
    return median(plain), median(recorded)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["video", "digits"], choices=("video", "digits"))
    parser.add_argument("--samplers", nargs="+", default=["euler", "dpmpp_2m", "uni_pc", "dpmpp_2m_sde"])
    parser.add_argument("--held-out", type=int, default=16)
    parser.add_argument("--work", type=Path, default=Path("output-lemica/learned"))
    parser.add_argument("--name", default="learned")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    enter_comfyui()
    rows: list[dict] = []
    text = [
        "# Learned from pictures", "",
        f"Made by `{command('learned.py')}`: {STEPS} steps, {arguments.held_out} held-out samples, "
        "PSNR of decoded frames in dB, mean / 5 % / worst. Nothing is run for what is learned but the pictures themselves; "
        "what is refined made each of them once more with as many steps as it computes; a calibration of effort short makes "
        "about eleven full runs.", "",
    ]
    for name in arguments.models:
        for sampler in arguments.samplers:
            model = load(name)
            place = arguments.work / f"{name}-{sampler}"
            pupil = Pupil(model, sampler, place / f"records-{time.time_ns()}")
            held_out = HeldOutFrames(model, sampler, STEPS, arguments.held_out, place / f"frames-{arguments.held_out}.json")
            found: dict[str, dict[int, str]] = {}
            for way, budget, schedule in schedules(pupil, model.calibration(max(PICTURES)), held_out.sigmas):
                psnr = [pair[0] for pair in held_out.measure(schedule)]
                found.setdefault(way, {})[budget] = figures(psnr)
                rows.append({"model": name, "sampler": sampler, "way": way, "budget": budget, "psnr": psnr})
                logger.info("%s %s %s %d: %s", name, sampler, way, budget, figures(psnr))
            short = {budget: figures(psnr) for budget, psnr in calibrated(name, sampler, arguments.held_out).items()}
            found["calibrated, effort short"] = short
            text += [f"## {name}, {sampler}", "", f"| | {' | '.join(map(str, BUDGETS))} |", f"|---|{'---|' * len(BUDGETS)}"]
            for way, cells in found.items():
                text.append(f"| {way} | {' | '.join(cells.get(budget, '') for budget in BUDGETS)} |")
            plain, recorded = cost(pupil, model.calibration(1)[0])
            text += ["", f"A full run takes {plain:.2f} s, one that is recorded {1000 * (recorded - plain):+.0f} ms "
                     f"({100 * (recorded / plain - 1):+.1f} %; medians of {TIMED}, in turns).", ""]
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{arguments.name}.md").write_text("\n".join(text), encoding="utf-8")
            (RESULTS / f"{arguments.name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
