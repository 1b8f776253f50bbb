"""The paper's other experiments on the embedded model: `tests/run --script tests/benchmarks/paper.py [EXPERIMENT ...]`.

    shift       Figure 6: a schedule at other sigma shifts than it was calibrated for
    prompts     Tables 5 and 6: prompts near and far from the calibration's
    size        Figure 7: other resolutions and lengths

Tables 2 and 3 are in calibration_tables.py, Table 7 in calibration_cost.py; Figure 5 is `tests/run --script
tests/benchmarks/side_by_side.py --models video --samplers euler --steps 30 --budgets 19 12 9 7 --name figure_5`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT / "workflows" / "demo_model"), str(ROOT / "tests")]

from samples import SHIFT, DemoModel, enter_comfyui  # noqa: E402

STEPS = 30
BUDGETS = (18, 13, 10, 8)
SAMPLES = 6
PAIRS = 12


def rows_of(name: str, model: DemoModel, pairs: Sequence[tuple[int, int]], contestants: dict[str, Callable], work: Path):
    """PSNR and LPIPS of each contestant, mean and worst; a contestant is a schedule made from the arena's sigmas."""
    from arena import Arena
    from contestants import fewer_steps

    arena = Arena(model, "euler", pairs, work, STEPS, f"paper-{name}")
    for what, make in contestants.items():
        for budget in BUDGETS:
            key = f"{budget}|{what}"
            found = arena.known(key)
            if found is None:
                made = make(arena.sigmas, budget)
                run = fewer_steps(arena, budget) if made is None else arena.scheduled(made)
                found = arena.measure(key, run)
            row = found.row()
            yield [
                budget, what, f"{row['psnr']:.1f} / {row['psnr_worst']:.1f}", f"{row['ssim']:.4f}",
                f"{row['lpips']:.4f} / {row['lpips_worst']:.4f}",
            ]


def packaged(sigmas: Sequence[float], budget: int):
    """The schedule in the library, its steps as they are."""
    from lemica.schedules import Library

    return next(one for one in Library(ROOT / "schedules" / "library").schedules("lemica-demo")
                if one.steps == STEPS and one.budget == budget)


def fewer(sigmas: Sequence[float], budget: int) -> None:
    """No schedule: plain sampling with ``budget`` steps."""


def shifts(work: Path) -> list[list[object]]:
    """The trajectory scaled by the sigma shift."""
    from calibrate_demo import measure
    from lemica.calibration import solve
    from lemica.calibration.choose import solved
    from lemica.calibration.regrid import regrid

    def own(model: DemoModel):
        return measure(model, STEPS, SAMPLES, "short", (), 10, 0, work / f"shift {model.shift}").graph

    source = own(DemoModel())
    rows = []
    for factor in (0.5, 0.75, 1.0, 1.25, 1.5):
        model = DemoModel(shift=SHIFT * factor)
        graph = own(model)
        contestants = {
            "schedule of shift 5, its steps": lambda sigmas, budget: solve(source.edges(), STEPS, budget).to_schedule(
                "path", "any", source.sigmas
            ),
            "error graph of shift 5, interpolated": lambda sigmas, budget: solved("moved", regrid(source, sigmas), budget),
            "calibrated at this shift": lambda sigmas, budget, graph=graph: solved("own", graph, budget),
            "fewer steps": fewer,
        }
        rows += [[f"{model.shift:g}", *row] for row in rows_of(
            f"shift {model.shift:g}", model, model.held_out(PAIRS), contestants, work
        )]
    return rows


def prompts(work: Path) -> list[list[object]]:
    """Prompts of the calibration with other noise, other prompts, and conditionings that no prompt has."""
    model = DemoModel()
    known = [(prompt, 9500 + place) for place, (prompt, _) in enumerate(model.calibration(PAIRS))]
    blends = model.blended(PAIRS)
    sets = {"calibrated prompts, other seeds": known, "other prompts": model.held_out(PAIRS), "blends of two prompts": blends}
    rows = []
    for name, pairs in sets.items():
        contestants = {"as shipped": packaged, "fewer steps": fewer}
        rows += [[name, *row] for row in rows_of(f"prompts {name}", model, pairs, contestants, work)]
    return rows


def sizes(work: Path) -> list[list[object]]:
    """Latents larger, wider and longer than those of the calibration."""
    rows = []
    for frames, height, width in ((3, 8, 8), (3, 12, 12), (3, 8, 14), (5, 8, 8), (1, 8, 8)):
        model = DemoModel(shape=(1, 16, frames, height, width))
        name = f"{8 * width}x{8 * height}, {4 * frames - 3} frames"
        contestants = {"as shipped": packaged, "fewer steps": fewer}
        rows += [[name, *row] for row in rows_of(f"size {name}", model, model.held_out(PAIRS), contestants, work)]
    return rows


HEAD = ["computed", "schedule", "PSNR dB, mean / worst", "SSIM", "LPIPS, mean / worst"]
EXPERIMENTS = {
    "shift": (shifts, ["shift", *HEAD], "Figure 6: another trajectory scale",
              "Solver's paths of error graphs of 6 full runs; the shift 5 graph on the sigmas of other shifts."),
    "prompts": (prompts, ["prompts", *HEAD], "Tables 5 and 6: prompts far from the calibration's",
                "The packaged schedules. Blends are the means of two prompts' tokens: pictures that the model never saw."),
    "size": (sizes, ["size", *HEAD], "Figure 7: other resolutions and lengths",
             "The packaged schedules of 64x64 pixels and 9 frames."),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", default=list(EXPERIMENTS), metavar="EXPERIMENT")
    parser.add_argument("--work", type=Path, default=Path("output-lemica/paper"))
    arguments = parser.parse_args()
    unknown = set(arguments.experiments) - set(EXPERIMENTS)
    if unknown:
        parser.error(f"no experiment {', '.join(sorted(unknown))}: choose from {', '.join(EXPERIMENTS)}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    enter_comfyui()
    from calibration_tables import RESULTS, Tables

    for name in arguments.experiments:
        make, head, title, about = EXPERIMENTS[name]
        tables = Tables()
        tables.plain(title, about, head, make(arguments.work))
        command = f"Made by `tests/run --script tests/benchmarks/paper.py {name}`: {STEPS} steps, euler, simple"
        text = [*tables.text[:2], f"{command}; {PAIRS} samples; decoded frames against the full run.", "", *tables.text[2:]]
        (RESULTS / f"paper_{name}.json").write_text(json.dumps(tables.data, indent=1) + "\n", encoding="utf-8")
        (RESULTS / f"paper_{name}.md").write_text("\n".join(["#" + text[0][2:], *text[1:]]), encoding="utf-8")


if __name__ == "__main__":
    main()
