"""The LeMiCa Solve node, on a running ComfyUI server with the demo model."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from calibration_prompts import STEPS, Watched, basic_run, calibrate, demo_models, files, saved, schedule, solve, watch


@pytest.fixture(scope="module")
def demo(server) -> list[dict]:
    """Two of the demo model's prompts as nodes."""
    return demo_models(server)


@pytest.fixture(scope="module")
def basic(server) -> Iterator[Watched]:
    """A calibration and a solved schedule; the server's user has none of them afterwards."""
    yield basic_run(server)
    shutil.rmtree(server.user / "lemica")


def test_a_budget_is_solved_from_the_graph_and_saved(server, basic):
    from lemica.calibration import solve as solved

    made = schedule(server, f"basic/{STEPS}b4 minimax")
    graph = saved(server, "basic")
    assert made.computed == solved(graph.edges(), STEPS, 4).computed
    assert made.source["calibration"] == "basic" and made.source["objective"] == "minimax"
    assert made.source["samples"] == 1 and made.sigmas == graph.sigmas
    assert basic.outputs["solve"]["images"] and made.name in basic.text("solve")


def test_a_saved_calibration_is_solved_by_name_and_again_when_it_was_made_again(server, demo, basic):
    prompt = {"solve": solve(calibration="basic", preset="ultra", objective="shortest path", save=False)}
    first = watch(server, prompt)
    assert first.ran == ["solve"] and "2 of 8 steps computed, shortest path" in first.text("solve")
    assert "Saved" not in first.text("solve")
    assert watch(server, prompt).ran == []
    watch(server, {"model": demo[0], "calibrate": calibrate(name="basic", negative_prompt="made again")})
    assert watch(server, prompt).ran == ["solve"]


def test_predicted_and_measured_errors_are_told_under_their_names(server, basic):
    measured = {"solve": solve(calibration="basic", preset="custom", budget=3, save=False)}
    assert "Predicted l2 error of a segment: worst " in (told := watch(server, measured).text("solve"))
    assert f"Measured error of another path of this budget, basic/{STEPS}b3: mean " in told
    unmeasured = {"solve": solve(calibration="basic", preset="custom", budget=6, save=False)}
    assert "It was not measured as a whole." in watch(server, unmeasured).text("solve")


@pytest.mark.parametrize(
    "changed, told",
    [
        ({}, "connect an error graph"),
        ({"calibration": "basic", "preset": "custom", "budget": 9}, "from 1 to 8"),
        ({"calibration": "basic", "preset": "custom", "budget": 1, "compute_last": True}, "nearest budget"),
        ({"calibration": "basic", "rules": "residual linear"}, "output hold, output half, output linear"),
        ({"calibration": "basic", "name": "lemica-demo/30b18"}, "packaged"),
        ({"calibration": "basic", "name": "auto"}, "'auto' is in use"),
        ({"calibration": "basic", "name": "linked"}, "'linked' is in use"),
    ],
)
def test_what_cannot_be_solved_is_told(server, basic, changed, told):
    before = files(server)
    assert told in watch(server, {"solve": solve(**changed)}).error
    assert files(server) == before


def test_a_calibration_that_does_not_exist_is_refused(server, basic):
    request = urllib.request.Request(
        f"{server.url}/prompt", json.dumps({"prompt": {"solve": solve(calibration="gone")}}).encode(),
        {"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)
    assert "gone" in error.value.read().decode()
