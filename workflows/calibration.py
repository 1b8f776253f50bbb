"""The command `workflows/run calibrate`: calibrates the embedded model and prints what came of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .client import Prompt, queue
from .compare import as_text
from .failure import Failure
from .server import Server

MODEL = "LeMiCaDemoModel"
CALIBRATE = "LeMiCaCalibrate"
POSITIVE = "positive.positive"
"""What the inputs of the calibrate node for prompts begin with; a number follows."""


@dataclass(frozen=True)
class Changes:
    """What the command line changes in the workflow; None leaves it as it is."""

    steps: int | None = None
    mode: str | None = None
    samples: int | None = None
    name: str | None = None
    ray: str | None = None
    workers: int | None = None


def changed(prompt: Prompt, object_info: dict[str, Any], changes: Changes) -> Prompt:
    """Return the workflow with these changes."""
    prompt = copy.deepcopy(prompt)
    inputs = prompt[calibrate_node(prompt)]["inputs"]
    for key in ("steps", "mode", "name", "ray", "workers"):
        value = getattr(changes, key)
        if value is not None:
            inputs[key] = value
    if changes.samples is not None:
        _set_samples(prompt, inputs, object_info, changes.samples)
    return prompt


def calibrate_node(prompt: Prompt) -> str:
    """Return the id of the node that calibrates."""
    found = [key for key, node in prompt.items() if node["class_type"] == CALIBRATE]
    if len(found) != 1:
        raise Failure(f"The workflow has {len(found)} {CALIBRATE} nodes: one is needed.")
    return found[0]


def run(server: Server, prompt: Prompt) -> list[Path]:
    """Calibrate, print the table, and return the files in the output folder."""
    node = calibrate_node(prompt)
    inputs = {"images": [node, 1], "filename_prefix": "calibration"}
    prompt = prompt | {"save_picture": {"class_type": "SaveImage", "inputs": inputs, "_meta": {"title": "Save the picture"}}}
    print("Calibrating. Ctrl-C stops it; the next workflows/run calibrate goes on from there.", flush=True)
    execution = queue(server, prompt, print)
    [text] = execution.outputs[node]["text"]
    print(f"\n{in_columns(text)}\n")
    return execution.files(server.output)["save_picture"]


def offer(user: Path, address: str) -> None:
    """List an address of Ray in a server's user folder, as its owner does by hand: the nodes take no other."""
    file = user / "lemica" / "ray.txt"
    listed = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    if address not in listed:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join([*listed, address]) + "\n", encoding="utf-8")


def in_columns(markdown: str) -> str:
    """Return a Markdown text for a terminal: its tables in columns, nothing in bold."""
    lines: list[str] = []
    table: list[Sequence[str]] = []
    for line in [*markdown.replace("**", "").strip().splitlines(), ""]:
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            table += [] if all(set(cell) <= set("-:") for cell in cells) else [cells]
            continue
        if table:
            lines.append(as_text(table))
            table = []
        lines.append(line)
    return "\n".join(lines).rstrip()


def _set_samples(prompt: Prompt, inputs: dict[str, Any], object_info: dict[str, Any], count: int) -> None:
    """Connect so many prompts of the demo model: the workflow's own first, then others that it knows."""
    kind, *options = object_info[MODEL]["input"]["required"]["prompt"]
    known = kind if isinstance(kind, list) else options[0]["options"]
    if not 1 <= count <= len(known):
        raise Failure(f"The demo model knows {len(known)} prompts: --samples takes 1 to {len(known)}.")
    links = {int(key.removeprefix(POSITIVE)): key for key in inputs if key.startswith(POSITIVE)}
    nodes = [inputs.pop(links[place])[0] for place in sorted(links)]
    own = [prompt[node]["inputs"]["prompt"] for node in nodes]
    for name in [name for name in known if name not in own][: max(0, count - len(nodes))]:
        nodes.append(f"prompt_{name}")
        prompt[nodes[-1]] = {"class_type": MODEL, "inputs": {"prompt": name}, "_meta": {"title": f"Prompt {len(nodes)}"}}
    inputs |= {f"{POSITIVE}{place}": [node, 1] for place, node in enumerate(nodes[:count])}
