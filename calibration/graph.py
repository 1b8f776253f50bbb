"""Error graphs: what every segment of reused steps costs, per sample, with the file that keeps it."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

import networkx as nx
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from ..schedules.atomic import write_changed
from ..schedules.grid import same_grid
from ..schedules.match import ModelIdentity
from ..schedules.schedule import Rule, ScheduleError, check_name, check_sigmas, is_count, plain_copy, shown
from .solver import Edge

SCHEMA = 1
MODES = ("quick", "standard", "exact")
METRICS = ("l1", "l2", "lpips")
MAX_BYTES = 1 << 28
MAX_DESCRIPTION = 1 << 24
MAX_PROMPT = 20_000
MAX_EDGES = 1 << 20
"""Of a graph: as many as can be solved, listed and merged in the memory of a small machine."""

_KEY = "lemica_error_graph"
_FIELDS = ("schema", "family", "model", "sigmas", "mode", "metric", "rules", "samples", "setup", "source")


class GraphError(ValueError):
    """An error graph, or a file that should hold one, is not valid, or two of them do not go together."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One calibration sample: a prompt (or a name for what stands in its place) and the seed of its noise."""

    prompt: str
    seed: int

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str) or len(self.prompt) > MAX_PROMPT:
            raise GraphError(f"A sample's prompt is a text of up to {MAX_PROMPT} characters: shorten it.")
        if not is_count(self.seed) or not 0 <= self.seed < 1 << 64:
            raise GraphError(f"The seed of a sample is {shown(self.seed)}: give a whole number from 0 to 2**64 - 1.")


@dataclass(frozen=True, eq=False, slots=True)
class ErrorGraph:
    """The errors of segments under rules, per sample; valid by construction, a wrong field raises GraphError.

    ``sigmas``: the N+1 sigmas of the grid. ``mode``: how it was measured. ``metric``: what the errors are.
    ``segments``: [edges, 4] whole numbers, each row (before, start, end, place in ``rules``). ``before`` is the
    computed step before ``start``, or -1 where it does not matter; per rule either every segment that starts after
    step 0 names it (second order) or none does (first order). Segments of length 1 reuse nothing and are not listed.
    ``errors``: [samples, edges], NaN where nothing was measured. ``setup``: what all samples share besides, like
    sampler, cfg and size; ``source``: provenance. Both are plain JSON values.
    """

    family: str
    model: ModelIdentity
    sigmas: tuple[float, ...]
    mode: str
    metric: str
    rules: tuple[Rule, ...]
    samples: tuple[Sample, ...]
    segments: np.ndarray
    errors: np.ndarray
    setup: Mapping[str, object] = field(default_factory=dict)
    source: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.family, "family")
        if not isinstance(self.model, ModelIdentity):
            raise GraphError(f"model is {shown(self.model)}: give the ModelIdentity of the calibrated model.")
        for what, value, choices in (("mode", self.mode, MODES), ("metric", self.metric, METRICS)):
            if value not in choices:
                raise GraphError(f"{what} is {shown(value)}: choose one of {', '.join(choices)}.")
        for what, values, kind in (("rules", self.rules, Rule), ("samples", self.samples, Sample)):
            if not isinstance(values, tuple | list) or not values or not all(isinstance(v, kind) for v in values):
                raise GraphError(f"{what} has to hold one {kind.__name__} or more.")
            if len(set(values)) < len(values):
                raise GraphError(f"{what} holds the same {kind.__name__} twice: list each one once.")
            object.__setattr__(self, what, tuple(values))
        object.__setattr__(self, "sigmas", check_sigmas(self.sigmas))
        object.__setattr__(self, "setup", _plain_copy(self.setup, "setup"))
        object.__setattr__(self, "source", _plain_copy(self.source, "source"))
        object.__setattr__(self, "segments", _checked_segments(self.segments, self.steps, self.rules))
        object.__setattr__(self, "errors", self._checked_errors())

    @property
    def steps(self) -> int:
        """N, the number of steps of the grid, and the sink."""
        return len(self.sigmas) - 1

    def measured(self) -> np.ndarray:
        """How many samples have an error, per edge."""
        return np.count_nonzero(~np.isnan(self.errors), axis=0)

    def mean(self) -> np.ndarray:
        """The mean error over the samples that have one, per edge; NaN where none has."""
        return self._over_samples(np.nansum(self.errors, axis=0))

    def spread(self) -> np.ndarray:
        """The standard deviation over the samples that have an error, per edge; 0 for one, NaN for none."""
        return np.sqrt(self._over_samples(np.nansum((self.errors - self.mean()) ** 2, axis=0)))

    def worst(self) -> np.ndarray:
        """The largest error of a sample, per edge; NaN where none has one."""
        return np.fmax.reduce(self.errors, axis=0)

    def edges(self, values: np.ndarray | None = None) -> list[Edge]:
        """Edges for the solver, by rule, without those that are NaN: of ``values``, one per edge, or of the mean."""
        values = self.mean() if values is None else np.asarray(values, dtype=np.float64)
        if values.shape != (len(self.segments),):
            raise GraphError(f"{values.shape} values for {len(self.segments)} edges: give one per edge.")
        order = np.argsort(self.segments[:, 3], kind="stable")
        rows = zip(self.segments[order].tolist(), values[order].tolist(), strict=True)
        return [Edge(*row[:3], self.rules[row[3]], value) for row, value in rows if value == value]

    def take(self, samples: Sequence[int]) -> ErrorGraph:
        """The graph with only these of its samples, by place."""
        chosen = tuple(self.samples[place] for place in samples)
        return replace(self, samples=chosen, errors=self.errors[list(samples)])

    def merge(self, other: ErrorGraph) -> ErrorGraph:
        """One graph with the samples, rules and segments of both, NaN where one of them measured nothing.

        A sample of both graphs becomes one: what this graph measured of it stays, the other fills in what is missing.
        GraphError unless model, grid, mode, metric and setup are the same; the sigmas of this graph stay.
        """
        for what in ("family", "model", "mode", "metric", "setup"):
            mine, others = getattr(self, what), getattr(other, what)
            if mine != others:
                raise GraphError(
                    f"These error graphs differ in {what}, {str(mine)[:200]} and {str(others)[:200]}: they cannot be merged."
                )
        if not same_grid(self.sigmas, other.sigmas):
            raise GraphError(
                f"These error graphs are of {self.steps} and {other.steps} steps on different sigmas: calibrate both on "
                "one grid to merge them."
            )
        rules = tuple(dict.fromkeys((*self.rules, *other.rules)))
        samples = tuple(dict.fromkeys((*self.samples, *other.samples)))
        theirs = other.segments.copy()
        theirs[:, 3] = np.array([rules.index(rule) for rule in other.rules])[theirs[:, 3]]
        columns = {row: place for place, row in enumerate(map(tuple, self.segments.tolist()))}
        places = [columns.setdefault(row, len(columns)) for row in map(tuple, theirs.tolist())]
        errors = np.full((len(samples), len(columns)), np.nan)
        errors[np.ix_([samples.index(sample) for sample in other.samples], places)] = other.errors
        mine = errors[: len(self.samples), : len(self.segments)]
        mine[...] = np.where(np.isnan(self.errors), mine, self.errors)
        segments = np.array(list(columns), dtype=np.int32).reshape(-1, 4)
        source = {"merged": [*_sources(self), *_sources(other)]}
        return replace(self, rules=rules, samples=samples, segments=segments, errors=errors, source=source)

    def to_networkx(self) -> nx.MultiDiGraph:
        """The measured edges as a networkx graph: nodes 0 .. N with their sigma, edges with their errors.

        An edge has the key (rule, before) and the attributes rule, before, mean, spread, worst and measured. A segment
        of length 1, which reuses nothing, has rule None and error 0.
        """
        graph = nx.MultiDiGraph(family=self.family, steps=self.steps, mode=self.mode, metric=self.metric)
        graph.add_nodes_from((step, {"sigma": sigma}) for step, sigma in enumerate(self.sigmas))
        nothing = {"rule": None, "before": -1, "mean": 0.0, "spread": 0.0, "worst": 0.0, "measured": len(self.samples)}
        graph.add_edges_from((step, step + 1, (None, -1), nothing) for step in range(self.steps))
        columns = (self.segments, self.mean(), self.spread(), self.worst(), self.measured())
        for row, mean, spread, worst, measured in zip(*(column.tolist() for column in columns), strict=True):
            if measured:
                before, start, end, place = row
                rule = str(self.rules[place])
                statistics = {"mean": mean, "spread": spread, "worst": worst, "measured": measured}
                graph.add_edge(start, end, (rule, before), rule=rule, before=before, **statistics)
        return graph

    def save(self, path: Path) -> None:
        """Write one safetensors file; a crash or a full disk leaves the old file or the new one, never half of one."""
        text = json.dumps(self._description(), sort_keys=True, allow_nan=False)
        content = to_bytes({"segments": self.segments, "errors": self.errors}, {_KEY: text})
        if len(text) > MAX_DESCRIPTION or len(content) > MAX_BYTES:
            raise GraphError(
                f"The error graph takes {len(content)} bytes, {len(text)} of them for its description: up to {MAX_BYTES} "
                f"and {MAX_DESCRIPTION} can be read again. Take fewer samples."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_changed(path, content)

    @classmethod
    def load(cls, path: Path) -> ErrorGraph:
        """The graph in a file that ``save`` wrote; GraphError naming the file for anything else, OSError without one."""
        try:
            description, segments, errors = _read(path)
            return cls(**_parse(description), segments=segments, errors=errors)
        except (GraphError, ScheduleError) as error:
            raise GraphError(f"{path.name}: {error}") from None

    def _over_samples(self, sums: np.ndarray) -> np.ndarray:
        measured = self.measured()
        return np.divide(sums, measured, out=np.full(len(sums), np.nan), where=measured > 0)

    def _description(self) -> dict[str, object]:
        model = self.model
        return {
            "schema": SCHEMA,
            "family": self.family,
            "model": {
                "model_class": model.model_class,
                "diffusion_model": model.diffusion_model,
                "config": _plain_copy(model.config, "config"),
                "file": model.file,
            },
            "sigmas": list(self.sigmas),
            "mode": self.mode,
            "metric": self.metric,
            "rules": [str(rule) for rule in self.rules],
            "samples": [{"prompt": sample.prompt, "seed": sample.seed} for sample in self.samples],
            "setup": dict(self.setup),
            "source": dict(self.source),
        }

    def _checked_errors(self) -> np.ndarray:
        errors = np.array(self.errors)
        shape = (len(self.samples), len(self.segments))
        if errors.dtype.kind != "f" or errors.shape != shape:
            raise GraphError(
                f"errors are {errors.dtype} of shape {errors.shape}: give floats of shape {shape}, samples by edges."
            )
        wrong = np.argwhere((errors < 0) | np.isinf(errors))
        if len(wrong):
            sample, edge = wrong[0].tolist()
            before, start, end, place = self.segments[edge].tolist()
            raise GraphError(
                f"The error of segment {(start, end)} with {self.rules[place]} is {errors[sample, edge]} in sample "
                f"{sample}: an error is finite and 0 or more, or NaN when not measured."
            )
        errors = errors.astype(np.float64)
        errors.flags.writeable = False
        return errors


def all_segments(steps: int, longest: int, rules: Sequence[Rule]) -> np.ndarray:
    """Every segment of up to ``longest`` steps for every rule, as rows for ``ErrorGraph.segments``.

    Rules with a slope get the second order: a row for every computed step within ``longest`` before the segment.
    GraphError for more than a graph may have.
    """
    count = sum(
        max(min(longest, steps - start) - 1, 0) * (min(start, longest) if rule.slope and start else 1)
        for rule in rules for start in range(steps)
    )
    check_edges(count)
    rows = [np.empty((0, 4), dtype=np.int32)]
    for place, rule in enumerate(rules):
        for start in range(steps):
            ends = np.arange(start + 2, min(start + longest, steps) + 1, dtype=np.int32)
            befores = np.arange(max(start - longest, 0), start, dtype=np.int32)
            if not rule.slope or not start:
                befores = np.array([-1], dtype=np.int32)
            ends, befores = (one.ravel() for one in np.meshgrid(ends, befores, indexing="ij"))
            rows.append(np.stack([befores, np.full_like(ends, start), ends, np.full_like(ends, place)], axis=1))
    return np.concatenate(rows)


def check_edges(count: int) -> None:
    """GraphError for more segments than a graph may have."""
    if count > MAX_EDGES:
        raise GraphError(f"These are {count} segments, a graph takes {MAX_EDGES}: measure shorter ones, or fewer rules.")


def _checked_segments(segments: np.ndarray, steps: int, rules: tuple[Rule, ...]) -> np.ndarray:
    segments = np.array(segments)
    if segments.dtype.kind not in "iu" or segments.ndim != 2 or segments.shape[1] != 4:
        raise GraphError(
            f"segments are {segments.dtype} of shape {segments.shape}: give whole numbers in rows of before, start, end, "
            "place of the rule."
        )
    check_edges(len(segments))
    before, start, end, place = (column.astype(np.int64) for column in segments.T)
    wrong = (start < 0) | (end < start + 2) | (end > steps) | (before < -1) | (before >= start) & (before >= 0)
    wrong |= (place < 0) | (place >= len(rules))
    if wrong.any():
        raise GraphError(f"{segments[wrong][0].tolist()} is no segment of {steps} steps with {len(rules)} rules.")
    if len(np.unique(segments, axis=0)) < len(segments):
        raise GraphError("A segment is listed twice for one rule: list each one once.")
    for index, rule in enumerate(rules):
        named = before[(place == index) & (start > 0)] >= 0
        if named.any() and not named.all():
            raise GraphError(f"Only some segments of {rule} name the computed step before them: give all or none.")
    segments = segments.astype(np.int32)
    segments.flags.writeable = False
    return segments


def _sources(graph: ErrorGraph) -> list[object]:
    merged = graph.source.get("merged")
    return merged if isinstance(merged, list) else [graph.source]


def _read(path: Path) -> tuple[object, np.ndarray, np.ndarray]:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
        raise GraphError(f"this is not a regular file of up to {MAX_BYTES} bytes: give an error graph's file.")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
            if text is None:
                raise GraphError("this is a safetensors file of something else: give an error graph's file.")
            if len(text) > MAX_DESCRIPTION:
                raise GraphError(f"the description has {len(text)} characters: it takes at most {MAX_DESCRIPTION}.")
            types = {name: file.get_slice(name).get_dtype() for name in file.keys()}
            if types != {"segments": "I32", "errors": "F64"}:
                raise GraphError(f"the file holds {shown(types)}: an error graph is segments, I32, and errors, F64.")
            segments, errors = file.get_tensor("segments"), file.get_tensor("errors")
    except SafetensorError as error:
        raise GraphError(f"this is no safetensors file, or not all of one: {error}.") from None
    try:
        return json.loads(text, parse_constant=_refuse_constant), segments, errors
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
    model = _check_fields(data["model"], ("model_class", "diffusion_model", "config", "file"), "model")
    texts = (model["model_class"], model["diffusion_model"], "" if model["file"] is None else model["file"])
    if not all(isinstance(text, str) for text in texts) or not isinstance(model["config"], dict):
        raise GraphError("model does not name a model: give class, network, config and file.")
    samples = tuple(Sample(**_check_fields(sample, ("prompt", "seed"), "a sample")) for sample in data["samples"])
    rules = tuple(Rule.parse(text) for text in data["rules"])
    model["config"] = _plain_copy(model["config"], "config")
    parsed = {**data, "model": ModelIdentity(**model), "samples": samples, "rules": rules}
    del parsed["schema"]
    return parsed


def _check_fields(data: object, names: tuple[str, ...], what: str) -> dict[str, object]:
    if not isinstance(data, dict) or set(data) != set(names):
        raise GraphError(f"{what} has to be an object with {', '.join(names)}.")
    return data


def _plain_copy(data: object, what: str) -> dict[str, object]:
    if not isinstance(data, Mapping):
        raise GraphError(f"{what} is {type(data).__name__}: give an object with plain JSON values.")
    try:
        return plain_copy(data, what)
    except ScheduleError as error:
        raise GraphError(str(error)) from None


def _refuse_constant(constant: str) -> NoReturn:
    raise GraphError(f"the description holds {constant}, which is not JSON: every number has to be finite.")
