"""What rules of the output carry over under samplers that draw noise: `tests/run --script tests/benchmarks/drawn_noise.py`.

Uniform spacing, half the slope, on held-out samples: with the denoised latent carried over, as the pack does there, with the
derivative, as it does under other samplers, and plain sampling with as many steps. Decoded frames against the full run.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator
from statistics import fmean
from typing import TYPE_CHECKING

from full_runs import RESULTS, HeldOutFrames, load
from samples import DemoModel, enter_comfyui

if TYPE_CHECKING:
    import torch
    from lemica.cache.run import SamplingRun

STEPS = 50
BUDGETS = (25, 10)
SAMPLERS = (
    "euler_ancestral", "dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde", "lcm", "er_sde", "seeds_2", "sa_solver", "ddpm",
    "dpmpp_2s_ancestral", "res_multistep_ancestral",
)

logger = logging.getLogger("benchmark")


def carrying(denoised: bool) -> type[SamplingRun]:
    """Runs that carry the denoised latent over under drawn noise, or the derivative there too."""
    from lemica.cache.run import SamplingRun

    class Derivatives(SamplingRun):
        def start(self, plan, device) -> None:
            super().start(plan, device)
            self._draws = False

    return SamplingRun if denoised else Derivatives


def ways(model: DemoModel, sampler: str, samples: int) -> Iterator[tuple[str, int, list[float]]]:
    """PSNR of every sample, by way and budget."""
    from lemica.cache.placement import Placement
    from lemica.calibration.outcome import uniform
    from lemica.calibration.replay import full_schedule
    from lemica.schedules import Rule, Schedule

    pairs = model.held_out(samples)

    def frames(schedule: Schedule, kind: type[SamplingRun]) -> list[torch.Tensor]:
        found = []
        for prompt, seed in pairs:
            sampling = model.sampling(prompt, seed, schedule.steps, sampler)
            flat = sampling.run(lambda sigmas: kind(schedule, sigmas, Placement("auto")))
            found.append(model.frames(sampling.latents(flat)))
        return found

    full = frames(full_schedule(STEPS), carrying(True))
    decibels: Callable[[torch.Tensor], float] = HeldOutFrames._decibels

    def against_full(found: list[torch.Tensor]) -> list[float]:
        return [decibels(one - other) for one, other in zip(found, full, strict=True)]

    for budget in BUDGETS:
        path = uniform(STEPS, budget)
        schedule = Schedule("path", "any", STEPS, path, (Rule("output", "half"),) * budget, "custom")
        for way, denoised in (("denoised", True), ("derivative", False)):
            yield way, budget, against_full(frames(schedule, carrying(denoised)))
        yield "fewer steps", budget, against_full(frames(full_schedule(budget), carrying(True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["video", "digits"], choices=("video", "digits"))
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    parser.add_argument("--held-out", type=int, default=4)
    parser.add_argument("--name", default="drawn_noise")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    enter_comfyui()
    rows: list[dict] = []
    heads = [f"{way}, {budget}" for budget in BUDGETS for way in ("denoised", "derivative", "fewer steps")]
    text = [
        "# Samplers that draw noise", "",
        f"Made by `tests/run --script tests/benchmarks/drawn_noise.py`: {STEPS} steps, {arguments.held_out} held-out samples, "
        "uniform spacing, half the slope, mean PSNR of decoded frames in dB. *Denoised*: what the pack carries over under "
        "these samplers; *derivative*: what it carries over under others, and carried over under these before.", "",
    ]
    for name in arguments.models:
        model = load(name)
        text += [f"## {name}", "", f"| computed of {STEPS} | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
        for sampler in arguments.samplers:
            found = {}
            for way, budget, psnr in ways(model, sampler, arguments.held_out):
                found[f"{way}, {budget}"] = f"{fmean(psnr):.1f}"
                rows.append({"model": name, "sampler": sampler, "way": way, "budget": budget, "psnr": psnr})
            logger.info("%s %s %s", name, sampler, found)
            text.append(f"| {sampler} | {' | '.join(found[head] for head in heads)} |")
        text.append("")
        (RESULTS / f"{arguments.name}.md").write_text("\n".join(text), encoding="utf-8")
        (RESULTS / f"{arguments.name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
