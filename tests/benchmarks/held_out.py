"""Held-out samples of the embedded model: what a schedule does to their decoded frames, remembered between runs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "workflows" / "demo_model"), str(ROOT / "tests")]

from samples import DemoModel  # noqa: E402


@dataclass(frozen=True, slots=True)
class Score:
    """PSNR (dB), SSIM and LPIPS of decoded frames against the full run, over the samples: mean and worst."""

    psnr: float
    psnr_worst: float
    ssim: float
    ssim_worst: float
    lpips: float
    lpips_worst: float

    @classmethod
    def of(cls, values: Sequence[Sequence[float]]) -> Score:
        """From (PSNR, SSIM, LPIPS) of every sample."""
        psnr, ssim, lpips = zip(*values)
        return cls(fmean(psnr), min(psnr), fmean(ssim), min(ssim), fmean(lpips), max(lpips))

    def cells(self) -> list[str]:
        """Mean / worst of each, for a table."""
        return [
            f"{self.psnr:.1f} / {self.psnr_worst:.1f}", f"{self.ssim:.4f} / {self.ssim_worst:.4f}",
            f"{self.lpips:.4f} / {self.lpips_worst:.4f}",
        ]


class HeldOut:
    """Measures schedules on samples that no calibration has seen.

    Args:
        demo: the embedded model.
        steps: N.
        samples: how many prompt and seed pairs.
        memory: a JSON file that keeps what was measured.
    """

    def __init__(self, demo: DemoModel, steps: int, samples: int, memory: Path, sampler: str = "euler") -> None:
        from lemica.calibration.quality import load_lpips
        from lemica.workflows.environment import cache_root
        from lpips_trunk import alexnet_trunk

        self.steps, self._demo, self._sampler = steps, demo, sampler
        self._pairs = demo.held_out(samples)
        self.samplings = [demo.sampling(prompt, seed, steps, sampler) for prompt, seed in self._pairs]
        self.sigmas = self.samplings[0].sigmas
        self._memory = memory
        self._known: dict[str, list[list[float]]] = json.loads(memory.read_text()) if memory.exists() else {}
        self._network = load_lpips(trunk=alexnet_trunk(cache_root() / "lpips")).requires_grad_(False)
        self._frames: list | None = None

    def measure(self, computed: Sequence[int], rules: Sequence[object]) -> Score:
        """The score of a path with its rules."""
        key = f"{self._sampler}|{self.steps}|{len(self._pairs)}|{','.join(map(str, computed))}|{','.join(map(str, rules))}"
        if key not in self._known:
            self._keep(key, [self._sample(sampling, computed, rules) for sampling in self.samplings])
        return Score.of(self._known[key])

    def fewer_steps(self, budget: int) -> Score:
        """The score of plain sampling with ``budget`` steps."""
        key = f"{self._sampler}|{self.steps}|{len(self._pairs)}|fewer {budget}"
        if key not in self._known:
            plain = [self._demo.sampling(prompt, seed, budget, self._sampler) for prompt, seed in self._pairs]
            everything = (range(budget), ["output hold"] * budget)
            self._keep(key, [self._sample(sampling, *everything, budget) for sampling in plain])
        return Score.of(self._known[key])

    def _sample(self, sampling, computed: Sequence[int], rules: Sequence[object], steps: int | None = None):
        from lemica.cache.placement import Placement
        from lemica.cache.run import SamplingRun
        from lemica.schedules import Rule, Schedule

        parsed = tuple(Rule.parse(str(rule)) for rule in rules)
        schedule = Schedule("path", "any", steps or self.steps, tuple(computed), parsed, "custom")
        return sampling.latents(sampling.run(lambda sigmas: SamplingRun(schedule, sigmas, Placement("auto"))))

    def _keep(self, key: str, latents: Sequence) -> None:
        from lemica.calibration.quality import measure

        if self._frames is None:
            every = tuple(range(self.steps))
            full = [self._sample(sampling, every, ["output hold"] * self.steps) for sampling in self.samplings]
            self._frames = [self._demo.frames(one) for one in full]
        values = []
        for found, reference in zip(latents, self._frames, strict=True):
            quality = measure(self._demo.frames(found), reference, self._network)
            values.append([min(quality.psnr, 100.0), quality.ssim, quality.lpips])
        self._known[key] = values
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        self._memory.write_text(json.dumps(self._known))


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation over the pairs in which both are finite."""
    from scipy.stats import spearmanr

    pairs = [(x, y) for x, y in zip(a, b, strict=True) if math.isfinite(x) and math.isfinite(y)]
    return float(spearmanr(*zip(*pairs)).statistic)
