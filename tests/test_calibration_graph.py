"""Error graphs: statistics, merging, the file, and everything that can be wrong with them."""

import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lemica.calibration import graph_file
from lemica.calibration.graph import METRICS, MODES, ErrorGraph
from lemica.calibration.sample import Sample
from lemica.calibration.segments import GraphError, all_segments
from lemica.calibration.solver import Edge, sweep
from lemica.schedules import ModelIdentity, Rule, ScheduleError, nominal_sigmas
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

HOLD, LINEAR, RESIDUAL = Rule("output", "hold"), Rule("output", "linear"), Rule("residual", "hold")
NAN = math.nan
MODEL = ModelIdentity("WAN21", "WanModel", {"dim": 192, "num_layers": 4}, "tiny.safetensors")


def make(**changes):
    fields = {
        "family": "demo",
        "model": MODEL,
        "sigmas": nominal_sigmas(3.0, 4),
        "mode": "exact",
        "metric": "l1",
        "rules": (HOLD,),
        "samples": (Sample("a cat", 1), Sample("a dog", 2)),
        "segments": np.array([(-1, 0, 2, 0), (-1, 1, 3, 0), (-1, 2, 4, 0)]),
        "errors": np.array([[1.0, 2.0, NAN], [3.0, NAN, NAN]]),
        "setup": {"sampler": "euler", "cfg": 4.0},
        "source": {"created": "2026-11-21"},
    }
    return ErrorGraph(**{**fields, **changes})


def description(graph):
    names = ("family", "model", "sigmas", "mode", "metric", "rules", "samples", "setup", "source")
    return {name: getattr(graph, name) for name in names}


def assert_same(first, second):
    assert description(first) == description(second)
    np.testing.assert_array_equal(first.segments, second.segments)
    np.testing.assert_array_equal(first.errors, second.errors)


@st.composite
def graphs(draw):
    steps = draw(st.integers(1, 12))
    rules = tuple(draw(st.permutations([HOLD, LINEAR, RESIDUAL])))[: draw(st.integers(1, 3))]
    segments = all_segments(steps, draw(st.integers(1, 5)), rules)
    samples = draw(st.lists(st.builds(Sample, st.text(max_size=9), st.integers(0, 2**64 - 1)), min_size=1, unique=True))
    numbers = np.random.default_rng(draw(st.integers(0, 2**32)))
    errors = numbers.lognormal(size=(len(samples), len(segments)))
    errors[numbers.random(errors.shape) < draw(st.sampled_from([0, 0.3, 1]))] = NAN
    return make(
        sigmas=nominal_sigmas(draw(st.floats(0.5, 12)), steps),
        mode=draw(st.sampled_from(MODES)),
        metric=draw(st.sampled_from(METRICS)),
        rules=rules,
        samples=samples,
        segments=segments,
        errors=errors,
        source=draw(st.dictionaries(st.text(max_size=4), st.floats(allow_nan=False, allow_infinity=False))),
    )


@settings(deadline=None, max_examples=25)
@given(graphs())
def test_saved_graph_comes_back(tmp_path_factory, graph):
    path = tmp_path_factory.mktemp("graphs") / "new" / "graph.safetensors"
    graph.save(path)
    graph.save(path)
    assert_same(ErrorGraph.load(path), graph)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@settings(deadline=None)
@given(graphs(), st.data())
def test_merging_the_parts_gives_the_whole(graph, data):
    count = len(graph.samples)
    first = data.draw(st.lists(st.integers(0, count - 1), unique=True, min_size=1))
    others = [place for place in range(count) if place not in first] or first
    merged = graph.take(first).merge(graph.take(others))
    order = [merged.samples.index(sample) for sample in graph.samples if sample in merged.samples]
    assert_same(replace(merged.take(order), source=graph.source), graph)


def test_statistics_skip_what_was_not_measured():
    graph = make()
    np.testing.assert_array_equal(graph.measured(), [2, 1, 0])
    np.testing.assert_array_equal(graph.mean(), [2.0, 2.0, NAN])
    np.testing.assert_allclose(graph.geometric_mean(), [math.sqrt(3), 2.0, NAN])
    np.testing.assert_array_equal(make(errors=np.array([[0.0, 2.0, NAN], [3.0, NAN, NAN]])).geometric_mean()[0], 0.0)
    np.testing.assert_array_equal(graph.spread(), [1.0, 0.0, NAN])
    np.testing.assert_array_equal(graph.worst(), [3.0, 2.0, NAN])


def test_edges_are_those_measured_by_rule():
    graph = make()
    assert graph.edges() == [Edge(-1, 0, 2, HOLD, 2.0), Edge(-1, 1, 3, HOLD, 2.0)]
    assert graph.edges(graph.worst())[0].error == 3.0
    two = make(
        rules=(LINEAR, HOLD),
        segments=np.array([(-1, 1, 3, 1), (0, 2, 4, 0), (-1, 0, 2, 1), (-1, 0, 2, 0)]),
        errors=np.array([[0.1, 0.2, 0.3, 0.4]] * 2),
    )
    expected = [(0, 2, 4, LINEAR), (-1, 0, 2, LINEAR), (-1, 1, 3, HOLD), (-1, 0, 2, HOLD)]
    assert [edge[:4] for edge in two.edges()] == expected
    with pytest.raises(GraphError, match="one per edge"):
        graph.edges(np.zeros(2))


def test_every_segment_once_and_slopes_with_the_step_before():
    segments = all_segments(4, 3, (HOLD, LINEAR)).tolist()
    hold = [(i, j) for h, i, j, rule in segments if rule == 0]
    assert hold == [(0, 2), (0, 3), (1, 3), (1, 4), (2, 4)]
    linear = [(h, i, j) for h, i, j, rule in segments if rule == 1]
    assert linear == [(-1, 0, 2), (-1, 0, 3), (0, 1, 3), (0, 1, 4), (0, 2, 4), (1, 2, 4)]
    assert all_segments(1, 5, (HOLD,)).shape == (0, 4)
    assert all_segments(9, 3, (HOLD,))[:, 2].max() == 9
    assert {i - h for h, i, j, _ in all_segments(9, 3, (LINEAR,)).tolist() if i} == {1, 2, 3}


def test_a_graph_can_be_solved_for_every_budget():
    segments = all_segments(6, 3, (HOLD, LINEAR))
    errors = np.random.default_rng(0).random((3, len(segments)))
    graph = make(
        sigmas=nominal_sigmas(3.0, 6), rules=(HOLD, LINEAR), segments=segments, errors=errors,
        samples=[Sample("a cat", seed) for seed in range(3)],
    )
    paths = sweep(graph.edges(), graph.steps)
    assert list(paths) == [2, 3, 4, 5, 6]
    schedule = paths[3].to_schedule("demo/b3", graph.family, graph.sigmas, {"file": graph.model.file})
    assert schedule.budget == 3


def test_networkx_view_holds_the_statistics():
    graph = make(
        rules=(HOLD, LINEAR),
        segments=np.array([(-1, 0, 2, 0), (0, 1, 3, 1), (-1, 2, 4, 0)]),
    )
    view = graph.to_networkx()
    assert [view.nodes[step]["sigma"] for step in range(5)] == list(graph.sigmas)
    assert view.graph == {"family": "demo", "steps": 4, "mode": "exact", "metric": "l1"}
    assert view.edges[0, 2, ("output hold", -1)] == {
        "rule": "output hold", "before": -1, "mean": 2.0, "spread": 1.0, "worst": 3.0, "measured": 2,
    }
    assert view.edges[1, 3, ("output linear", 0)]["before"] == 0
    assert not view.has_edge(2, 4)
    assert [view.edges[step, step + 1, (None, -1)]["mean"] for step in range(4)] == [0.0] * 4
    assert view.number_of_edges() == 6


def test_merge_unites_rules_segments_and_samples():
    mine = make()
    other = make(
        rules=(LINEAR, HOLD),
        samples=(Sample("a dog", 2), Sample("a fox", 3)),
        segments=np.array([(-1, 2, 4, 1), (-1, 0, 2, 0), (-1, 0, 2, 1)]),
        errors=np.array([[5.0, 6.0, 7.0], [8.0, 9.0, 10.0]]),
        source={"created": "later"},
    )
    merged = mine.merge(other)
    assert merged.rules == (HOLD, LINEAR)
    assert merged.samples == (Sample("a cat", 1), Sample("a dog", 2), Sample("a fox", 3))
    assert merged.segments.tolist() == [[-1, 0, 2, 0], [-1, 1, 3, 0], [-1, 2, 4, 0], [-1, 0, 2, 1]]
    # Of the dog, which is in both, (0, 2) with hold stays 3 and (2, 4) is filled in.
    expected = [[1.0, 2.0, NAN, NAN], [3.0, NAN, 5.0, 6.0], [10.0, NAN, 8.0, 9.0]]
    np.testing.assert_array_equal(merged.errors, expected)
    assert merged.source == {"merged": [mine.source, other.source]}
    assert merged.merge(mine).source == {"merged": [mine.source, other.source, mine.source]}
    np.testing.assert_array_equal(mine.errors[1], [3.0, NAN, NAN])


def test_merge_accepts_a_grid_that_differs_by_rounding():
    mine = make()
    other = make(sigmas=tuple(sigma * (1 + 1e-5) for sigma in mine.sigmas), samples=(Sample("a fox", 3),),
                 errors=np.ones((1, 3)))
    assert mine.merge(other).sigmas == mine.sigmas


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "wan"}, "differ in family, demo and wan"),
        ({"model": replace(MODEL, file="other.safetensors")}, "differ in model"),
        ({"mode": "normal"}, "differ in mode, exact and normal"),
        ({"mode": "quick"}, "differ in mode, exact and quick"),
        ({"metric": "l2"}, "differ in metric"),
        ({"setup": {"sampler": "euler", "cfg": 5.0}}, "differ in setup"),
        ({"sigmas": nominal_sigmas(5.0, 4)}, "different sigmas"),
        ({"sigmas": nominal_sigmas(3.0, 5)}, "4 and 5 steps"),
    ],
)
def test_merge_refuses_what_does_not_belong_together(changes, message):
    with pytest.raises(GraphError, match=message):
        make().merge(make(**changes))


def test_merge_refuses_first_and_second_order_of_one_rule():
    first = make(rules=(LINEAR,))
    second = make(rules=(LINEAR,), segments=np.array([(-1, 0, 2, 0), (0, 1, 3, 0), (0, 2, 4, 0)]))
    with pytest.raises(GraphError, match="Only some segments of output linear"):
        first.merge(second)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": " "}, "family is"),
        ({"model": "wan"}, "ModelIdentity"),
        ({"mode": "fast"}, "mode is 'fast': choose one of short"),
        ({"metric": "psnr"}, "metric is 'psnr'"),
        ({"sigmas": (1.0,)}, "1 sigmas"),
        ({"rules": ()}, "one Rule or more"),
        ({"rules": ("output hold",)}, "one Rule or more"),
        ({"rules": (HOLD, HOLD)}, "same Rule twice"),
        ({"samples": ()}, "one Sample or more"),
        ({"samples": (Sample("a", 1), Sample("a", 1))}, "same Sample twice"),
        ({"setup": {"latent": object()}}, "setup holds a value that JSON cannot"),
        ({"source": {"loss": NAN}}, "source holds a value that JSON cannot"),
        ({"source": [1]}, "source is list"),
        ({"segments": np.zeros((3, 4))}, "segments are float64"),
        ({"segments": np.zeros((3, 3), int)}, "segments are int64 of shape"),
        ({"segments": np.array([(-1, 0, 2, 0), (-1, 0, 3, 0), (-1, 0, 5, 0)])}, r"\[-1, 0, 5, 0\] is no segment"),
        ({"segments": np.array([(-1, 0, 2, 0), (-1, 0, 3, 0), (-1, 1, 2, 0)])}, "is no segment of 4 steps"),
        ({"segments": np.array([(-1, 0, 2, 0), (-1, 0, 3, 0), (-1, -1, 2, 0)])}, "is no segment"),
        ({"segments": np.array([(-1, 0, 2, 0), (-1, 0, 3, 0), (0, 0, 4, 0)])}, "is no segment"),
        ({"segments": np.array([(-1, 0, 2, 0), (-1, 0, 3, 0), (-2, 1, 4, 0)])}, "is no segment"),
        ({"segments": np.array([(-1, 0, 2, 0), (-1, 0, 3, 0), (-1, 1, 4, 1)])}, "with 1 rules"),
        ({"segments": np.array([(-1, 0, 2, 0), (-1, 0, 3, 0), (-1, 0, 2, 0)])}, "listed twice"),
        ({"segments": np.array([(-1, 0, 2, 0), (-1, 1, 3, 0), (0, 1, 4, 0)])}, "Only some segments of output hold"),
        ({"errors": np.ones((3, 2))}, r"give floats of shape \(2, 3\)"),
        ({"errors": np.ones((2, 3), int)}, "errors are int64"),
        ({"errors": np.array([[1.0, 1.0, 1.0], [1.0, -0.5, 1.0]])}, r"segment \(1, 3\) with output hold is -0.5 in sample 1"),
        ({"errors": np.array([[1.0, 1.0, math.inf], [1.0, 1.0, 1.0]])}, "is inf in sample 0"),
    ],
)
def test_wrong_fields_are_refused(changes, message):
    with pytest.raises((GraphError, ScheduleError), match=message):
        make(**changes)


@pytest.mark.parametrize(("prompt", "seed"), [(None, 1), ("a" * 20_001, 1), ("a", -1), ("a", 2**64), ("a", 1.0), ("a", True)])
def test_wrong_samples_are_refused(prompt, seed):
    with pytest.raises(GraphError):
        Sample(prompt, seed)


def test_arrays_are_copies_that_cannot_be_changed():
    errors = np.ones((2, 3), np.float32)
    graph = make(errors=errors)
    errors[:] = -1
    assert graph.errors.dtype == np.float64 and graph.errors.min() == 1
    for array in (graph.errors, graph.segments):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 7


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "graph.safetensors"
    make().save(path)
    return path


def described(**changes):
    """The model of a description, with something changed."""
    return {"model_class": "W", "diffusion_model": "W", "config": {}, "file": None, "patches": "", **changes}


def rewrite(path, change=None, tensors=None, text=None):
    """Write the file again with another description, other tensors, or any text for a description."""
    with safe_open(path, framework="numpy") as file:
        data = json.loads(file.metadata()["lemica_error_graph"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}
    data.update(change or {})
    text = json.dumps(data) if text is None else text
    path.write_bytes(to_bytes({**arrays, **(tensors or {})}, {"lemica_error_graph": text}))


def assert_refused(path, message):
    with pytest.raises(GraphError, match=f"graph.safetensors: .*{message}"):
        ErrorGraph.load(path)


def test_rewriting_alone_breaks_nothing(path):
    rewrite(path)
    assert_same(ErrorGraph.load(path), make())


def test_truncated_and_foreign_files_are_refused(path):
    content = path.read_bytes()
    for length in (0, 4, 8, 100, len(content) - 1):
        path.write_bytes(content[:length])
        assert_refused(path, "no safetensors file, or not all of one")
    path.write_bytes(content + b"x")
    assert_refused(path, "no safetensors file")
    path.write_bytes(b"PK\x03\x04" * 50)
    assert_refused(path, "no safetensors file")
    for metadata in (None, {"format": "pt"}):
        path.write_bytes(to_bytes({"weight": np.ones(3)}, metadata))
        assert_refused(path, "safetensors file of something else")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        ErrorGraph.load(tmp_path / "none.safetensors")
    (tmp_path / "graph.safetensors").mkdir()
    assert_refused(tmp_path / "graph.safetensors", "not a regular file")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"more": np.ones(2)}, "the file holds"),
        ({"errors": np.ones((2, 3), np.float32)}, "errors, float64"),
        ({"segments": np.ones((3, 4), np.int64)}, "segments, int32"),
        ({"errors": np.ones((2, 4))}, "give floats of shape"),
        ({"errors": np.ones(6)}, "give floats of shape"),
        ({"errors": np.full((2, 3), -1.0)}, "finite and 0 or more"),
        ({"errors": np.full((2, 3), math.inf)}, "finite and 0 or more"),
        ({"segments": np.ones((3, 3), np.int32)}, "rows of before, start, end"),
        ({"segments": np.full((3, 4), 9, np.int32)}, "is no segment"),
    ],
)
def test_wrong_tensors_in_a_file_are_refused(path, tensors, message):
    rewrite(path, tensors=tensors)
    assert_refused(path, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 3}, "schema 3, .* update the node pack"),
        ({"schema": 0}, "none of an error graph"),
        ({"schema": "1"}, "none of an error graph"),
        ({"colour": "red"}, "object with schema, family"),
        ({"sigmas": "1, 0"}, "sigmas is no list"),
        ({"sigmas": [1.0, 0.5, 0.7, 0.2, 0.0]}, "sigmas have to decrease"),
        ({"sigmas": [1.0, 0.5, None, 0.2, 0.0]}, "give numbers only"),
        ({"sigmas": [1.0, 0.0]}, "no segment of 1 steps"),
        ({"rules": "output hold"}, "rules is no list"),
        ({"rules": ["output cubic"]}, "'cubic' is unknown"),
        ({"rules": [7]}, "not two words"),
        ({"rules": []}, "one Rule or more"),
        ({"samples": {}}, "samples is no list"),
        ({"samples": [{"prompt": "a"}]}, "object with prompt, seed"),
        ({"samples": ["a cat", "a dog"]}, "object with prompt, seed"),
        ({"samples": [{"prompt": "a", "seed": -1}]}, "seed of a sample"),
        ({"samples": [{"prompt": "a", "seed": 1}]}, "give floats of shape"),
        ({"model": None}, "model has to be an object"),
        ({"model": {"model_class": "WAN21"}}, "model has to be an object"),
        ({"model": described(model_class=7)}, "does not name a model"),
        ({"model": described(config=[])}, "does not name a model"),
        ({"model": described(patches=7)}, "does not name a model"),
        ({"family": None}, "family is None"),
        ({"mode": ["exact"]}, "mode is"),
        ({"metric": "psnr"}, "metric is"),
        ({"setup": []}, "setup is list"),
        ({"source": None}, "source is NoneType"),
    ],
)
def test_wrong_descriptions_in_a_file_are_refused(path, change, message):
    rewrite(path, change)
    assert_refused(path, message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[1, 2]", "none of an error graph"),
        ("null", "none of an error graph"),
        ('{"schema": NaN}', "holds NaN"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_wrong_text_in_a_file_is_refused(path, text, message):
    rewrite(path, text=text)
    assert_refused(path, message)


def test_missing_field_is_refused(path):
    with safe_open(path, framework="numpy") as file:
        data = json.loads(file.metadata()["lemica_error_graph"])
    del data["setup"]
    rewrite(path, text=json.dumps(data))
    assert_refused(path, "object with schema, family")


def test_sizes_have_a_limit_both_ways(path, monkeypatch):
    size = path.stat().st_size
    monkeypatch.setattr(graph_file, "MAX_BYTES", size)
    ErrorGraph.load(path)
    make().save(path)
    monkeypatch.setattr(graph_file, "MAX_BYTES", size - 1)
    assert_refused(path, f"up to {size - 1} bytes")
    with pytest.raises(GraphError, match="Take fewer samples"):
        make().save(path)
    monkeypatch.setattr(graph_file, "MAX_BYTES", size)
    monkeypatch.setattr(graph_file, "MAX_DESCRIPTION", 100)
    assert_refused(path, "it takes at most 100")
    with pytest.raises(GraphError, match="Take fewer samples"):
        make().save(path)


def test_failed_write_leaves_the_old_file(path, monkeypatch):
    content = path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        make(metric="l2").save(path)
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_graphs_of_one_model_merge_and_what_one_does_not_know_the_merged_one_does_not():
    def of(patches):
        return make(model=replace(MODEL, patches=patches))

    assert of("abc").merge(of("abc")).model.patches == "abc"
    assert of("abc").merge(of(None)).model.patches is None and of(None).merge(of("")).model.patches is None
    with pytest.raises(GraphError, match="differ in model"):
        of("abc").merge(of(""))


def test_a_schedule_tells_of_what_model_it_was_made():
    graph = make(model=replace(MODEL, patches="abc"))
    told = graph.provenance("mine")
    assert (told["calibration"], told["file"], told["patches"]) == ("mine", MODEL.file, "abc")
    assert told["samples"] == len(graph.samples)
