"""Finds the demo model's schedules by measuring whole paths: sample, compare with the full run, keep what is nearer.

For every budget: paths of several densities under every rule, then the best of them with single computed steps moved
while that helps. What counts is the mean of mean and worst PSNR of the latent over the samples. The result goes into
the family's file in the library.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = Path(__file__).resolve().parent
LIBRARY = ROOT / "schedules" / "library" / "lemica-demo.json"
STEPS, SHIFT, CFG = 30, 5.0, 4.0
DENSITIES = (0.8, 1.0, 1.25, 1.5, 1.8)
RULES = ("output hold", "output half", "output linear", "residual hold", "residual half", "residual linear")

GAIN = 0.25
"""A moved step has to bring this much, in dB."""

logger = logging.getLogger("demo_model")


class Outcomes:
    """Samples the demo model under a path and compares with the full run.

    Args:
        samples: (prompt index, seed) pairs.
    """

    def __init__(self, samples: list[tuple[int, int]]) -> None:
        import comfy.samplers
        import comfy.sd
        from comfy_extras.nodes_model_advanced import ModelSamplingSD3
        from safetensors import safe_open

        model = comfy.sd.load_diffusion_model(str(FILES / "wan_tiny.safetensors"))
        (self._model,) = ModelSamplingSD3().patch(model, shift=SHIFT)
        with safe_open(FILES / "prompts.safetensors", framework="pt") as file:
            self._prompts, self._negative = file.get_tensor("prompts"), file.get_tensor("negative")
            size = json.loads(file.metadata()["size"])
        self._latent = torch.zeros(1, 16, (size["frames"] - 1) // 4 + 1, size["height"] // 8, size["width"] // 8)
        sampling = self._model.get_model_object("model_sampling")
        self.sigmas = tuple(comfy.samplers.calculate_sigmas(sampling, "simple", STEPS).tolist())
        self._samples = samples
        self._full = [self._sample(self._model, *sample, STEPS) for sample in samples]
        self.psnr = cache(self._psnr)

    def _sample(self, model, prompt: int, seed: int, steps: int) -> torch.Tensor:
        import comfy.sample

        return comfy.sample.sample(
            model, comfy.sample.prepare_noise(self._latent, seed), steps, CFG, "euler", "simple",
            [[self._prompts[prompt : prompt + 1], {}]], [[self._negative, {}]], self._latent, seed=seed, disable_pbar=True,
        )

    def _compare(self, latents: Iterator[torch.Tensor]) -> tuple[float, ...]:
        return tuple(10 * math.log10(16 / (got - full).square().mean().item()) for got, full in zip(latents, self._full))

    def _psnr(self, computed: tuple[int, ...], rule: str) -> tuple[float, ...]:
        """PSNR of the latent for each sample, range 4."""
        from lemica.cache.wrapper import install
        from lemica.schedules import Rule, Schedule

        schedule = Schedule("path", "path", STEPS, computed, (Rule.parse(rule),) * len(computed), "custom")
        model = install(self._model, lambda sigmas: (schedule, ""))
        return self._compare(self._sample(model, *sample, STEPS) for sample in self._samples)

    def fewer_steps(self, steps: int) -> tuple[float, ...]:
        """PSNR of plain sampling with ``steps`` steps."""
        return self._compare(self._sample(self._model, *sample, steps) for sample in self._samples)

    def score(self, computed: tuple[int, ...], rule: str) -> float:
        """The mean of mean and worst PSNR."""
        return score(self.psnr(computed, rule))


def score(values: tuple[float, ...]) -> float:
    return (sum(values) / len(values) + min(values)) / 2


def spread(budget: int, density: float) -> tuple[int, ...]:
    """``budget`` steps that begin dense for a density above 1."""
    steps: list[int] = []
    for b in range(budget):
        wanted = round(STEPS * (b / budget) ** density)
        steps.append(min(max(wanted, steps[-1] + 1 if steps else 0), STEPS - budget + b))
    return tuple(steps)


def moves(computed: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The paths that differ in one computed step, moved by one or two."""
    taken = set(computed)
    for step in computed[1:]:
        for other in (step - 1, step + 1, step - 2, step + 2):
            if 0 < other < STEPS and other not in taken:
                yield tuple(sorted(taken - {step} | {other}))


def search(outcomes: Outcomes, budget: int, known: tuple[tuple[int, ...], str] | None) -> tuple[tuple[int, ...], str]:
    """The best path and rule found for a budget, from a known path on or from the best of all densities and rules."""
    starts = [(spread(budget, density), rule) for density in DENSITIES for rule in RULES]
    computed, rule = known or max(starts, key=lambda start: outcomes.score(*start))
    logger.info("budget %d: start %s, %s, %.2f dB", budget, computed, rule, outcomes.score(computed, rule))
    while True:
        better = next((p for p in moves(computed) if outcomes.score(p, rule) > outcomes.score(computed, rule) + GAIN), None)
        if better is None:
            return computed, rule
        computed = better
        logger.info("budget %d: %s, %.2f dB", budget, computed, outcomes.score(computed, rule))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("budgets", type=int, nargs="+")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--start", help="go on from a path: its computed steps with commas, a colon, its rule")
    parser.add_argument("--keep", action="store_true", help="take that path as it is: measure it and write it")
    arguments = parser.parse_args()
    known = None
    if arguments.start:
        steps, _, rule = arguments.start.partition(":")
        known = tuple(int(step) for step in steps.split(",")), rule
    logging.basicConfig(level=logging.INFO)
    pack = types.ModuleType("lemica")
    pack.__path__ = [str(ROOT)]
    sys.modules["lemica"] = pack
    import os

    sys.path.insert(0, os.environ["LEMICA_COMFYUI"])
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()
    logging.getLogger("LeMiCa").setLevel(logging.WARNING)
    count = arguments.samples
    outcomes = Outcomes([(3 * k % 24, 7000 + k) for k in range(count)])
    held_out = Outcomes([((3 * k + 1) % 24, 9000 + k) for k in range(2 * count)])
    for budget in arguments.budgets:
        begun = known if known and len(known[0]) == budget else None
        computed, rule = begun if begun and arguments.keep else search(outcomes, budget, begun)
        kept, fewer = held_out.psnr(computed, rule), held_out.fewer_steps(budget)
        logger.info(
            "budget %d: %s, %s; held out: mean %.1f worst %.1f dB, fewer steps: mean %.1f worst %.1f dB",
            budget, computed, rule, sum(kept) / len(kept), min(kept), sum(fewer) / len(fewer), min(fewer),
        )
        write(budget, computed, rule, outcomes.sigmas, count, kept)


def write(budget: int, computed: tuple[int, ...], rule: str, sigmas: tuple[float, ...], samples: int, kept: tuple) -> None:
    """Put the schedule into the family's file, in place of an earlier one of the same budget."""
    from lemica.schedules import dump_json

    family = json.loads(LIBRARY.read_text(encoding="utf-8"))
    held_out = {"mean": round(sum(kept) / len(kept), 2), "worst": round(min(kept), 2)}
    entry = {
        "name": f"lemica-demo/{STEPS}b{budget}", "steps": STEPS, "computed": list(computed), "rules": [rule] * budget,
        "origin": "calibrated", "sigmas": list(sigmas),
        "source": {
            "how": "workflows/demo_model/measure_schedules.py: whole paths measured, single steps moved", "samples": samples,
            "file": "wan_tiny.safetensors", "held_out_psnr": held_out,
        },
    }
    others = [one for one in family.get("schedules", []) if one["name"] != entry["name"]]
    family["schedules"] = sorted([*others, entry], key=lambda one: -len(one["computed"]))
    part = LIBRARY.with_suffix(".part")
    part.write_text(dump_json(family), encoding="utf-8")
    part.replace(LIBRARY)


if __name__ == "__main__":
    main()
