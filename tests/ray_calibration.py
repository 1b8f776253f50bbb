"""A small calibration of the demo model, in this process or on real Ray workers, for tests and measurements."""

from __future__ import annotations

import json
import os
import socket
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
STEPS = 8
SEEDS = (4, 5, 6, 7)


def enter_comfyui(user: Path) -> None:
    """Make ComfyUI and the pack importable in a script, on the CPU, as workers run it."""
    pack = types.ModuleType("lemica")
    pack.__path__ = [str(ROOT)]
    sys.modules["lemica"] = pack
    sys.path[:0] = [os.environ["LEMICA_COMFYUI"], str(ROOT / "tests")]
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = True
    import folder_paths
    import torch

    folder_paths.set_user_directory(str(user))
    torch.set_num_threads(1)


def arguments(folder: Path) -> list[str]:
    """What ComfyUI is started with in a worker: this pack and the node of the faults, folders of its own."""
    nodes = folder / "custom_nodes"
    if not nodes.exists():
        nodes.mkdir(parents=True)
        (nodes / "ComfyUI-LeMiCa").symlink_to(ROOT, target_is_directory=True)
        (nodes / "faults").symlink_to(ROOT / "tests" / "ray_faults", target_is_directory=True)
        (folder / "paths.yaml").write_text(json.dumps({"lemica": {"custom_nodes": str(nodes)}}))
        (folder / "user").mkdir(exist_ok=True)
    return [
        "--cpu", "--disable-api-nodes", "--extra-model-paths-config", str(folder / "paths.yaml"), "--user-directory",
        str(folder / "user"),
    ]


def prompt(
    names: tuple[str, ...], folder: Path, faults: tuple[str, ...] = (), steps: int = STEPS, mode: str = "exact"
) -> dict[str, dict]:
    """The calibrate node behind the demo model, for one prompt a sample; each fault befalls one worker."""
    nodes = {
        str(place): {"class_type": "LeMiCaDemoModel", "inputs": {"prompt": name}} for place, name in enumerate(names)
    }
    model = ["0", 0]
    for fault in faults:
        inputs = {"model": model, "fault": fault, "token": str(folder / f"token-{fault}")}
        nodes[fault] = {"class_type": "LeMiCaTestFault", "inputs": inputs}
        model = [fault, 0]
    inputs = {f"positive.positive{place}": [str(place), 1] for place in range(len(names))}
    nodes["calibrate"] = {
        "class_type": "LeMiCaCalibrate",
        "inputs": {
            "model": model, "latent": ["0", 3], "negative": ["0", 2], **inputs, "prompts": "", "negative_prompt": "",
            "steps": steps, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0, "seed": SEEDS[0],
            "seeds": 1, "mode": mode, "longest": 4, "rules": "output", "name": "", "metric": "l1", "tries": 4,
        },
    }
    return nodes


def same(one, other) -> bool:
    """Whether two results are alike, bit for bit: errors, routes with their weights, and schedules."""
    return (
        np.array_equal(one.graph.errors, other.graph.errors) and one.outcomes == other.outcomes
        and one.schedules("x") == other.schedules("x")
    )


class Nothing:
    """Shares without a run."""

    def next(self, worker: int) -> None:
        return None


def all_loaded(crew) -> None:
    """Wait until every worker of a crew is ready."""
    crew.run(Nothing(), lambda: sum(one.seated for one in crew.workers.values()) == crew.order.workers, None)


class DemoCalibration:
    """Calibrations of the demo model in one folder.

    Args:
        folder: everything that they write.
        samples: how many prompts.
        steps: N.
        budgets: those that whole paths are measured for.
        mode: of the calibrations.
    """

    def __init__(
        self, folder: Path, samples: int = 2, steps: int = STEPS, budgets: tuple[int, ...] = (4, 3), mode: str = "exact"
    ) -> None:
        import torch
        from lemica.calibration import Sample
        from lemica.calibration.sampling import AttachedModel, ksampler_sampling
        from lemica.calibration.settings import Settings
        from lemica.nodes.calibration_run import RULES
        from lemica.nodes.demo import LeMiCaDemoModel, prompt_names
        from lemica.schedules import ModelIdentity

        self.folder, self.steps = folder, steps
        self.names = tuple(prompt_names()[:samples])
        with torch.inference_mode():
            loaded = [LeMiCaDemoModel.execute(name).result for name in self.names]
            attached = AttachedModel(loaded[0][0])
            self.samplings = [
                ksampler_sampling(
                    attached, one[1], loaded[0][2], loaded[0][3], Sample(name, SEEDS[0] + place), steps, 3.0, "euler",
                    "simple",
                )
                for place, (name, one) in enumerate(zip(self.names, loaded))
            ]
        self.settings = Settings(
            family="test", model=ModelIdentity("WAN21", "WanModel"), mode=mode, metric="l1", rules=RULES["output"],
            longest=4, budgets=budgets, tries=4,
        )

    def order(self, workers: int, address: str = "local", faults: tuple[str, ...] = (), **changed: object):
        """What a crew of so many workers is told."""
        from lemica.calibration.cluster.crew import Order
        from lemica.nodes.cluster.upstream import facts_of

        nodes = prompt(self.names, self.folder, faults, self.steps, self.settings.mode)
        calibration = {
            "prompt": nodes, "node": "calibrate", "class_type": "LeMiCaCalibrate", "facts": facts_of(nodes),
            "rules": [] if self.settings.fits else [str(rule) for rule in self.settings.rules], "metric": "l1", "longest": 4,
            "seeds": [sampling.sample.seed for sampling in self.samplings], "sigmas": list(self.samplings[0].sigmas),
            "preview": "latent2rgb", **changed,
        }
        home = {
            "path": os.environ["LEMICA_COMFYUI"], "arguments": arguments(self.folder), "host": socket.gethostname(),
        }
        return Order(address, workers, sys.executable, home, calibration)

    def crew(
        self, workers: int, address: str = "local", faults: tuple[str, ...] = (), check=lambda: None,
        on_preview=lambda image: None, **changed: object,
    ):
        """A crew that is not hired yet."""
        from lemica.calibration.cluster.crew import Crew

        class Recorded(Crew):
            """Notes every run that a worker is asked for: worker, kind, place, item."""

            def _call(self, worker: int, method: str, *arguments: object) -> int:
                if method == "run":
                    self.asked.append((worker, *arguments))
                return super()._call(worker, method, *arguments)

        crew = Recorded(self.order(workers, address, faults, **changed), check, on_preview)
        crew.asked = []
        return crew

    def run(self, name: str, crew=None, on_progress: Callable = lambda progress: None):
        """A calibration under this name, from where it is to its end."""
        from functools import partial

        import torch
        from lemica.calibration.cluster.crew_job import CrewJob
        from lemica.calibration.job import Job

        make = Job if crew is None else partial(CrewJob, crew=crew)
        with torch.inference_mode():
            return make(self.folder / "jobs", name, self.samplings, self.settings, on_progress=on_progress).run()

    def replays(self, name: str) -> int:
        """How many replays a calibration has written down."""
        from lemica.calibration.job_folder import folder_name
        from safetensors.numpy import load_file

        files = (self.folder / "jobs" / folder_name(name)).glob("replays-*.safetensors")
        return sum(int(np.isfinite(load_file(file)["replayed"]).sum()) for file in files)
