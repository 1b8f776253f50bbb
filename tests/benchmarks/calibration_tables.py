"""What calibration brings on held-out prompts: `tests/run --script tests/benchmarks/calibration_tables.py`.

Calibrates the embedded model (exactly with a few samples, by gains with many) as far as --work does not hold it yet,
measures paths on samples that no calibration has seen, and writes tables as JSON and Markdown. Everything that was
measured is kept under --work: started again, it goes on. From nothing it takes some hours on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from held_out import ROOT, HeldOut, Score, spearman  # noqa: E402
from samples import DemoModel, enter_comfyui  # noqa: E402

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

    def __init__(self, held_out: HeldOut, results: dict, budgets: Sequence[int]) -> None:
        self.held_out, self.budgets = held_out, budgets
        self.exact, self.standard, self.quick = results["exact"], results["standard"], results["quick"]
        self.results = results
        self.graph = self.exact.graph
        self.steps, self.sigmas = self.graph.steps, self.graph.sigmas

    def score(self, edges: Sequence, budget: int, objective: str = "minimax") -> Score:
        """The score of the solver's path."""
        from lemica.calibration import solve

        schedule = solve(edges, self.steps, budget, objective=objective).to_schedule("path", "any", self.sigmas)
        return self.held_out.measure(schedule.computed, schedule.rules)

    def of_rules(self, keep: Callable[[str], bool]) -> list:
        return [edge for edge in self.graph.edges() if keep(str(edge.rule))]

    def first_order(self, rule: str) -> list:
        """Edges that hold after any computed step, with the error of the one that was replayed."""
        edges = self.of_rules(lambda text: text == rule)
        return [
            edge._replace(before=-1) for edge in edges
            if edge.before < 0 or edge.before == max(edge.start - (edge.end - edge.start), 0)
        ]

    def table3(self, tables: Tables) -> None:
        rows = []
        for budget in self.budgets:
            for name, edges in (("any rule per segment", self.graph.edges()), (RECIPE, self.first_order(RECIPE))):
                for objective in ("minimax", "shortest"):
                    rows.append((budget, f"{objective}, {name}", self.score(edges, budget, objective)))
        about = "Lexicographic minimax against the shortest path on the same exact graph (the paper's Table 3)."
        tables.add("1. Which path", about, rows)

    def table2(self, tables: Tables) -> None:
        graph = self.standard.graph
        counts = [count for count in (1, 5, 10, 20) if count <= len(graph.samples)]
        rows = [
            (budget, f"{count} sample{'s' * (count > 1)}", self.score(graph.take(range(count)).edges(), budget))
            for budget in self.budgets for count in counts
        ]
        tables.add("2. How many samples", "Minimax paths of standard graphs (the paper's Table 2).", rows)

    def rules(self, tables: Tables) -> None:
        from lemica.calibration.outcome import uniform

        rows = []
        for budget in self.budgets:
            rows.append((budget, "fewer steps, no cache", self.held_out.fewer_steps(budget)))
            for rule in map(str, self.graph.rules):
                spaced = self.held_out.measure(uniform(self.steps, budget), [rule] * budget)
                rows.append((budget, f"uniform, {rule}", spaced))
            rows.append((budget, f"published recipe: first order, {RECIPE}", self.score(self.first_order(RECIPE), budget)))
            for rule in map(str, self.graph.rules):
                if rule != RECIPE:
                    order = "first" if rule.endswith("hold") else "second"
                    edges = self.of_rules(lambda text, rule=rule: text == rule)
                    rows.append((budget, f"{order} order, {rule}", self.score(edges, budget)))
            outputs = self.of_rules(lambda text: text.startswith("output"))
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

    def modes(self, tables: Tables) -> None:
        exact = self.graph.mean()
        tails = self.graph.segments[:, 2] == self.steps
        rows = []
        samples = range(len(self.graph.samples))
        reference = {budget: self.score(self.graph.edges(), budget) for budget in self.budgets}
        for mode in ("quick", "standard", "exact"):
            graph = self.results[f"{mode} of the exact samples"].graph.take(samples)
            calls = self.results[f"{mode} cost"]
            rank = spearman(graph.mean()[~tails], exact[~tails])
            off = abs(graph.mean()[~tails] / exact[~tails] - 1)
            lost = [reference[b].psnr - self.score(graph.edges(), b).psnr for b in self.budgets]
            rows.append([mode, calls, f"{calls / self.steps:.0f}", f"{rank:.4f}", f"{sorted(off)[len(off) // 2]:.1%}",
                         *(f"{value:+.2f}" for value in lost)])
        head = ["mode", "model steps a sample", "full runs", "Spearman", "median error of an edge",
                *(f"dB lost at {budget}" for budget in self.budgets)]
        about = "Errors of inner segments and minimax paths of each mode against the exact graph, on the same samples."
        tables.plain("5. Quick, standard, exact", about, head, rows)

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


def calibrations(demo: DemoModel, arguments: argparse.Namespace) -> dict:
    """Every calibration that the tables need, by mode."""
    sys.path.insert(0, str(ROOT / "workflows" / "demo_model"))
    from calibrate_demo import measure
    from lemica.calibration.estimate import replay_calls, replayed_edges

    def run(mode: str, samples: int, budgets: Sequence[int]) -> object:
        return measure(
            demo, arguments.steps, samples, mode, budgets, arguments.longest, arguments.tries, arguments.work,
            arguments.judges if budgets else 0,
        )

    results = {"exact": run("exact", arguments.exact_samples, arguments.all_budgets)}
    graph = results["exact"].graph
    for mode in ("quick", "standard", "exact"):
        results[f"{mode} of the exact samples"] = run(mode, arguments.exact_samples, ())
        replays = replayed_edges(graph.segments, graph.steps, graph.rules, mode)
        results[f"{mode} cost"] = graph.steps + replay_calls(graph.segments, graph.steps, replays)
    for mode in ("standard", "quick"):
        results[mode] = run(mode, arguments.samples, ())
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--budgets", type=int, nargs="+", default=[25, 17, 10, 7])
    parser.add_argument("--longest", type=int, default=12)
    parser.add_argument("--samples", type=int, default=20, help="of the standard graph")
    parser.add_argument("--exact-samples", type=int, default=3)
    parser.add_argument("--judges", type=int, default=3, help="further samples that judge whole paths")
    parser.add_argument("--held-out", type=int, default=16)
    parser.add_argument("--tries", type=int, default=40)
    parser.add_argument("--work", type=Path, default=Path("output-lemica/calibration"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    enter_comfyui()
    sys.path.insert(0, str(ROOT / "workflows" / "demo_model"))
    from calibrate_demo import preset_budgets

    arguments.all_budgets = sorted({*arguments.budgets, *preset_budgets(arguments.steps)}, reverse=True)
    demo = DemoModel()
    results = calibrations(demo, arguments)
    held_out = HeldOut(demo, arguments.steps, arguments.held_out, arguments.work / "held_out.json")
    experiments = Experiments(held_out, results, arguments.budgets)
    tables = Tables()
    for experiment in (
        experiments.table3, experiments.table2, experiments.rules, experiments.outcome, experiments.modes,
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
