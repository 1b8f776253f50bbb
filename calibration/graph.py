"""Error graphs: what every segment of reused steps costs, per sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import networkx as nx
import numpy as np

from ..schedules.atomic import write_changed
from ..schedules.grid import same_grid
from ..schedules.match import ModelIdentity
from ..schedules.schedule import Rule, ScheduleError, check_name, check_sigmas, shown
from .graph_file import content_of, plain_object, read
from .problem import Edge
from .sample import Sample
from .segments import GraphError, checked_segments

MODES = ("short", "normal", "exact")
FORMER_MODES = {"quick": "short", "standard": "normal"}
"""Of calibrations that were made before errors followed from full runs, and what does their work now."""
KNOWN_MODES = (*MODES, *FORMER_MODES)
METRICS = ("l1", "l2", "lpips")


def present_mode(mode: str) -> str:
    """The mode that does the work of this one, of KNOWN_MODES, now."""
    return FORMER_MODES.get(mode, mode)


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
        for what, value, choices in (("mode", self.mode, KNOWN_MODES), ("metric", self.metric, METRICS)):
            if value not in choices:
                raise GraphError(f"{what} is {shown(value)}: choose one of {', '.join(choices)}.")
        for what, values, kind in (("rules", self.rules, Rule), ("samples", self.samples, Sample)):
            if not isinstance(values, tuple | list) or not values or not all(isinstance(v, kind) for v in values):
                raise GraphError(f"{what} has to hold one {kind.__name__} or more.")
            if len(set(values)) < len(values):
                raise GraphError(f"{what} holds the same {kind.__name__} twice: list each one once.")
            object.__setattr__(self, what, tuple(values))
        object.__setattr__(self, "sigmas", check_sigmas(self.sigmas))
        object.__setattr__(self, "setup", plain_object(self.setup, "setup"))
        object.__setattr__(self, "source", plain_object(self.source, "source"))
        object.__setattr__(self, "segments", checked_segments(self.segments, self.steps, self.rules))
        object.__setattr__(self, "errors", self._checked_errors())

    @property
    def steps(self) -> int:
        """N, the number of steps of the grid, and the sink."""
        return len(self.sigmas) - 1

    @property
    def learned(self) -> bool:
        """Whether its samples are pictures that the user made anyway, and not those of a calibration."""
        return self.source.get("learned") is True

    def provenance(self, name: str) -> dict[str, object]:
        """What a schedule that is made from this graph, the calibration ``name``, tells of where it comes from."""
        return {
            "calibration": name, "file": self.model.file, "patches": self.model.patches, "mode": self.mode,
            "metric": self.metric, "samples": len(self.samples),
        }

    def measured(self) -> np.ndarray:
        """How many samples have an error, per edge."""
        return np.count_nonzero(~np.isnan(self.errors), axis=0)

    def mean(self) -> np.ndarray:
        """The mean error over the samples that have one, per edge; NaN where none has."""
        return self._over_samples(np.nansum(self.errors, axis=0))

    def geometric_mean(self) -> np.ndarray:
        """The geometric mean of the errors over the samples that have one, per edge; NaN where none has."""
        with np.errstate(divide="ignore"):
            return np.exp(self._over_samples(np.nansum(np.log(self.errors), axis=0)))

    def spread(self) -> np.ndarray:
        """The standard deviation over the samples that have an error, per edge; 0 for one, NaN for none."""
        return np.sqrt(self._over_samples(np.nansum((self.errors - self.mean()) ** 2, axis=0)))

    def worst(self) -> np.ndarray:
        """The largest error of a sample, per edge; NaN where none has one."""
        return np.fmax.reduce(self.errors, axis=0)

    def edges(self, values: np.ndarray | None = None) -> list[Edge]:
        """Edges for the solver, by rule, without those that are NaN: of ``values``, one per edge, or of the mean.

        GraphError for errors that cannot be added up.
        """
        values = self.mean() if values is None else np.asarray(values, dtype=np.float64)
        if values.shape != (len(self.segments),):
            raise GraphError(f"{values.shape} values for {len(self.segments)} edges: give one per edge.")
        with np.errstate(over="ignore"):
            if not np.isfinite(np.nansum(values)):
                raise GraphError("The errors of this calibration are too large to be added up: make it anew.")
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
        GraphError unless model, grid, mode, metric and setup are the same; the sigmas of this graph stay. Where one does
        not know the patches of its model, the merged one does not.
        """
        if None in (self.model.patches, other.model.patches):
            self, other = (replace(one, model=replace(one.model, patches=None)) for one in (self, other))
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
        content = content_of(self)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_changed(path, content)

    @classmethod
    def load(cls, path: Path) -> ErrorGraph:
        """The graph in a file that ``save`` wrote; GraphError naming the file for anything else, OSError without one."""
        try:
            return cls(**read(path))
        except (GraphError, ScheduleError) as error:
            raise GraphError(f"{path.name}: {error}") from None

    def _over_samples(self, sums: np.ndarray) -> np.ndarray:
        measured = self.measured()
        return np.divide(sums, measured, out=np.full(len(sums), np.nan), where=measured > 0)

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


def _sources(graph: ErrorGraph) -> list[object]:
    merged = graph.source.get("merged")
    return merged if isinstance(merged, list) else [graph.source]
