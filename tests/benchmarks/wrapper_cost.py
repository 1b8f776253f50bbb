"""How much of N/B arrives: `tests/run --script tests/benchmarks/wrapper_cost.py [--models embedded wan] [--compile]`.

Whole runs of the embedded model and of models with random weights: plain, under schedules with output and with residual
rules, and with ComfyUI's EasyCache at a threshold that gives as many calls. By turns, so that all see the same machine;
the median of --runs; on a CPU also what a run does outside the model's forward. On a GPU the random models have their real
size, in bfloat16, with peak memory, and a profile says whether a run under the node waits for the GPU more often than a
plain one.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT / "workflows" / "demo_model"), str(ROOT / "tests")]

from samples import DemoModel, enter_comfyui  # noqa: E402

STEPS = 50
BUDGETS = (25, 17, 10, 7)
MODELS = ("embedded", "wan", "flux", "qwen")
RULES = ("output hold", "residual hold")
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


class Bench:
    """Runs of one model.

    Args:
        model: its patcher.
        latent: the latent's shape.
        cfg: 1 for a model without a negative prompt.
        conds: positive and negative conditioning.
        about: what the tables call it.
        compiled: whether the core node compiles its blocks.
    """

    def __init__(self, model, latent: tuple[int, ...], cfg: float, conds: tuple, about: str, compiled: bool) -> None:
        import torch

        self._gpu = torch.cuda.is_available()
        self._latent, self._cfg, self._conds, self.about = latent, cfg, conds, about
        self.model = model
        if compiled:
            from comfy_extras.nodes_torch_compile import TorchCompileModel

            self.model = TorchCompileModel.execute(model, "inductor").args[0]

    @classmethod
    def of(cls, name: str, small: bool, compiled: bool) -> Bench:
        """The model of this name, by ``small`` of a size for a CPU."""
        import torch

        if name == "embedded":
            demo = DemoModel()
            about = "The embedded Wan, width 128, 64x64, 9 frames"
            return cls(demo.model, demo.shape, demo.cfg, demo.conds(0), about, compiled)
        from random_models import REAL, SMALL, build, conditioning

        made = (SMALL if small else REAL)[name]
        model = build(made, torch.bfloat16 if torch.cuda.is_available() else torch.float32)
        conds = conditioning(made, 1), conditioning(made, 2)
        return cls(model, made.latent, made.cfg, conds, f"Random weights: {made.about}", compiled)

    def run(self, model) -> tuple[float, int]:
        """Seconds of one run and its peak of GPU memory in bytes."""
        import comfy.sample
        import torch

        latent = torch.zeros(self._latent)
        noise = comfy.sample.prepare_noise(latent, 1)
        if self._gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        begin = time.perf_counter()
        comfy.sample.sample(
            model, noise, STEPS, self._cfg, "euler", "simple", *self._conds, latent, seed=1, disable_pbar=True
        )
        if self._gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - begin, torch.cuda.max_memory_allocated() if self._gpu else 0

    def scheduled(self, budget: int, rule: str):
        """The model under a schedule spaced evenly."""
        from lemica.cache.wrapper import install
        from lemica.calibration.outcome import uniform
        from lemica.schedules import Rule, Schedule

        computed = uniform(STEPS, budget)
        schedule = Schedule("bench", "bench", STEPS, computed, (Rule.parse(rule),) * budget, "custom")
        return install(self.model, lambda setting: (schedule, ""))

    def easycache(self, budget: int):
        """The model with EasyCache, and how many steps it computes at the threshold that comes nearest."""
        from comfy_extras.nodes_easycache import EasyCacheNode
        from graphs import rows_through
        from lemica.cache.blocks import stack_family

        block = f"{stack_family(self.model).lists[0]}.0"
        conds = 1 if self._cfg == 1 else 2
        best = None
        low, high = 0.0, 3.0
        for _ in range(7):
            threshold = (low + high) / 2
            model = EasyCacheNode.execute(self.model, threshold, 0.15, 0.95, False).args[0]
            with rows_through(model, block) as rows:
                self.run(model)
            steps = sum(rows) / conds
            if best is None or abs(steps - budget) < abs(best[1] - budget):
                best = model, steps
            low, high = (threshold, high) if steps > budget else (low, threshold)
        return best

    def outside(self, model) -> float:
        """Seconds of a run's own thread that are not spent inside the model; only of use on a CPU."""
        spent, begun = [0.0], [0.0]

        def begin(module, args) -> None:
            begun[0] = time.thread_time()

        def end(module, args, output) -> None:
            spent[0] += time.thread_time() - begun[0]

        inside = self.model.model.diffusion_model
        hooks = inside.register_forward_pre_hook(begin), inside.register_forward_hook(end)
        try:
            before = time.thread_time()
            self.run(model)
            return time.thread_time() - before - spent[0]
        finally:
            for hook in hooks:
                hook.remove()

    def waits(self, model) -> int:
        """How often a run waits for the GPU."""
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
            self.run(model)
        return sum(event.count for event in found.key_averages() if event.key in WAITS)


def compare(bench: Bench, runs: int, tell: Callable[[str], None]) -> list[dict]:
    """One row for each contestant."""
    import torch

    models = {"plain": (bench.model, STEPS)}
    for budget in BUDGETS:
        for rule in RULES:
            models[f"{budget} of {STEPS}, {rule}"] = bench.scheduled(budget, rule), budget
        models[f"{budget} of {STEPS}, EasyCache"] = bench.easycache(budget)
    for model, _ in models.values():
        bench.run(model)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    peaks: dict[str, int] = {}
    for _ in range(runs):
        for name, (model, _) in models.items():
            took, peaks[name] = bench.run(model)
            seconds[name].append(took)
    plain = statistics.median(seconds["plain"])
    rows = []
    for name, (model, steps) in models.items():
        took = statistics.median(seconds[name])
        row = {
            "model": bench.about, "what": name, "computed": steps, "seconds": round(took, 3),
            "speedup": round(plain / took, 3), "share": round(plain / took / (STEPS / steps), 3),
            "peak_gib": round(peaks[name] / 2**30, 3),
        }
        if torch.cuda.is_available():
            row["waits"] = bench.waits(model)
        else:
            row["outside"] = f"{1000 * min(bench.outside(model) for _ in range(runs)):.0f}"
        tell(json.dumps(row))
        rows.append(row)
    return rows


def table(rows: list[dict]) -> list[str]:
    """Rows as Markdown."""
    names = {
        "what": "what", "computed": "computed steps", "seconds": "seconds", "speedup": "speed-up", "share": "share of N/B",
        "peak_gib": "peak GiB", "waits": "waits for the GPU", "outside": "ms outside the model",
    }
    used = [key for key in names if key in rows[0]]
    if not any(row["peak_gib"] for row in rows):
        used.remove("peak_gib")
    lines = ["| " + " | ".join(names[key] for key in used) + " |", "|" + "---|" * len(used)]
    return lines + ["| " + " | ".join(str(row[key]) for key in used) + " |" for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, help="all on a GPU, else embedded and wan")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="the small models on a GPU too")
    parser.add_argument("--compile", action="store_true", help="with the core node TorchCompileModel")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "wrapper_cost.md")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    enter_comfyui()
    logging.getLogger().setLevel(logging.WARNING)
    import torch

    on_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    text = [
        "# What the wrapper costs", "",
        f"Made by `tests/run --script tests/benchmarks/wrapper_cost.py{' --compile' if arguments.compile else ''}` on "
        f"{device}: {STEPS} steps, euler, median of {arguments.runs} whole runs, taken by turns.", "",
    ]
    found: list[dict] = []
    for name in arguments.models or (MODELS if on_gpu else MODELS[:2]):
        bench = Bench.of(name, arguments.small or not on_gpu, arguments.compile)
        rows = compare(bench, arguments.runs, print)
        found += rows
        text += [f"## {bench.about}", "", *table(rows), ""]
        arguments.output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        arguments.output.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
