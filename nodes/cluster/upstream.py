"""The part of a prompt that a node's inputs come from, and the files that it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import comfyui_version
import folder_paths
from comfy_execution import graph_utils

from ...calibration.cluster.facts import facts
from ..demo import PROMPTS, TRANSFORMER

if TYPE_CHECKING:
    from comfy_execution.graph import DynamicPrompt

LONGEST_NAME = 512
OTHER_KINDS = ("custom_nodes",)
"""Folders of ComfyUI that hold no model files."""


def upstream(prompt: DynamicPrompt, node_id: str) -> dict[str, dict]:
    """The node and everything that its inputs come from, as a prompt of its own."""
    found: dict[str, dict] = {}
    waiting = [node_id]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        node = prompt.get_node(one)
        found[one] = {"class_type": node["class_type"], "inputs": dict(node["inputs"])}
        waiting += [value[0] for value in node["inputs"].values() if graph_utils.is_link(value)]
    return found


def facts_of(prompt: Mapping[str, dict]) -> dict[str, str]:
    """What a worker must have in common with the machine that calibrates, to run this prompt."""
    remembered = Path(folder_paths.get_user_directory()) / "lemica" / "digests"
    return facts(comfyui_version.__version__, _files(prompt), remembered)


def _files(prompt: Mapping[str, dict]) -> Iterator[tuple[str, Path]]:
    """The model and input files that the inputs of these nodes name."""
    names = {
        value
        for node in prompt.values()
        for value in node["inputs"].values()
        if isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and "\n" not in value
    }
    for name in sorted(names):
        path = _path_of(name)
        if path is not None:
            yield name.replace("\\", "/"), path
    if any(node["class_type"] == "LeMiCaDemoModel" for node in prompt.values()):
        yield TRANSFORMER.name, TRANSFORMER
        yield PROMPTS.name, PROMPTS


def _path_of(name: str) -> Path | None:
    for kind in folder_paths.folder_names_and_paths:
        if kind not in OTHER_KINDS and (path := folder_paths.get_full_path(kind, name)) is not None:
            return Path(path)
    folder = Path(folder_paths.get_input_directory()).resolve()
    path = (folder / name).resolve()
    return path if path.is_file() and path.is_relative_to(folder) else None
