"""The command `workflows/run learn`: pictures that are learned from, then the comparison with what was learned."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import demo
from .client import Prompt, queue
from .failure import Failure
from .server import Server

TEACHER = "medium"
"""The branch of the comparison that makes the pictures."""
SEED = 5000
"""Of the first picture; the comparison has others."""


def with_steps(prompt: Prompt, steps: int) -> Prompt:
    """Return the comparison at another number of steps, its plain runs with as many as the presets compute then."""
    prompt, branches = copy.deepcopy(prompt), demo.branches(prompt)
    before = prompt[branches[demo.FULL].sampler]["inputs"]["steps"]
    for key, branch in branches.items():
        inputs = prompt[branch.sampler]["inputs"]
        inputs["steps"] = max(2, int(inputs["steps"] * steps / before + 0.5)) if key.endswith(demo.FEWER) else steps
    return prompt


def teaching(prompt: Prompt, place: int, names: Sequence[str], learn: str, teacher: str) -> tuple[Prompt, str]:
    """Return the workflow of one picture that is learned from, by a branch, and the node that samples it."""
    branch = demo.branches(prompt)[teacher]
    if branch.lemica is None:
        raise Failure(f"The workflow has no LeMiCa node for {teacher}.")
    trimmed = copy.deepcopy({key: prompt[key] for key in demo.ancestors(prompt, branch.save)})
    trimmed[branch.lemica]["inputs"]["learn"] = learn
    trimmed[branch.sampler]["inputs"]["seed"] = SEED + place
    trimmed[branch.save]["inputs"]["filename_prefix"] = f"lemica_demo/learned_from_{place + 1}"
    return demo.with_demo_prompt(trimmed, names[place % len(names)]), branch.sampler


def run(
    server: Server, prompt: Prompt, object_info: dict[str, Any], steps: int, pictures: int, refine: bool = False
) -> list[Path]:
    """Make pictures in full, then the comparison, and return the files made.

    With ``refine`` each is made once more at its preset, and one more picture for every other preset.
    """
    prompt = with_steps(prompt, steps)
    compared = demo.demo_prompts(prompt, object_info, [])
    teachers = [TEACHER] * pictures
    if refine:
        teachers += [key for key, branch in demo.branches(prompt).items() if branch.lemica is not None and key != TEACHER]
    every = demo.demo_prompts(prompt, object_info, [], count=len(compared) + len(teachers))
    taught = [name for name in every if name not in compared] or every
    files = []
    for place, teacher in enumerate(teachers):
        workflow, sampler = teaching(prompt, place, taught, "refine" if refine else "every run", teacher)
        execution = queue(server, workflow)
        [event] = execution.lemica
        files += [path for paths in execution.files(server.output).values() for path in paths]
        print(f"Picture {place + 1} of {len(teachers)}: {execution.seconds[sampler]:.2f} s, {event['line']}", flush=True)
    print("\nNow other prompts and seeds, with what was learned:", flush=True)
    return [*files, *demo.run(server, prompt, compared)]
