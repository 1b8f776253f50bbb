"""The file of an error graph: one safetensors file with a description in its header. Nothing in it is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from safetensors.numpy import save as to_bytes

from ..schedules.match import ModelIdentity
from ..schedules.schedule import Rule, ScheduleError, is_count, plain_copy, shown
from .sample import Sample
from .segments import GraphError
from .tensor_file import read_tensors

if TYPE_CHECKING:
    from .graph import ErrorGraph

SCHEMA = 2
"""The first one did not know the patches of the model."""

MAX_BYTES = 1 << 28
MAX_DESCRIPTION = 1 << 24

_KEY = "lemica_error_graph"
_FIELDS = ("schema", "family", "model", "sigmas", "mode", "metric", "rules", "samples", "setup", "source")


def content_of(graph: ErrorGraph) -> bytes:
    """A graph as the bytes of a safetensors file; GraphError for more than ``read`` takes."""
    text = json.dumps(_description(graph), sort_keys=True, allow_nan=False)
    content = to_bytes({"segments": graph.segments, "errors": graph.errors}, {_KEY: text})
    if len(text) > MAX_DESCRIPTION or len(content) > MAX_BYTES:
        raise GraphError(
            f"The error graph takes {len(content)} bytes, {len(text)} of them for its description: up to {MAX_BYTES} "
            f"and {MAX_DESCRIPTION} can be read again. Take fewer samples."
        )
    return content


def read(path: Path) -> dict[str, object]:
    """The fields of the ErrorGraph in a file; GraphError or ScheduleError where it holds none, OSError without one."""
    description, segments, errors = _content(path)
    return {**_parse(description), "segments": segments, "errors": errors}


def _description(graph: ErrorGraph) -> dict[str, object]:
    model = graph.model
    return {
        "schema": SCHEMA,
        "family": graph.family,
        "model": {
            "model_class": model.model_class,
            "diffusion_model": model.diffusion_model,
            "config": plain_object(model.config, "config"),
            "file": model.file,
            "patches": model.patches,
        },
        "sigmas": list(graph.sigmas),
        "mode": graph.mode,
        "metric": graph.metric,
        "rules": [str(rule) for rule in graph.rules],
        "samples": [{"prompt": sample.prompt, "seed": sample.seed} for sample in graph.samples],
        "setup": dict(graph.setup),
        "source": dict(graph.source),
    }


def _content(path: Path) -> tuple[object, np.ndarray, np.ndarray]:
    metadata, tensors = read_tensors(path, MAX_BYTES)
    text = metadata.get(_KEY)
    if text is None:
        raise GraphError("this is a safetensors file of something else: give an error graph's file.")
    if len(text) > MAX_DESCRIPTION:
        raise GraphError(f"the description has {len(text)} characters: it takes at most {MAX_DESCRIPTION}.")
    types = {name: tensor.dtype for name, tensor in tensors.items()}
    if types != {"segments": np.int32, "errors": np.float64}:
        held = {name: str(kind) for name, kind in types.items()}
        raise GraphError(f"the file holds {shown(held)}: an error graph is segments, int32, and errors, float64.")
    try:
        return json.loads(text, parse_constant=_refuse_constant), tensors["segments"], tensors["errors"]
    except RecursionError:
        raise GraphError("the description is nested too deeply.") from None
    except GraphError:
        raise
    except ValueError as error:
        raise GraphError(f"the description is not valid JSON: {error}.") from None


def _parse(data: object) -> dict[str, object]:
    """The fields of an ErrorGraph that a description holds; GraphError for a newer schema or a wrong field."""
    if not isinstance(data, dict) or not is_count(data.get("schema")) or data["schema"] < 1:
        raise GraphError("the description is none of an error graph of LeMiCa.")
    if data["schema"] > SCHEMA:
        raise GraphError(
            f"this file has schema {shown(data['schema'])}, this version of ComfyUI-LeMiCa reads up to {SCHEMA}: update the "
            "node pack."
        )
    _check_fields(data, _FIELDS, "the description")
    for name in ("sigmas", "rules", "samples"):
        if not isinstance(data[name], list):
            raise GraphError(f"{name} is no list.")
    known = ("model_class", "diffusion_model", "config", "file", *["patches"] * (data["schema"] > 1))
    model = {"patches": None, **_check_fields(data["model"], known, "model")}
    optional = (model[key] or "" for key in ("file", "patches"))
    texts = (model["model_class"], model["diffusion_model"], *optional)
    if not all(isinstance(text, str) for text in texts) or not isinstance(model["config"], dict):
        raise GraphError("model does not name a model: give class, network, config, file and patches.")
    samples = tuple(Sample(**_check_fields(sample, ("prompt", "seed"), "a sample")) for sample in data["samples"])
    rules = tuple(Rule.parse(text) for text in data["rules"])
    model["config"] = plain_object(model["config"], "config")
    parsed = {**data, "model": ModelIdentity(**model), "samples": samples, "rules": rules}
    del parsed["schema"]
    return parsed


def _check_fields(data: object, names: tuple[str, ...], what: str) -> dict[str, object]:
    if not isinstance(data, dict) or set(data) != set(names):
        raise GraphError(f"{what} has to be an object with {', '.join(names)}.")
    return data


def plain_object(data: object, what: str) -> dict[str, object]:
    """A copy of an object of plain JSON values; GraphError for anything else."""
    if not isinstance(data, Mapping):
        raise GraphError(f"{what} is {type(data).__name__}: give an object with plain JSON values.")
    try:
        return plain_copy(data, what)
    except ScheduleError as error:
        raise GraphError(str(error)) from None


def _refuse_constant(constant: str) -> NoReturn:
    raise GraphError(f"the description holds {constant}, which is not JSON: every number has to be finite.")
