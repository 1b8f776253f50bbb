"""The comparison: the full run, every preset, and plain sampling with as few steps, in one workflow."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import compare
from .client import Execution, Prompt, queue
from .compare import Row
from .failure import Failure
from .picture import Cell, side_by_side
from .server import Server

FULL = "full"
FEWER = "_fewer_steps"
"""A branch is named by the last part of its save node's filename_prefix: full, medium, medium_fewer_steps."""


@dataclass(frozen=True)
class Branch:
    """One saved clip: the nodes between the model and the file."""

    save: str
    sampler: str
    lemica: str | None


def branches(prompt: Prompt) -> dict[str, Branch]:
    """Return the clips of a comparison by name, none if this workflow is no comparison."""
    found: dict[str, Branch] = {}
    for save, node in prompt.items():
        name = str(node["inputs"].get("filename_prefix", "")).rpartition("/")[2]
        if node["class_type"] != "SaveAnimatedWEBP":
            continue
        nodes = ancestors(prompt, save)
        samplers = [key for key in nodes if prompt[key]["class_type"] == "KSampler"]
        lemica = [key for key in nodes if prompt[key]["class_type"] == "LeMiCa"]
        if len(samplers) == 1 and len(lemica) <= 1:
            found[name] = Branch(save, samplers[0], lemica[0] if lemica else None)
    accelerated = any(branch.lemica for branch in found.values())
    return found if FULL in found and found[FULL].lemica is None and accelerated else {}


def ancestors(prompt: Prompt, node: str) -> set[str]:
    """Return this node and all that it depends on."""
    found, open_nodes = set(), [node]
    while open_nodes:
        node = open_nodes.pop()
        if node not in found:
            found.add(node)
            open_nodes += [value[0] for value in prompt[node]["inputs"].values() if isinstance(value, list)]
    return found


def with_demo_prompt(prompt: Prompt, name: str) -> Prompt:
    """Return the workflow with this prompt chosen in its demo model, and files that are named after it."""
    changed = copy.deepcopy(prompt)
    slug = re.sub(r"\W+", "-", name).strip("-").lower()
    for node in changed.values():
        if node["class_type"] == "LeMiCaDemoModel":
            node["inputs"]["prompt"] = name
        elif node["class_type"] == "SaveAnimatedWEBP":
            folder, _, last = node["inputs"]["filename_prefix"].rpartition("/")
            node["inputs"]["filename_prefix"] = f"{folder}/{slug}/{last}".lstrip("/")
    return changed


def demo_prompts(prompt: Prompt, object_info: dict[str, Any], chosen: Sequence[str], count: int = 3) -> list[str]:
    """Return the chosen prompts of the demo model; without a choice the workflow's own and others across the list."""
    models = [node for node in prompt.values() if node["class_type"] == "LeMiCaDemoModel"]
    if not models:
        if chosen:
            raise Failure("--prompt chooses among the prompts of the LeMiCa Demo Model, which this workflow does not use.")
        return ["own model"]
    own = models[0]["inputs"]["prompt"]
    kind, *options = object_info["LeMiCaDemoModel"]["input"]["required"]["prompt"]
    known = kind if isinstance(kind, list) else options[0]["options"]
    if unknown := [name for name in chosen if name not in known]:
        raise Failure(f"The demo model has no prompt {', '.join(map(repr, unknown))}. It has: {', '.join(known)}.")
    if chosen:
        return list(dict.fromkeys(chosen))
    start = known.index(own) if own in known else 0
    return list(dict.fromkeys(known[(start + part * len(known) // count) % len(known)] for part in range(count)))


def warm_up(server: Server, prompt: Prompt) -> None:
    """Load the model, with two steps of the full run from another seed, so that no measured run pays for it."""
    full = branches(prompt)[FULL]
    trimmed = copy.deepcopy({key: prompt[key] for key in ancestors(prompt, full.save)})
    images = trimmed.pop(full.save)["inputs"]["images"]
    trimmed[full.sampler]["inputs"] |= {"seed": trimmed[full.sampler]["inputs"]["seed"] + 1, "steps": 2}
    trimmed["preview"] = {"class_type": "PreviewImage", "inputs": {"images": images}}
    queue(server, trimmed)


def run(server: Server, prompt: Prompt, names: Sequence[str]) -> list[Path]:
    """Run the comparison for every prompt, print its table, and return the files made."""
    print("Loading the model", flush=True)
    warm_up(server, prompt)
    rows: list[Row] = []
    sections = []
    for name in names:
        print(f"Prompt: {name}", flush=True)
        chosen = with_demo_prompt(prompt, name)
        execution = queue(server, chosen, print)
        clips = _clips(server, chosen, execution)
        measured = rows_of(name, chosen, execution, clips)
        rows += measured
        sections.append((name, _cells(measured, clips)))
    fps = _fps(prompt)
    pictures = side_by_side(sections, fps, server.output / "side_by_side")
    print(f"\n{compare.as_text(compare.summarise(rows))}\n\n{compare.explain(len(names))}\n")
    return [*compare.write(rows, server.output), *pictures]


def rows_of(name: str, prompt: Prompt, execution: Execution, clips: dict[str, np.ndarray]) -> list[Row]:
    """Return what was measured of every run of one prompt, the full one first."""
    found = branches(prompt)
    events = {event["node"]: event for event in execution.lemica}
    if silent := [key for key, branch in found.items() if branch.lemica and branch.lemica not in events]:
        raise Failure(f"No lemica.run event came for {', '.join(silent)}: the LeMiCa node did not act on those runs.")
    full_seconds = execution.seconds[found[FULL].sampler]
    steps = prompt[found[FULL].sampler]["inputs"]["steps"]
    full_calls = next(iter(events.values()))["full_calls"]
    rows = [Row(name, FULL, steps, steps, full_calls, full_calls, full_seconds, 1.0)]
    for key, branch in found.items():
        if branch.lemica is None:
            continue
        event = events[branch.lemica]
        seconds = execution.seconds[branch.sampler]
        row = Row(
            prompt=name,
            run=key,
            steps=event["steps"],
            computed=len(event["computed"]),
            calls=event["calls"],
            full_calls=event["full_calls"],
            seconds=seconds,
            speedup=full_seconds / seconds,
            quality=compare.measure(clips[key], clips[FULL]),
            schedule=event["schedule"],
            origin=event["origin"],
        )
        if fewer := found.get(key + FEWER):
            if (budget := prompt[fewer.sampler]["inputs"]["steps"]) != row.computed:
                raise Failure(f"{key} computed {row.computed} steps, its baseline {key + FEWER} takes {budget}.")
            quality = compare.measure(clips[key + FEWER], clips[FULL])
            row = replace(row, fewer_steps=quality, fewer_steps_seconds=execution.seconds[fewer.sampler])
        rows.append(row)
    return rows


def _clips(server: Server, prompt: Prompt, execution: Execution) -> dict[str, np.ndarray]:
    files = execution.files(server.output)
    fps = _fps(prompt)
    return {name: compare.read_frames(files[branch.save][0], fps) for name, branch in branches(prompt).items()}


def _fps(prompt: Prompt) -> float:
    return float(prompt[branches(prompt)[FULL].save]["inputs"]["fps"])


def _cells(rows: Sequence[Row], clips: dict[str, np.ndarray]) -> list[list[Cell]]:
    lemica = [Cell(clips[FULL], f"full: {rows[0].steps} of {rows[0].steps} steps", f"{rows[0].calls} model calls")]
    fewer = [Cell(None, "Plain sampling with as many\nsteps as the run above it")]
    for row in rows[1:]:
        title = f"{row.run}: {row.computed} of {row.steps} steps"
        quality = compare.decibels([row.quality] if row.quality else [])
        lemica.append(Cell(clips[row.run], title, f"{row.calls} model calls, {quality}"))
        if row.fewer_steps:
            title = f"{row.computed} plain steps"
            detail = f"{row.calls} model calls, {compare.decibels([row.fewer_steps])}"
            fewer.append(Cell(clips[row.run + FEWER], title, detail))
    return [lemica, fewer] if len(fewer) > 1 else [lemica]
