"""Which patches a model has: the same LoRA gives the same digest anywhere, another one or another strength another."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PARTS = ("blocks.0", "blocks.1", "blocks.2")
ELSEWHERE = """
import sys, types
sys.path[:0] = [{comfy!r}, {tests!r}]
pack = types.ModuleType("lemica")
pack.__path__ = [{root!r}]
sys.modules["lemica"] = pack
import comfy.options
comfy.options.enable_args_parsing(False)
from comfy.cli_args import args
args.cpu = True
import tiny_wan, tiny_models
from lemica.cache.identity import patches_digest
model = tiny_wan.make_wan()
print("digest", patches_digest(tiny_models.with_lora(model, tiny_models.lora(model, {parts!r}))))
"""


@pytest.fixture(scope="module")
def loras(comfy, tiny_wan, wan):
    """The digest of the model with a LoRA: its seed, strength and parts."""
    import comfy.sd
    import tiny_models
    from lemica.cache.identity import patches_digest

    def digest(*loaded: tuple[int, float, tuple[str, ...]]) -> str | None:
        model = wan
        for seed, strength, parts in loaded:
            weights = tiny_models.lora(model, parts, seed)
            model = comfy.sd.load_lora_for_models(model, None, weights, strength, 0.0)[0]
        return patches_digest(model)

    return digest


def test_a_model_without_patches_has_none(wan):
    from lemica.cache.identity import identify, patches_digest

    assert patches_digest(wan) == "" == identify(wan.clone()).patches


def test_the_same_lora_at_the_same_strength_is_the_same_and_any_other_is_not(loras):
    one = loras((5, 1.0, PARTS))
    assert one and loras((5, 1.0, PARTS)) == one
    others = [
        loras((5, 0.9, PARTS)), loras((6, 1.0, PARTS)), loras((5, 1.0, PARTS[:2])), loras((5, 1.0, PARTS), (6, 1.0, PARTS)),
        loras((5, -1.0, PARTS)),
    ]
    assert len({one, *others}) == 6


def test_another_process_finds_the_same(comfyui, loras):
    code = ELSEWHERE.format(comfy=str(comfyui.path), tests=str(TESTS), root=str(TESTS.parent), parts=PARTS)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    told = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("digest")]
    assert told == [loras((5, 1.0, PARTS))], done.stderr[-2000:]


def test_two_loras_of_equal_shapes_are_told_apart_by_their_values(wan):
    import torch
    from lemica.cache.identity import patches_digest

    def patched(scale: float):
        model = wan.clone()
        keys = [key for key in model.model.state_dict() if key.endswith("weight")]
        model.add_patches({key: ("diff", (torch.full((3, 5), scale),)) for key in keys}, 0.5)
        return patches_digest(model)

    assert patched(0.1) == patched(0.1) != patched(0.1001)


def test_merged_models_and_hooks_are_told_apart(wan, tiny_wan):
    import comfy.hooks
    import torch
    from lemica.cache.identity import patches_digest

    def merged(seed: int, ratio: float):
        model, others = wan.clone(), tiny_wan.make_wan(seed).get_key_patches("diffusion_model.")
        for key, patch in others.items():
            model.add_patches({key: patch}, 1 - ratio, ratio)
        return patches_digest(model)

    assert merged(1, 0.5) == merged(1, 0.5)
    assert len({merged(1, 0.5), merged(2, 0.5), merged(1, 0.4), ""}) == 4
    hooked = wan.clone()
    key = next(iter(hooked.model.state_dict()))
    hooked.add_hook_patches(comfy.hooks.WeightHook(), {key: ("diff", (torch.ones(2),))})
    assert patches_digest(hooked) not in ("", None)


def test_what_cannot_be_read_without_waiting_is_not_known(wan):
    import torch
    from comfy.model_patcher import PatcherInjection
    from lemica.cache.identity import patches_digest

    model = wan.clone()
    model.add_patches({next(iter(model.model.state_dict())): ("diff", (torch.ones(2, device="meta"),))})
    assert patches_digest(model) is None
    bypassed = wan.clone()
    bypassed.set_injections("bypass_lora", [PatcherInjection(inject=lambda model: None, eject=lambda model: None)])
    assert patches_digest(bypassed) is None


def test_a_lora_of_thousands_of_weights_takes_no_time(wan):
    import torch
    from lemica.cache.identity import patches_digest

    model = wan.clone()
    up, down = torch.randn(4096, 64), torch.randn(64, 4096)
    model.patches = {f"diffusion_model.blocks.{number}.weight": [(1.0, ("lora", (up, down, 1.0)), 1.0, None, None)]
                     for number in range(4000)}
    begin = time.process_time()
    assert patches_digest(model)
    assert time.process_time() - begin < 0.5


def test_a_calibrated_schedule_is_borrowed_by_a_run_with_a_lora(comfy, tiny_wan, wan, tmp_path, monkeypatch):
    """Through the chooser of the LeMiCa node, with what a job on this very model measured."""
    import folder_paths
    import tiny_models
    from lemica.cache.identity import identify
    from lemica.cache.wrapper import install
    from lemica.schedules import Rule, find_family
    from test_calibration_job import make_job, make_samplings

    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(tmp_path))
    from lemica.nodes.apply import chooser
    from lemica.nodes.library import calibrations, library

    family = find_family(identify(wan), library().families()).key
    result = make_job(tmp_path / "jobs", make_samplings(tiny_wan, wan), family=family, model=identify(wan)).run()
    for schedule in result.schedules("mine"):
        library().save(schedule)

    def run(model, **changed):
        reports = []
        request = {"preset": None, "budget": 3, "name": None, "rule": None, **changed}
        tiny_wan.sample(install(model, chooser(identify(model), **request), on_report=reports.append), steps=8, cfg=3.0)
        return reports[0]

    def with_lora(seed):
        return tiny_models.with_lora(wan, tiny_models.lora(wan, PARTS, seed))

    assert (run(wan).origin, run(wan).schedule) == ("calibrated", "mine/8b3")
    other = run(with_lora(5))
    assert (other.origin, other.schedule) == ("borrowed", "mine/8b3")
    assert "mine/8b3, borrowed from mine, 3 of 8 steps; it was made without the LoRAs" in other.note
    assert "(borrowed)" in other.line()
    calibrations().save("mine", result.graph)
    assert run(wan).origin == "calibrated" and run(wan, budget=5).origin == "predicted"
    assert run(with_lora(5), budget=5).origin == "borrowed"
    assert run(with_lora(5)).schedule == "mine/8b3", "what was measured goes before what is solved on the same model"
    swapped = run(wan, name="mine/8b3", rule=Rule("residual", "hold"))
    assert swapped.origin == "custom" and "its rules replaced by residual hold" in swapped.note

