"""What a calibration is worth at other step counts: `tests/run --script tests/benchmarks/any_steps.py`.

Interpolates the error graph of the embedded model at --source steps to each of --steps, solves it there, and compares
with a calibration made at that step count from the same samples: errors of edges, and decoded frames of samples that
no calibration has seen. What --work does not hold yet is measured first; started again, it goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent))

from calibration_tables import RESULTS, Tables  # noqa: E402
from held_out import ROOT, HeldOut, Score, spearman  # noqa: E402
from samples import DemoModel, enter_comfyui  # noqa: E402

if TYPE_CHECKING:
    from lemica.calibration import ErrorGraph
    from lemica.schedules import Schedule

GOAL = 0.3
"""How many dB may be lost against a calibration at the step count itself, over all budgets."""

SHARES = (0.25, 0.6)
"""The least and the largest share of computed steps; every budget between them is compared."""

FEW = {8: (6, 4), 4: (3, 2)}
"""Budgets that are measured at few steps."""

COUNTS = (4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 60, 80, 100)
SCHEDULERS = ("simple", "beta", "karras", "normal")


@dataclass(frozen=True, slots=True)
class Losses:
    """What the paths of the interpolated graph lose at one step count, in dB.

    ``by_budget``: in PSNR of held-out samples. ``worst``, ``total``: of the segments' errors in the graph that was
    measured there, mean over the budgets.
    """

    steps: int
    by_budget: dict[int, float]
    worst: float
    total: float

    def cells(self) -> list[object]:
        """Mean with its standard error, median, and whether the mean keeps to the goal."""
        values = list(self.by_budget.values())
        mean, error = fmean(values), stdev(values) / math.sqrt(len(values))
        return [f"{mean:+.2f} ± {error:.2f}", f"{median(values):+.2f}", "yes" if mean < GOAL else "no"]


class AnySteps:
    """The comparisons.

    Args:
        demo: the embedded model.
        source: the error graph that is interpolated.
        held_out: how many samples to check on.
        work: where measurements are kept.
    """

    def __init__(self, demo: DemoModel, source: ErrorGraph, held_out: int, work: Path) -> None:
        self._demo, self._source, self._count, self._work = demo, source, held_out, work
        self.tables = Tables()
        self.losses: list[Losses] = []

    def compare(self, own: ErrorGraph, budgets: Sequence[int]) -> None:
        """The tables of one step count, from the graph that was measured there."""
        from lemica.calibration.choose import solved
        from lemica.calibration.regrid import regrid
        from lemica.schedules import resample

        common = [place for place, sample in enumerate(self._source.samples) if sample in own.samples]
        source = self._source.take(common)
        own = own.take([own.samples.index(sample) for sample in source.samples])
        moved = regrid(source, own.sigmas)
        self._edges(own, moved)
        held_out = HeldOut(self._demo, own.steps, self._count, self._work / "held_out.json")
        rows: list[tuple[int, str, Score]] = []
        lost = {}
        for budget in budgets:
            whole = solved("source", source, max(round(budget * source.steps / own.steps), 2))
            contestants = {
                f"calibrated at {own.steps} steps": solved("own", own, budget),
                f"interpolated from {source.steps} steps, solved": solved("moved", moved, budget),
                f"path solved at {source.steps} steps, resampled": resample(whole, own.sigmas, budget),
            }
            scores = {what: _score(held_out, schedule) for what, schedule in contestants.items()}
            rows += [(budget, what, score) for what, score in scores.items()]
            first, second, _ = scores.values()
            lost[budget] = first.psnr - second.psnr
            logging.info("%d of %d: %.2f and %.2f dB", budget, own.steps, first.psnr, second.psnr)
        regrets = [_regret(own, moved, budget) for budget in range(min(budgets), max(budgets) + 1)]
        self.losses.append(Losses(own.steps, lost, *map(fmean, zip(*regrets))))
        self.tables.add(
            f"Paths at {own.steps} steps", f"Solver's paths as they are, from the same {len(common)} samples.", rows
        )

    def few_steps(self) -> None:
        """What is left to gain at few steps."""
        from lemica.calibration import GraphError, InfeasibleError
        from lemica.calibration.choose import solved
        from lemica.calibration.regrid import regrid

        rows = []
        for steps, budgets in FEW.items():
            held_out = HeldOut(self._demo, steps, self._count, self._work / "held_out.json")
            for budget in budgets:
                rows.append((budget, f"{steps} steps, {budget} sampled instead", held_out.fewer_steps(budget)))
                try:
                    path = solved("moved", regrid(self._source, held_out.sigmas), budget)
                except (GraphError, InfeasibleError) as error:
                    logging.info("%d of %d: %s", budget, steps, error)
                    continue
                rows.append((budget, f"{steps} steps, {budget} computed", _score(held_out, path)))
        about = "Against the run that computes all of them; the graph is the interpolated one where it reaches that far."
        self.tables.add("Few steps", about, rows)

    def every_count(self) -> None:
        """What the LeMiCa node takes at many step counts and schedulers, with only this calibration at hand."""
        import comfy.samplers
        from lemica.cache.identity import identify
        from lemica.calibration.choose import choose
        from lemica.calibration.store import Calibrations
        from lemica.schedules import Library, find_family

        library = Library(ROOT / "schedules" / "library")
        match = find_family(identify(self._demo.model), library.families())
        calibrations = Calibrations(self._work / "source")
        calibrations.save("source", self._source)
        model_sampling = self._demo.model.get_model_object("model_sampling")
        rows = []
        for steps in COUNTS:
            cells = []
            for scheduler in SCHEDULERS:
                sigmas = comfy.samplers.calculate_sigmas(model_sampling, scheduler, steps).tolist()
                begin = time.perf_counter()
                schedule = choose(library, calibrations, match, sigmas).schedule
                origin = "interpolated" if "interpolated_from" in schedule.source else schedule.origin
                cells.append(f"{schedule.budget} of {schedule.steps}, {origin}, {time.perf_counter() - begin:.1f} s")
                assert schedule.computed[0] == 0 and schedule.steps == len(sigmas) - 1
            rows.append([steps, *cells])
        about = "Preset medium: computed steps, whether the interpolated graph was solved or a finished list resampled, time."
        self.tables.plain("Every step count", about, ["steps", *SCHEDULERS], rows)

    def summary(self) -> None:
        """The loss over the budgets, against the goal."""
        rows = [
            [one.steps, ", ".join(f"{budget}: {loss:+.2f}" for budget, loss in one.by_budget.items()), *one.cells(),
             f"{one.worst:+.2f}", f"{one.total:+.2f}"]
            for one in self.losses
        ]
        every = [loss for one in self.losses for loss in one.by_budget.values()]
        regrets = (fmean(getattr(one, key) for one in self.losses) for key in ("worst", "total"))
        whole = Losses(0, dict(enumerate(every)), *regrets)
        rows.append(["all", "", *whole.cells(), f"{whole.worst:+.2f}", f"{whole.total:+.2f}"])
        about = (
            f"What is lost against a calibration at the step count itself, in dB: PSNR, mean of {self._count} held-out "
            "samples, by budget, and the paths' segments in the graph measured there. Paths that the graph holds for "
            "equally good differ by some dB where the PSNR is high, either way: see the standard error."
        )
        head = ["steps", "PSNR by budget", "mean", "median", f"under {GOAL} dB", "worst segment", "sum of segments"]
        self.tables.plain("Loss", about, head, rows)

    def _edges(self, own: ErrorGraph, moved: ErrorGraph) -> None:
        """How well errors are predicted, for the segments that both graphs have."""
        predicted = dict(zip(map(tuple, moved.segments.tolist()), moved.mean().tolist(), strict=True))
        measured = dict(zip(map(tuple, own.segments.tolist()), own.mean().tolist(), strict=True))
        both = [row for row in measured if row in predicted and measured[row] > 0]
        ratios = [math.log(predicted[row] / measured[row]) for row in both]
        cells = [[
            len(measured), len(both), f"{spearman([predicted[row] for row in both], [measured[row] for row in both]):.4f}",
            f"{math.exp(median(ratios)) - 1:+.1%}", f"{math.exp(median(map(abs, ratios))) - 1:.1%}",
        ]]
        head = ["measured edges", "of them predicted", "Spearman", "median ratio", "median error"]
        about = f"Interpolated from {self._source.steps} steps against measured at {own.steps}."
        self.tables.plain(f"Errors of edges at {own.steps} steps", about, head, cells)


def _regret(own: ErrorGraph, moved: ErrorGraph, budget: int) -> tuple[float, float]:
    """How much larger the worst and the sum of a path's errors are than those of the best path, in dB, both in ``own``."""
    from lemica.calibration import solve

    best = solve(own.edges(), own.steps, budget)
    path = solve(moved.edges(), own.steps, budget)
    errors = {edge[:4]: edge.error for edge in own.edges()}
    befores = (-1, *path.computed)
    found = [
        errors[(before if rule.slope and start else -1, start, end, rule)]
        for before, (start, end), rule in zip(befores, path.segments(), path.rules) if rule is not None
    ]
    return 20 * math.log10(max(found) / best.worst), 20 * math.log10(sum(found) / best.total)


def _score(held_out: HeldOut, schedule: Schedule) -> Score:
    return held_out.measure(schedule.computed, schedule.rules)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=int, default=50)
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 30, 40])
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--longest", type=int, default=10, help="at the other step counts; at --source it is 12")
    parser.add_argument("--held-out", type=int, default=16)
    parser.add_argument("--work", type=Path, default=Path("output-lemica/any_steps"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    enter_comfyui()
    from calibrate_demo import measure

    demo = DemoModel()
    source = measure(demo, arguments.source, arguments.samples, "short", (), 12, 0, arguments.work).graph
    experiment = AnySteps(demo, source, arguments.held_out, arguments.work)
    for steps in arguments.steps:
        own = measure(demo, steps, arguments.samples, "short", (), arguments.longest, 0, arguments.work).graph
        least, most = (round(share * steps) for share in SHARES)
        experiment.compare(own, range(most, least - 1, -1))
        write(experiment.tables, arguments)
    experiment.summary()
    experiment.few_steps()
    experiment.every_count()
    write(experiment.tables, arguments)


def write(tables: Tables, arguments: argparse.Namespace) -> None:
    """The tables as Markdown and JSON."""
    RESULTS.mkdir(exist_ok=True)
    text = [
        "# One calibration for any step count", "",
        f"Made by `tests/run --script tests/benchmarks/any_steps.py`: embedded model, Euler, simple, sigma shift 5, CFG 4; "
        f"error graphs of {arguments.samples} full runs at {arguments.source} and at the other step counts; "
        f"{arguments.held_out} held-out samples of other prompts and seeds, decoded frames against the full run of as many "
        "steps.", "", *tables.text,
    ]
    (RESULTS / "any_steps.md").write_text("\n".join(text), encoding="utf-8")
    (RESULTS / "any_steps.json").write_text(json.dumps(tables.data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
