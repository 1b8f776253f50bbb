"""Error graphs and solved paths in plain values, and the paths that are kept."""

from __future__ import annotations

import json

import numpy as np
import pytest
from lemica.calibration import GraphError, InfeasibleError, SolverError, solve
from lemica.calibration.half_run import half_run
from lemica.calibration.solutions import Options, solution, solutions
from lemica.calibration.view import calibration_view, cells, path_view, speedup
from lemica.schedules import Rule
from route_requests import make_graph

HOLD, LINEAR, RESIDUAL = Rule("output", "hold"), Rule("output", "linear"), Rule("residual", "hold")


def test_a_cell_is_of_the_best_rule_and_step_before():
    graph = make_graph(rules=("output hold", "output linear"))
    mean, worst, spread = graph.mean(), graph.worst(), graph.spread()
    found = {(cell[0], cell[1]): cell for cell in cells(graph)}
    for segment in {tuple(row) for row in graph.segments[:, 1:3].tolist()}:
        (edges,) = np.nonzero((graph.segments[:, 1:3] == segment).all(axis=1))
        best = edges[np.argmin(mean[edges])]
        rule = str(graph.rules[graph.segments[best, 3]])
        assert found.pop(segment) == [*segment, mean[best], worst[best], spread[best], rule]
    assert not found


def test_what_was_not_measured_is_no_cell():
    errors = make_graph().errors.copy()
    errors[:, 1] = errors[0, 2] = np.nan
    graph = make_graph(errors=errors)
    shown = [cell[:2] for cell in cells(graph)]
    assert graph.segments[1, 1:3].tolist() not in shown and graph.segments[2, 1:3].tolist() in shown
    json.dumps(calibration_view("x", graph, solutions(graph)), allow_nan=False)


@pytest.mark.parametrize("factor", [1e308, 1e200])
def test_errors_too_large_to_add_up_are_no_cells(factor):
    with pytest.raises(GraphError, match="too large"):
        cells(make_graph(errors=make_graph().errors * 0 + [[factor], [1.0]]))


def test_the_speedup_weighs_every_reused_step_by_its_rule():
    assert speedup(10, (0, 5), (HOLD, HOLD)) == pytest.approx(10 / (2 + 8 * 0.01))
    assert speedup(10, (0, 5), (RESIDUAL, RESIDUAL)) == pytest.approx(10 / (2 + 8 * 0.06))
    assert speedup(10, (0, 5), (HOLD, RESIDUAL)) == pytest.approx(10 / (2 + 4 * 0.01 + 4 * 0.06))
    assert speedup(3, (0, 1, 2), (None, None, None)) == 1.0


@pytest.mark.parametrize(
    "options",
    [
        Options(), Options(rule=LINEAR), Options(objective="shortest"), Options(tail=False), Options(fixed=(5,)),
        Options(reused=(1, 2), tail=False),
    ],
)
def test_kept_paths_are_those_of_the_solver(options):
    graph = make_graph(8, 6, ("output hold", "output linear"))
    edges = [edge for edge in graph.edges() if options.rule in (None, edge.rule)]
    for budget, path in solutions(graph, options).items():
        assert path == solve(edges, 8, budget, options.constraints, objective=options.objective)
        assert solution(graph, budget, options) is path
        view = path_view(path)
        assert view["rules"] == [str(rule) for rule in path.to_schedule("x", "y").rules]
        json.dumps(view, allow_nan=False)


def test_what_has_no_path_is_refused():
    graph = make_graph()
    with pytest.raises(InfeasibleError, match="nearest budget is 3") as refused:
        solution(graph, 1, Options(fixed=(3, 4)))
    assert refused.value.nearest == (3,)
    with pytest.raises(SolverError, match="1 to 6"):
        solution(graph, 0)
    with pytest.raises(GraphError, match="choose one of output hold"):
        solution(graph, 3, Options(rule=RESIDUAL))
    with pytest.raises(InfeasibleError, match="No path leads"):
        solution(make_graph(longest=2), 3, Options(reused=(1, 2, 3)))


def test_half_run_calibrations_are_counted(tmp_path):
    from safetensors.numpy import save_file

    assert half_run(tmp_path / "none", ()) == ([], [])
    for name in ("done-1", "half-2", "no-job"):
        (tmp_path / name).mkdir()
        save_file({"replayed": np.array([1.0, np.nan, 2.0])}, tmp_path / name / "replays-a.safetensors")
        for sample in "abcd":
            (tmp_path / name / f"run-{sample}.safetensors").touch()
    for name in ("done-1", "half-2"):
        (tmp_path / name / "job.json").write_text("{}")
    save_file({"other": np.zeros(1)}, tmp_path / "half-2" / "replays-b.safetensors")
    (tmp_path / "half-2" / "replays-c.safetensors").symlink_to("replays-a.safetensors")
    jobs, problems = half_run(tmp_path, {"done-1"})
    assert jobs == [{"folder": "half-2", "name": "half-2", "samples": 4, "replays": 2}]
    assert problems == [
        "half-2/replays-b.safetensors: it holds no replays of a sample.",
        "half-2/replays-c.safetensors: it is a link: copy the file here instead.",
    ]


def test_a_half_run_calibration_has_the_name_that_the_user_gave_it(tmp_path):
    """Unless the folder has another name since, or what it tells is none."""
    from lemica.calibration.job_folder import JobFolder, folder_name

    for name in ("Test 1", "test-1"):
        job = JobFolder(tmp_path / folder_name(name), {}, 3, name)
        job.open(), job.close()
    jobs, _ = half_run(tmp_path, ())
    assert sorted(job["name"] for job in jobs) == ["Test 1", "test-1"]
    assert len({job["folder"] for job in jobs}) == 2
    folder = tmp_path / folder_name("Test 1")
    for content in ("{", "[]", '{"name": 3}', '{"name": "\\ud800"}', '{"name": "other"}', "{}"):
        (folder / "job.json").write_text(content)
        assert [job["name"] for job in half_run(tmp_path, ())[0]] == ["test-1", "test-1"], content
