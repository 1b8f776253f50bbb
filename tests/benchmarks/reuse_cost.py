"""What a reused step costs beside a computed one: `tests/run --script tests/benchmarks/reuse_cost.py`.

Samples the embedded model and a larger Wan with random weights, steps computed and reused by turns, and prints the
median seconds from one step's callback to the next. The computed steps of the plain model stand beside them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
STEPS = 20
RULES = ("output hold", "output linear", "output fitted", "residual hold", "residual linear")


def import_comfyui() -> None:
    """Make ComfyUI and the pack importable, on the CPU where there is no GPU."""
    import os

    import torch

    pack = types.ModuleType("lemica")
    pack.__path__ = [str(ROOT)]
    sys.modules["lemica"] = pack
    sys.path.insert(0, os.environ["LEMICA_COMFYUI"])
    sys.path.insert(0, str(ROOT / "tests"))
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()


def random_wan(dim: int, layers: int):
    """A Wan of ComfyUI's own class with random weights."""
    import comfy.ldm.wan.model
    import comfy.ops
    import comfy.sd
    import torch

    config = {"num_heads": dim // 64, "text_dim": 64}
    model = comfy.ldm.wan.model.WanModel(
        dim=dim, ffn_dim=4 * dim, num_layers=layers, in_dim=16, out_dim=16, dtype=torch.float32, device="cpu",
        operations=comfy.ops.disable_weight_init, **config,
    )
    weights = {key: torch.randn_like(value) * 0.02 for key, value in model.state_dict().items()}
    return comfy.sd.load_diffusion_model_state_dict(weights, metadata={"config": json.dumps({"transformer": config})})


def step_seconds(model, shape: tuple[int, ...]) -> list[float]:
    """Seconds of every step of a run, from callback to callback."""
    import comfy.sample
    import torch

    tokens = torch.zeros(1, 4, 64)
    latent = torch.zeros(shape)
    marks: list[float] = []
    comfy.sample.sample(
        model, comfy.sample.prepare_noise(latent, 1), STEPS, 4.0, "euler", "simple", [[tokens, {}]],
        [[tokens + 1, {}]], latent, seed=1, disable_pbar=True, callback=lambda *_: marks.append(time.perf_counter()),
    )
    return [after - before for before, after in zip(marks, marks[1:])]


def compare(name: str, model, shape: tuple[int, ...]) -> None:
    """Print one line for the plain model and one for each rule."""
    from lemica.cache.wrapper import install
    from lemica.schedules import Rule, Schedule

    computed = tuple(range(0, STEPS, 2))
    step_seconds(model, shape)
    plain = statistics.median(step_seconds(model, shape))
    print(f"{name}\n  {'plain':16} {1000 * plain:9.2f} ms a step")
    for text in RULES:
        rule = Rule.parse(text)
        weights = tuple((1.4, -0.5, 0.1, -0.1, 0.1)[: place + 1] for place in range(len(computed))) if rule.fitted else ()
        schedule = Schedule("bench", "bench", STEPS, computed, (rule,) * len(computed), "custom", weights=weights)
        seconds = step_seconds(install(model, lambda setting, s=schedule: (s, "")), shape)
        ran = statistics.median(seconds[k] for k in range(len(seconds)) if k + 1 in computed)
        reused = statistics.median(seconds[k] for k in range(len(seconds)) if k + 1 not in computed)
        print(f"  {text:16} {1000 * ran:9.2f} ms computed, {1000 * reused:8.3f} ms reused: {100 * reused / plain:.2f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dim", type=int, default=768, help="width of the larger model")
    parser.add_argument("--layers", type=int, default=12)
    arguments = parser.parse_args()
    import_comfyui()
    import comfy.sd

    demo = comfy.sd.load_diffusion_model(str(ROOT / "nodes/demo_model/wan_tiny.safetensors"))
    compare("embedded model, 64x64x17", demo, (1, 16, 5, 8, 8))
    larger = random_wan(arguments.dim, arguments.layers)
    compare(f"random weights, width {arguments.dim}, {arguments.layers} blocks, 128x128x17", larger, (1, 16, 5, 16, 16))


if __name__ == "__main__":
    main()
