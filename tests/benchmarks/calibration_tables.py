"""What calibration brings on held-out prompts: `tests/run --script tests/benchmarks/calibration_tables.py`.

Calibrates the embedded model (by replays with a few samples, by full runs with many) as far as --work does not hold it yet,
measures paths on samples that no calibration has seen, and writes tables as JSON and Markdown. Everything that was
measured is kept under --work: started again, it goes on. From nothing it takes some hours on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent))

from held_out import ROOT, HeldOut, Score, spearman  # noqa: E402
from samples import DemoModel, enter_comfyui  # noqa: E402

if TYPE_CHECKING:
    from lemica.calibration import ErrorGraph
    from lemica.calibration.job import Result

HEAD = ["PSNR dB, mean / worst", "SSIM, mean / worst", "LPIPS, mean / worst"]
RESULTS = Path(__file__).resolve().parent / "results"
RECIPE = "residual hold"
"""The rule of the published lists."""


class Tables:
    """Collects tables; every row has a name, a budget, and a Score or plain cells."""

    def __init__(self) -> None:
        self.data: dict[str, list[dict]] = {}
        self.text: list[str] = []

    def add(self, title: str, about: str, rows: Iterable[tuple[int, str, Score]]) -> None:
        """A table of scores by budget and contestant."""
        found = list(rows)
        self.data[title] = [{"budget": budget, "what": what, **asdict(score)} for budget, what, score in found]
        self.plain(title, about, ["computed", "schedule", *HEAD], [[b, what, *score.cells()] for b, what, score in found])

    def plain(self, title: str, about: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table as it is."""
        self.data.setdefault(title, [dict(zip(head, row, strict=True)) for row in rows])
        lines = [head, ["---"] * len(head), *rows]
        self.text += [f"## {title}", "", about, "", *("| " + " | ".join(map(str, line)) + " |" for line in lines), ""]


class Experiments:
    """The comparisons, on one grid of N steps."""

    def __init__(self, held_out: HeldOut, exact: Result, full_runs: ErrorGraph, budgets: Sequence[int]) -> None:
        self.held_out, self.budgets = held_out, budgets
        self.exact, self.graph, self.full_runs = exact, exact.graph, full_runs
        self.steps, self.sigmas = self.graph.steps, self.graph.sigmas

    def score(self, edges: Sequence, budget: int, objective: str = "minimax") -> Score:
        """The score of the solver's path."""
        from lemica.calibration import solve

        schedule = solve(edges, self.steps, budget, objective=objective).to_schedule("path", "any", self.sigmas)
        return self.held_out.measure(schedule.computed, schedule.rules)

    def of_rules(self, start: str) -> list:
        """Edges of the rules that begin with ``start``."""
        return [edge for edge in self.graph.edges() if str(edge.rule).startswith(start)]

    def table3(self, tables: Tables) -> None:
        rows = []
        for budget in self.budgets:
            for name, edges in (("any rule per segment", self.graph.edges()), (RECIPE, self.of_rules(RECIPE))):
                for objective in ("minimax", "shortest"):
                    rows.append((budget, f"{objective}, {name}", self.score(edges, budget, objective)))
        about = "Lexicographic minimax against the shortest path on the same exact graph (the paper's Table 3)."
        tables.add("1. Which path", about, rows)

    def table2(self, tables: Tables) -> None:
        graph = self.full_runs
        counts = [count for count in (1, 5, 10, 20) if count <= len(graph.samples)]
        rows = [
            (budget, f"{count} sample{'s' * (count > 1)}", self.score(graph.take(range(count)).edges(), budget))
            for budget in self.budgets for count in counts
        ]
        tables.add("2. How many samples", "Minimax paths of the errors of full runs (the paper's Table 2).", rows)

    def rules(self, tables: Tables) -> None:
        from lemica.calibration.outcome import uniform

        rows = []
        for budget in self.budgets:
            rows.append((budget, "fewer steps, no cache", self.held_out.fewer_steps(budget)))
            for rule in map(str, self.graph.rules):
                spaced = self.held_out.measure(uniform(self.steps, budget), [rule] * budget)
                rows.append((budget, f"uniform, {rule}", spaced))
            for rule in map(str, self.graph.rules):
                order = "first" if rule.endswith("hold") else "second"
                recipe = "published recipe: " if rule == RECIPE else ""
                rows.append((budget, f"{recipe}{order} order, {rule}", self.score(self.of_rules(rule), budget)))
            outputs = self.of_rules("output")
            rows.append((budget, "second order, any output rule per segment", self.score(outputs, budget)))
            rows.append((budget, "second order, any rule per segment", self.score(self.graph.edges(), budget)))
        tables.add("3. Which rule", "Minimax paths of the exact graph, each with the rules it runs with.", rows)

    def outcome(self, tables: Tables) -> None:
        from lemica.calibration.outcome import uniform
        from lemica.schedules import Library, resample

        library = Library(ROOT / "schedules" / "library")
        published = [one for one in library.schedules("wan2.1-t2v-1.3b") if one.steps == self.steps]
        rows = []
        for budget in self.budgets:
            route = self.exact.outcomes[budget].route
            rows.append((budget, "final: measured and polished", self.held_out.measure(route.computed, route.rules)))
            rows.append((budget, "the solver's path", self.score(self.graph.edges(), budget)))
            rows.append((budget, "shortest path", self.score(self.graph.edges(), budget, "shortest")))
            even = [
                (f"uniform, {rule}", self.held_out.measure(uniform(self.steps, budget), [str(rule)] * budget))
                for rule in self.graph.rules
            ]
            rows.append((budget, *max(even, key=lambda row: row[1].psnr)))
            if published:
                nearest = min(published, key=lambda one: abs(one.budget - budget))
                fitted = resample(nearest, self.sigmas, budget)
                rows.append((budget, f"published for Wan 2.1 1.3B, {RECIPE}",
                             self.held_out.measure(fitted.computed, fitted.rules)))
        about = "What measuring whole paths adds; of uniform spacing the best rule is shown."
        tables.add("4. Outcome decides", about, rows)

    def without_replays(self, tables: Tables) -> None:
        """The errors that follow from full runs, against those of replays."""
        graph = self.full_runs.take([self.full_runs.samples.index(sample) for sample in self.graph.samples])
        rows = []
        for name in ("output", *map(str, graph.rules)):
            exact = self.of_rules(name)
            told = [edge for edge in graph.edges() if str(edge.rule).startswith(name)]
            errors = {edge[:4]: edge.error for edge in told}
            lost = [self.score(exact, budget).psnr - self.score(told, budget).psnr for budget in self.budgets]
            rank = spearman([errors[edge[:4]] for edge in exact], [edge.error for edge in exact])
            rows.append([
                "any output rule" if name == "output" else name, f"{rank:.4f}", *(f"{value:+.2f}" for value in lost),
            ])
        about = (
            "Errors of segments and minimax paths of full runs alone against those of the exact graph, on the same samples. "
            "Those of full runs are of the latent after the segment, those of replays of the final latent."
        )
        head = ["rule", "Spearman", *(f"dB lost at {budget}" for budget in self.budgets)]
        tables.plain("5. Without replays", about, head, rows)

    def prediction(self, tables: Tables) -> None:
        from lemica.calibration import sweep

        rows, predicted, seen = [], [], []
        for budget, path in sweep(self.graph.edges(), self.steps).items():
            if budget % 5 or budget < min(self.budgets) or path.worst == 0:
                continue
            schedule = path.to_schedule("path", "any", self.sigmas)
            score = self.held_out.measure(schedule.computed, schedule.rules)
            rows.append([budget, f"{path.worst:.5f}", f"{path.total:.5f}", f"{score.psnr:.1f}", f"{score.psnr_worst:.1f}"])
            predicted.append(path.worst)
            seen.append(-score.psnr)
        about = (
            f"The solver's paths over the budgets: predicted errors and held-out PSNR. Spearman's rank correlation of the "
            f"predicted worst error with the measured PSNR: {spearman(predicted, seen):.3f}."
        )
        head = ["computed", "predicted worst", "predicted total", "PSNR dB, mean", "PSNR dB, worst"]
        tables.plain("6. Prediction and outcome", about, head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--budgets", type=int, nargs="+", default=[25, 17, 10, 7])
    parser.add_argument("--longest", type=int, default=12)
    parser.add_argument("--samples", type=int, default=20, help="full runs")
    parser.add_argument("--exact-samples", type=int, default=3, help="the first of them, replayed")
    parser.add_argument("--judges", type=int, default=3, help="further samples that judge whole paths")
    parser.add_argument("--held-out", type=int, default=16)
    parser.add_argument("--tries", type=int, default=40)
    parser.add_argument("--work", type=Path, default=Path("output-lemica/calibration"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    enter_comfyui()
    sys.path.insert(0, str(ROOT / "workflows" / "demo_model"))
    from calibrate_demo import measure

    demo, steps, longest = DemoModel(), arguments.steps, arguments.longest
    exact = measure(
        demo, steps, arguments.exact_samples, "exact", arguments.budgets, longest, arguments.tries, arguments.work,
        arguments.judges,
    )
    full_runs = measure(demo, steps, arguments.samples, "short", (), longest, 0, arguments.work).graph
    held_out = HeldOut(demo, arguments.steps, arguments.held_out, arguments.work / "held_out.json")
    experiments = Experiments(held_out, exact, full_runs, arguments.budgets)
    tables = Tables()
    for experiment in (
        experiments.table3, experiments.table2, experiments.rules, experiments.outcome, experiments.without_replays,
        experiments.prediction,
    ):
        experiment(tables)
        write(tables, arguments)


def write(tables: Tables, arguments: argparse.Namespace) -> None:
    """Keep what is there so far."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"calibration_{arguments.steps}"
    text = [
        f"# Calibration of the embedded model, {arguments.steps} steps", "",
        f"Made by `tests/run --script tests/benchmarks/calibration_tables.py --steps {arguments.steps}`: Euler, simple, "
        f"sigma shift 5, CFG 4; {arguments.exact_samples} samples in the exact graph, {arguments.judges} more that judge whole "
        f"paths; {arguments.held_out} held-out samples "
        "of other prompts and seeds; decoded frames against the full run.", "", *tables.text,
    ]
    file.with_suffix(".md").write_text("\n".join(text), encoding="utf-8")
    file.with_suffix(".json").write_text(json.dumps(tables.data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
