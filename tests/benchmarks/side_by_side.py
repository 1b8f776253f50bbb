"""This pack, its peers, and what a user would do without: `tests/run --script tests/benchmarks/side_by_side.py`.

The same model, prompts, seeds and budgets for all, in one run; decoded frames of held-out samples against the full run
of as many steps. Calibrations and measurements lie under --work: started again, it goes on. Writes JSON, Markdown and plots.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE / "digits"), str(ROOT / "workflows" / "demo_model"), str(ROOT / "tests")]

from full_runs import load  # noqa: E402
from samples import DemoModel, enter_comfyui  # noqa: E402

RESULTS = HERE / "results"
SAMPLERS = ("euler", "dpmpp_2m", "uni_pc", "dpmpp_2m_sde")
BUDGETS = (25, 17, 10, 7, 5)
EQUAL_CALLS = 1.1
"""Up to how many times this pack's calls a contestant may make to be compared with it."""
REPLAYED = 12
"""How long the segments are that are replayed for LeMiCa as published, at most."""
MODELS = {"video": "the embedded Wan 2.1 (animated emoji)", "digits": "a Lumina 2 (handwritten digits)"}

logger = logging.getLogger("benchmark")


def replayed(model: DemoModel, sampler: str, arguments: argparse.Namespace):
    """The error graph of replays that hold the block residual, as in the paper."""
    from contestants import RESIDUAL
    from lemica.cache.identity import identify
    from lemica.calibration.job import Job, Settings

    pairs = model.calibration(arguments.exact_samples)
    samplings = [model.sampling(prompt, seed, arguments.steps, sampler) for prompt, seed in pairs]
    settings = Settings(model.family, identify(model.model), "exact", "l1", (RESIDUAL,), REPLAYED, ())
    name = f"{model.family} {arguments.steps} {sampler} {RESIDUAL}"
    return Job(arguments.work, name, samplings, settings).run().graph


def compare(name: str, sampler: str, arguments: argparse.Namespace) -> list[dict]:
    """One row for each budget and contestant."""
    from arena import Arena
    from calibrate_demo import longest_of, measure
    from contestants import Contestants
    from lemica.schedules import Library

    model = load(name)
    longest = longest_of(arguments.steps, arguments.budgets)
    results = {
        mode: measure(
            model, arguments.steps, arguments.calibrated, mode, arguments.budgets, longest, 0, arguments.work,
            sampler=sampler,
        )
        for mode in ("short", "normal")
    }
    held_out = model.held_out(arguments.held_out)
    file = f"{model.family}-{sampler}-{arguments.steps}-{arguments.held_out}"
    arena = Arena(model, sampler, held_out, arguments.work, arguments.steps, file)
    library = Library(ROOT / "schedules" / "library")
    seen = model.calibration(arguments.calibrated)
    contestants = Contestants(arena, results, replayed(model, sampler, arguments), library, seen)
    full = arena.measure("full", contestants.full())
    rows = [{"model": name, "sampler": sampler, "budget": arguments.steps, "what": "full run", "remark": "", **full.row()}]
    for budget in arguments.budgets:
        for what, path, make in contestants.of(budget):
            if arguments.contestants and not what.startswith(tuple(arguments.contestants)):
                continue
            key = f"{budget}|{what}|{path}" if path else f"{budget}|{what}"
            found, remark = arena.known(key), arena.remark(key)
            if found is None:
                run, remark = make()
                found = arena.measure(key, run, remark)
            row = {"model": name, "sampler": sampler, "budget": budget, "what": what, "remark": remark, **found.row()}
            logger.info("%s %s %d %s: %.1f dB, LPIPS %.4f, %.1f calls", name, sampler, budget, what, row["psnr"],
                        row["lpips"], row["calls"])
            rows.append(row)
    return rows


def best_uniform(rows: list[dict]) -> list[dict]:
    """The rows with one for uniform spacing in place of one for every rule: the one with the highest PSNR."""
    kept: list[dict] = []
    for row in rows:
        if not row["what"].startswith("uniform, "):
            kept.append(row)
            continue
        rule = row["what"].removeprefix("uniform, ")
        row = row | {"what": "uniform caching, best rule", "remark": rule}
        same = [one for one in kept if all(one[key] == row[key] for key in ("model", "sampler", "budget", "what"))]
        if not same:
            kept.append(row)
        elif same[0]["psnr"] < row["psnr"]:
            kept[kept.index(same[0])] = row
    return kept


def verdict(rows: list[dict]) -> list[str]:
    """Where this pack's best, and where its calibrated schedule alone, is not ahead of everything else."""
    return [
        sentence(rows, measure, name, sign, ours, subject)
        for ours, subject in (("this pack", "the best of this pack"), ("this pack: normal", "its calibrated schedule"))
        for measure, name, sign in (("psnr", "PSNR", 1), ("lpips", "LPIPS", -1))
    ]


def cases(rows: list[dict], ours: str) -> Iterator[tuple[tuple[str, str, int], list[dict], list[dict]]]:
    """Model, sampler and budget; the rows that begin with ``ours``; and those of others that are compared with them."""
    for case in dict.fromkeys((row["model"], row["sampler"], row["budget"]) for row in rows):
        group = [row for row in rows if (row["model"], row["sampler"], row["budget"]) == case]
        own = [row for row in group if row["what"].startswith(ours)]
        most = EQUAL_CALLS * max((row["calls"] for row in own), default=0)
        others = [row for row in group if not row["what"].startswith("this pack") and row["calls"] <= most]
        if own and others:
            yield case, own, others


def worst_sentences(rows: list[dict]) -> list[str]:
    """In how many cases a calibrated schedule is behind another contestant in the worst sample and the 5 % quantile."""
    return [
        tail_sentence(rows, f"this pack: {effort}", name, low)
        for effort in ("short", "normal")
        for name, low in (("worst sample's PSNR", 0.0), ("5 % quantile of PSNR", 0.05))
    ]


def tail_sentence(rows: list[dict], ours: str, name: str, low: float) -> str:
    """In how many cases rows that begin with ``ours`` are behind at the quantile ``low`` of PSNR, and where."""
    found = {
        case: max(tail(row, low) for row in others) - max(tail(row, low) for row in own)
        for case, own, others in cases(rows, ours)
    }
    behind = [
        f"{model}, {sampler}, {budget} computed by {lost:.1f} dB"
        for (model, sampler, budget), lost in found.items()
        if lost > 0
    ]
    where = f": {'; '.join(behind)}" if behind else ""
    return f"In the {name} {ours.removeprefix('this pack: ')} is behind in {len(behind)} of {len(found)} cases{where}."


def tail(row: dict, low: float) -> float:
    """The quantile ``low`` of PSNR over samples, in dB; 0 is the worst of them."""
    return float(np.quantile(row["each"]["psnr"], low))


def sentence(rows: list[dict], measure: str, name: str, sign: int, ours: str, subject: str) -> str:
    """Where rows that begin with ``ours`` are behind, in one measure, of those with no more calls than EQUAL_CALLS allows."""
    behind = []
    for (model, sampler, budget), own, others in cases(rows, ours):
        mine, best = (max(some, key=lambda row: sign * row[measure]) for some in (own, others))
        if sign * mine[measure] < sign * best[measure]:
            digits = ".1f" if measure == "psnr" else ".4f"
            lost = [theirs - one for theirs, one in zip(best["each"][measure], mine["each"][measure], strict=True)]
            error = stdev(lost) / math.sqrt(len(lost))
            behind.append(
                f"{model}, {sampler}, {budget} computed: {mine[measure]:{digits}} against {best[measure]:{digits}} of "
                f"{best['what']} (difference {fmean(lost):+{digits}} ± {error:{digits}})"
            )
    if not behind:
        return f"In mean {name} {subject} is ahead everywhere."
    return f"In mean {name} {subject} is ahead everywhere but: {'; '.join(behind)}."


def command() -> str:
    """The command that makes these results; where it keeps measurements is left out."""
    options = sys.argv[1:]
    if "--work" in options:
        place = options.index("--work")
        del options[place : place + 2]
    options = [option for option in options if option != "--write-only"]
    return " ".join(["tests/run --script tests/benchmarks/side_by_side.py", *options])


def write(rows: list[dict], arguments: argparse.Namespace) -> None:
    """JSON, Markdown and plots of what there is so far."""
    from plots import draw

    RESULTS.mkdir(exist_ok=True)
    shown = best_uniform(rows)
    (RESULTS / f"{arguments.name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    text = [
        "# Side by side", "",
        f"Made by `{command()}`: {arguments.steps} steps, simple, decoded frames "
        f"against the full run, {arguments.held_out} held-out samples of other prompts and seeds; "
        f"calibrated on {arguments.calibrated} samples, {arguments.exact_samples} of them replayed for LeMiCa as published. "
        "Calls of a run count every cond; a threshold was searched on the "
        "held-out samples until the calls match; one that makes more than a tenth more of them is shown, not compared. Seconds "
        "are of a CPU that may have had other work.", "",
        *(f"- {line}" for line in (*verdict(rows), *worst_sentences(rows))), "",
    ]
    for model, sampler in dict.fromkeys((row["model"], row["sampler"]) for row in shown):
        text += [f"## {MODELS[model]}, {sampler}", "", f"![curves]({arguments.name}_{model}_{sampler}.png)", "", *_table([
            row for row in shown if (row["model"], row["sampler"]) == (model, sampler)
        ]), ""]
        draw(
            [row for row in shown if (row["model"], row["sampler"]) == (model, sampler)],
            RESULTS / f"{arguments.name}_{model}_{sampler}.png", f"{MODELS[model]}, {sampler}, {arguments.steps} steps",
        )
    (RESULTS / f"{arguments.name}.md").write_text("\n".join(text), encoding="utf-8")


def _table(rows: list[dict]) -> list[str]:
    lines = [
        "| computed | what | PSNR dB, mean / 5 % / worst | SSIM | LPIPS, mean / worst | frame to frame dB | calls | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (-row["budget"], -row["psnr"])):
        remark = f" ({row['remark']})" if row["what"].startswith("uniform") else ""
        lines.append(
            f"| {row['budget']} | {row['what']}{remark} | "
            f"{row['psnr']:.1f} / {tail(row, 0.05):.1f} / {row['psnr_worst']:.1f} | {row['ssim']:.4f} | "
            f"{row['lpips']:.4f} / {row['lpips_worst']:.4f} | {row['temporal']:.1f} | {row['calls']:.1f} | "
            f"{row['seconds']:.2f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS))
    parser.add_argument("--calibrated", type=int, default=5, help="samples to calibrate with")
    parser.add_argument("--exact-samples", type=int, default=2, help="samples that are replayed for LeMiCa as published")
    parser.add_argument("--held-out", type=int, default=16)
    parser.add_argument("--contestants", nargs="+", help="only those whose names begin so")
    parser.add_argument("--work", type=Path, default=Path("output-lemica/side_by_side"))
    parser.add_argument("--name", default="side_by_side", help="of the files that are written")
    parser.add_argument("--write-only", action="store_true", help="tables and plots of the JSON that is there")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    enter_comfyui()
    logging.getLogger().setLevel(logging.WARNING)
    for name in ("benchmark", "demo_model"):
        logging.getLogger(name).setLevel(logging.INFO)
    if arguments.write_only:
        write(json.loads((RESULTS / f"{arguments.name}.json").read_text(encoding="utf-8")), arguments)
        return
    rows: list[dict] = []
    for name in arguments.models:
        for sampler in arguments.samplers:
            rows += compare(name, sampler, arguments)
            write(rows, arguments)


if __name__ == "__main__":
    main()
