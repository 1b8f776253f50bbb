"""A record: what is kept of a full run that was made for its picture. A safetensors file; nothing in it is ever run."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save as to_bytes

from ...schedules import ModelIdentity, ScheduleError, same_grid
from ...schedules.schedule import check_name, check_sigmas, is_count, shown
from ..references.arrival import Answer, Response, Segments
from ..sample import Sample
from ..segments import GraphError
from ..tensor_file import read_tensors
from .kind import Kind
from .refined import Refined, name_of

SCHEMA = 2
"""1 has neither paths nor what the user says of a record, and derivatives under drawn noise too; it is written where that says
the same, so that older versions read it."""

MAX_BYTES = 1 << 20

_KEY = "lemica_record"
_FIELDS = {"schema", "kind", "sigmas", "conds", "seed", "made", "calls", "noise"}
_KIND = {"family", "model", "sampler", "guider", "guidance", "latent", "masked"}
_MODEL = {"model_class", "diffusion_model", "config", "file", "patches"}


@dataclass(frozen=True, eq=False, slots=True)
class Record:
    """A full run; valid by construction, a wrong field raises GraphError, or ScheduleError where the title is no name.

    Args:
        kind: of the run.
        sigmas: [N + 1].
        conds: a digest of them; no prompt is kept.
        seed: of its noise.
        made: when, in seconds since 1970.
        response: of the sampler.
        gram: the mean products of the derivatives of its answers, [K * C, K * C], float64.
        refined: what accelerated runs from the same noise told, at most one for each budget.
        title: what the user calls it, "" for nothing.
        left_out: whether the user leaves it out of what is learned.
    """

    kind: Kind
    sigmas: tuple[float, ...]
    conds: str
    seed: int
    made: float
    response: Response
    gram: np.ndarray
    refined: tuple[Refined, ...] = ()
    title: str = ""
    left_out: bool = False

    def __post_init__(self) -> None:
        kinds, moments, calls = self.response.moves.shape
        steps = len(self.sigmas) - 1
        if steps < 2:
            raise GraphError("a run of one step has nothing to reuse.")
        if kinds not in (1, 2) or moments != calls + 1 or calls != len(self.response.calls):
            raise GraphError(f"{len(self.response.calls)} calls have no response of the shape {self.response.moves.shape}.")
        places = [(call.step, call.stage) for call in self.response.calls]
        if places != sorted(set(places)) or [step for step, stage in places if stage == 0] != list(range(steps)):
            raise GraphError(f"its calls are not those of {steps} steps.")
        if not all(math.isfinite(call.sigma) and call.sigma >= 0 for call in self.response.calls):
            raise GraphError("the sigmas of its calls are not all finite and 0 or more.")
        if self.gram.shape != (kinds * calls,) * 2:
            raise GraphError(f"its products have the shape {self.gram.shape}: give {(kinds * calls,) * 2}.")
        for what, values in (("products", self.gram), ("response", self.response.moves)):
            if values.dtype != np.float64 or not np.isfinite(values).all():
                raise GraphError(f"its {what} are not all finite numbers of type float64.")
        if (np.diagonal(self.gram) < 0).any():
            raise GraphError("some of its products are of no vector with itself.")
        if self.title:
            check_name(self.title, "title")
        budgets = [len(one.computed) for one in self.refined]
        if len(set(budgets)) < len(budgets) or any(one.steps != steps for one in self.refined):
            raise GraphError("its paths are not of its steps, or two have one budget.")

    def same_run(self, other: Record) -> bool:
        """Whether both are of one picture, made twice."""
        mine, theirs = ((one.kind.latent, one.conds, one.seed) for one in (self, other))
        return mine == theirs and self.same_grid(other)

    def same_grid(self, other: Record) -> bool:
        """Whether both runs have the same sigmas and calls, and are of one kind."""
        calls = self.response.moves.shape == other.response.moves.shape
        return calls and same_grid(self.sigmas, other.sigmas) and self.kind.alike(other.kind)

    @property
    def segments(self) -> Segments:
        """How segments of the run arrive."""
        return Segments(self.response, len(self.sigmas) - 1)

    def content(self) -> bytes:
        """The record as the bytes of its file.

        Raises:
            GraphError: it would be larger than a record may be.
        """
        response = self.response
        paths = [{"computed": list(one.computed), "error": one.error} for one in self.refined]
        own = {**({"title": self.title} if self.title else {}), **({"left_out": True} if self.left_out else {})}
        told = {
            "schema": SCHEMA if paths or own or response.noise else 1,
            "kind": {**asdict(self.kind), "latent": list(self.kind.latent)}, "sigmas": list(self.sigmas),
            "conds": self.conds, "seed": self.seed, "made": self.made, "calls": [list(call) for call in response.calls],
            "noise": response.noise, **({"paths": paths} if paths else {}), **own,
        }
        text = json.dumps(told, sort_keys=True, allow_nan=False)
        tensors = {"gram": np.ascontiguousarray(self.gram), "moves": np.ascontiguousarray(response.moves)}
        for one in self.refined:
            tensors |= one.tensors()
        content = to_bytes(tensors, {_KEY: text})
        if len(content) > MAX_BYTES:
            raise GraphError(f"{len(response.calls)} calls of the model are too many: what is kept of a run is under 1 MB.")
        return content


def read_record(path: Path) -> Record:
    """The record in a file.

    Raises:
        GraphError: the file holds none, or one of a newer version.
        OSError: it cannot be read.
    """
    metadata, tensors = read_tensors(path, MAX_BYTES)
    try:
        data = json.loads(metadata.get(_KEY, "null"))
        schema = data.get("schema") if isinstance(data, dict) else None
        if not is_count(schema) or schema < 1:
            raise GraphError("this is no record of a run.")
        if schema > SCHEMA:
            raise GraphError(f"it has schema {shown(schema)}, this version reads up to {SCHEMA}: update the node pack.")
        if schema == 1 and data.get("noise") is True:
            raise GraphError("its sampler draws noise, of which an earlier version kept something else: make its picture anew.")
        paths, title, left_out = data.pop("paths", []), data.pop("title", ""), data.pop("left_out", False) is True
        names = {name_of(len(path["computed"])) for path in paths}
        if data.keys() != _FIELDS or tensors.keys() != {"gram", "moves", *names} or tensors["moves"].ndim != 3:
            raise GraphError("it lacks fields of a record, or has others.")
        calls = tuple(Answer(int(step), int(stage), float(sigma)) for step, stage, sigma in data["calls"])
        check_name(data["conds"], "conds")
        sample = Sample("", data["seed"])
        made = float(data["made"])
        if not math.isfinite(made):
            raise GraphError(f"it was made at {made}.")
        sigmas = check_sigmas(data["sigmas"])
        return Record(
            _kind(data["kind"]), sigmas, data["conds"], sample.seed, made,
            Response(calls, tensors["moves"], data["noise"] is True), tensors["gram"],
            tuple(Refined.read(len(sigmas) - 1, path, tensors) for path in paths), title, left_out,
        )
    except (ScheduleError, TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
        raise GraphError(str(error)[:300] or type(error).__name__) from None


def _kind(data: dict) -> Kind:
    """The kind that ``asdict`` made plain."""
    model = data["model"]
    if data.keys() != _KIND or model.keys() != _MODEL:
        raise GraphError("its kind of run lacks fields, or has others.")
    check_name(data["family"], "family")
    names = (data["sampler"], data["guider"], *(model[name] for name in _MODEL - {"config"}))
    sizes = tuple(data["latent"])
    if not all(isinstance(name, str) for name in names) or not isinstance(model["config"], dict) or not sizes:
        raise GraphError("its kind of run is not told in texts.")
    if not all(is_count(size) and size > 0 for size in sizes):
        raise GraphError(f"its latent has the shape {shown(sizes)}.")
    guidance = {str(name): float(value) for name, value in data["guidance"].items()}
    return Kind(
        data["family"], ModelIdentity(**model), data["sampler"], data["guider"], guidance, sizes, data["masked"] is True
    )
