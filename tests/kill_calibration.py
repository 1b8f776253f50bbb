"""Kills a calibration at random moments and lets it go on: `tests/run --script tests/kill_calibration.py --kills 100`.

Every life of the job is a process of its own, ended by SIGKILL. Prints how many kills it took, how many replays were made
twice (at most one a kill may be), how many were lost, and how many jobs came to another result than the one that nobody
killed. A job that ends before all kills are done is followed by the next one. With --mode short weights are fitted, and it is
computed steps on paths that are counted, of which a kill may cost one of each sample.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import types
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
STEPS = 8


def enter_comfyui() -> None:
    """Make ComfyUI and the pack importable, on the CPU."""
    pack = types.ModuleType("lemica")
    pack.__path__ = [str(ROOT)]
    sys.modules["lemica"] = pack
    sys.path[:0] = [os.environ["LEMICA_COMFYUI"], str(ROOT / "tests")]
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = True
    import torch

    torch.set_num_threads(1)  # a forked process has no other threads


def calibrate(root: Path, log: Path, mode: str) -> tuple[np.ndarray, dict[int, tuple[float, ...]]]:
    """Errors and outcomes of a small calibration; every replay, or computed step of a path, is logged when it is made."""
    import tiny_wan
    import torch
    from lemica.calibration import Sample
    from lemica.calibration.fit_folder import FitFolder
    from lemica.calibration.job import Job, Settings
    from lemica.calibration.replay import Replays
    from lemica.calibration.sampling import AttachedModel, ksampler_sampling
    from lemica.schedules import ModelIdentity, Rule

    original = Replays.replay

    def replay(self: Replays, *args, **kwargs) -> float:
        with log.open("a") as file:
            file.write(f"{self.sampling.sample.seed} {args[:4]}\n")
        return original(self, *args, **kwargs)

    kept = FitFolder.save_walk

    def save_walk(self: FitFolder, key: str, sample: Sample, conds: str, known: object, step: int) -> None:
        with log.open("a") as file:
            file.write(f"{sample.seed} {key} {step}\n")
        kept(self, key, sample, conds, known, step)

    Replays.replay, FitFolder.save_walk = replay, save_walk
    attached = AttachedModel(tiny_wan.make_wan())
    latent = {"samples": torch.zeros(tiny_wan.LATENT_SHAPE)}
    samplings = [
        ksampler_sampling(
            attached, tiny_wan.conditioning(11), tiny_wan.conditioning(12), latent, Sample("noise", seed), STEPS, 3.0,
            "euler", "simple",
        )
        for seed in (4, 5)
    ]
    rules = (Rule("output", "hold"), Rule("output", "linear"), *[Rule("residual", "hold")] * (mode == "exact"))
    settings = Settings(
        family="test", model=ModelIdentity("WAN21", "WanModel"), mode=mode, metric="l1", rules=rules, longest=4,
        budgets=(4, 3), tries=6,
    )
    result = Job(root, "killed", samplings, settings).run()
    return result.graph.errors, {budget: outcome.errors for budget, outcome in result.outcomes.items()}


def live(root: Path, log: Path, mode: str, seconds: float | None) -> bool:
    """One life of the job; True when it came to its end before it was killed after so many seconds."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            errors, outcomes = calibrate(root, log, mode)
            np.save(root / "errors.npy", errors)
            (root / "outcomes.json").write_text(json.dumps(outcomes))
            code = 0
        finally:
            os._exit(code)
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
                return True
            raise SystemExit(f"The job ended by itself with status {status}.")
        if deadline is not None and time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.002)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mode", choices=("exact", "short", "normal"), default="exact")
    arguments = parser.parse_args()
    enter_comfyui()
    import lemica.calibration.job  # noqa: F401  imported before the forks, so that a life begins at once
    import tiny_wan  # noqa: F401

    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        whole.mkdir()
        begin = time.monotonic()
        live(whole, whole / "log", arguments.mode, None)
        length = time.monotonic() - begin
        said = {"kills": 0, "jobs": 0, "replays": 0, "made_twice": 0, "lost": 0, "other_results": 0}
        while said["kills"] < arguments.kills:
            killed = Path(folder) / f"killed{said['jobs']}"
            killed.mkdir()
            said["jobs"] += 1
            while not live(
                killed, killed / "log", arguments.mode,
                draw.uniform(0.02, 0.4) * length if said["kills"] < arguments.kills else None,
            ):
                said["kills"] += 1
            replays = Counter((killed / "log").read_text().splitlines())
            said["replays"] += len(replays)
            said["made_twice"] += sum(replays.values()) - len(replays)
            said["lost"] += len(set((whole / "log").read_text().splitlines()) - replays.keys())
            same = np.array_equal(np.load(whole / "errors.npy"), np.load(killed / "errors.npy"))
            one, other = (json.loads((where / "outcomes.json").read_text()) for where in (whole, killed))
            same = same and all(np.allclose(one[budget], other[budget], rtol=1e-5) for budget in one)
            said["other_results"] += not same
    print(json.dumps(said))


if __name__ == "__main__":
    main()
