"""One model under one sampler: runs of held-out samples, what they cost, and how near they come to the full run."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from samples import DemoModel

if TYPE_CHECKING:
    import torch
    from lemica.calibration.sampling import AttachedModel, Sampling
    from lemica.schedules import Schedule

BEST_PSNR = 100.0
"""What equal pictures count as, in dB."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one contestant did on the held-out samples, each a list with one value a sample.

    ``psnr`` and ``temporal`` in dB, the second of the differences from frame to frame; ``calls`` of the model, one for
    each cond; ``peak`` is bytes of GPU memory, 0 without a GPU.
    """

    psnr: list[float]
    ssim: list[float]
    lpips: list[float]
    temporal: list[float]
    calls: list[float]
    seconds: list[float]
    peak: list[float]

    def row(self) -> dict[str, object]:
        """Mean, worst and spread, for the tables; ``each`` with one value a sample."""
        return {
            "calls": fmean(self.calls), "seconds": statistics.median(self.seconds), "peak": max(self.peak),
            "psnr": fmean(self.psnr), "psnr_worst": min(self.psnr), "psnr_spread": statistics.pstdev(self.psnr),
            "ssim": fmean(self.ssim), "ssim_worst": min(self.ssim),
            "lpips": fmean(self.lpips), "lpips_worst": max(self.lpips), "temporal": fmean(self.temporal),
            "each": {"psnr": self.psnr, "lpips": self.lpips},
        }


Run = Callable[[int], tuple["torch.Tensor", int]]
"""Samples the held-out sample of this place: its final latents, flat, and the model calls."""


class Arena:
    """Runs contestants on the same held-out samples and remembers what was measured.

    Args:
        model: a DemoModel or DigitsModel.
        sampler: a sampler of ComfyUI.
        pairs: prompt and seed of every sample.
        work: where measurements are kept.
        steps: N of the full run.
        name: of the file under ``work``; another one for every setting of the model and every choice of samples.
    """

    def __init__(
        self, model: DemoModel, sampler: str, pairs: Sequence[tuple[int, int]], work: Path, steps: int, name: str
    ) -> None:
        from lemica.calibration.quality import load_lpips
        from lemica.workflows.environment import cache_root
        from lpips_trunk import alexnet_trunk

        self.model, self.sampler = model, sampler
        self.steps, self.pairs = steps, pairs
        self.samplings = [model.sampling(prompt, seed, steps, sampler) for prompt, seed in pairs]
        self.sigmas = self.samplings[0].sigmas
        self._file = work / f"{name}.json"
        self._known: dict[str, dict] = json.loads(self._file.read_text()) if self._file.exists() else {}
        self._network = load_lpips(trunk=alexnet_trunk(cache_root() / "lpips")).requires_grad_(False)
        self._full: list[torch.Tensor] | None = None

    def known(self, key: str) -> Found | None:
        """What was measured before under this key."""
        return Found(**self._known[key]["found"]) if key in self._known else None

    def remark(self, key: str) -> str:
        """What was remarked on it."""
        return self._known.get(key, {}).get("remark", "")

    def measure(self, key: str, run: Run, remark: str = "") -> Found:
        """What a contestant does, measured once for every key."""
        if key not in self._known:
            rows = [self._measure(run, place) for place in range(len(self.samplings))]
            found = {name: [row[name] for row in rows] for name in Found.__dataclass_fields__}
            self._known[key] = {"remark": remark, "found": found}
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps(self._known))
        return Found(**self._known[key]["found"])

    def scheduled(self, schedule: Schedule) -> Run:
        """Runs a schedule through the pack's own engine."""
        from lemica.cache.placement import Placement
        from lemica.cache.run import SamplingRun

        def run(place: int) -> tuple[torch.Tensor, int]:
            sampling = self.samplings[place]
            flat = sampling.run(lambda sigmas: SamplingRun(schedule, sigmas, Placement("auto")))
            return flat, sampling.report.calls

        return run

    def full_run(self) -> Run:
        """Computes every step."""
        from lemica.schedules import Rule, Schedule

        rules = (Rule("output", "hold"),) * self.steps
        return self.scheduled(Schedule("full", "any", self.steps, tuple(range(self.steps)), rules, "custom"))

    def _measure(self, run: Run, place: int) -> dict[str, float]:
        import torch
        from lemica.calibration.quality import measure

        if self._full is None:
            full = self.full_run()
            self._full = [self._frames(full(each)[0], each) for each in range(len(self.samplings))]
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        begin = time.perf_counter()
        flat, calls = run(place)
        seconds = time.perf_counter() - begin
        frames, reference = self._frames(flat, place), self._full[place]
        quality = measure(frames, reference, self._network)
        return {
            "psnr": min(quality.psnr, BEST_PSNR), "ssim": quality.ssim, "lpips": quality.lpips,
            "temporal": _temporal(frames, reference), "calls": calls, "seconds": seconds,
            "peak": torch.cuda.max_memory_allocated() if on_gpu else 0,
        }

    def _frames(self, flat: torch.Tensor, place: int) -> torch.Tensor:
        return self.model.frames(self.samplings[place].latents(flat))


def _temporal(frames: torch.Tensor, reference: torch.Tensor) -> float:
    """PSNR of the differences between neighbouring frames, in dB; for a picture that of nothing, the best."""
    import torch

    if len(frames) < 2:
        return BEST_PSNR
    error = (frames.diff(dim=0) - reference.diff(dim=0)).square().mean().item()
    return BEST_PSNR if error == 0 else min(BEST_PSNR, -10 * float(torch.log10(torch.tensor(error))))


def on_sigmas(
    model: DemoModel, pair: Sequence[int], sampler: str, sigmas: torch.Tensor, attached: AttachedModel | None = None
) -> Sampling:
    """A sample, as (prompt, seed), on any sigmas; of ``attached`` where that is another patcher of the model."""
    import comfy.samplers
    from lemica.calibration import Sample
    from lemica.calibration.sampling import Sampling

    attached = attached or model.attached
    prompt, seed = pair
    positive, negative = model.conds(prompt)
    guider = comfy.samplers.CFGGuider(attached.patcher)
    guider.set_conds(positive, negative)
    guider.set_cfg(model.cfg)
    return Sampling(
        attached, guider, comfy.samplers.sampler_object(sampler), sigmas, model.latent(), Sample("", seed)
    )

