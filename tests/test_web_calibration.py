"""Calibrate LeMiCa, LeMiCa Solve and LeMiCa Report on ComfyUI's page, in Chromium."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from chromium import FRONTENDS, drive

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = ROOT / "example_workflows"
STEPS = 8
NAME = "page"
SYNTHETIC = ("synthetic-50", "synthetic-200")
SOLVE_ALONE = {
    "last_node_id": 1, "last_link_id": 0, "links": [], "groups": [], "config": {}, "extra": {}, "version": 0.4,
    "nodes": [
        {
            "id": 1, "type": "LeMiCaSolve", "pos": [100, 100], "size": [440, 300], "flags": {}, "order": 0, "mode": 0,
            "inputs": [], "outputs": [], "properties": {},
            "widgets_values": ["linked", "medium", 15, "minimax", "best per segment", False, "", True],
        }
    ],
}


@pytest.fixture(scope="module", params=FRONTENDS)
def page(request) -> Iterator:
    """The server, with nothing of ours in the user's folder before and after."""
    server = request.getfixturevalue(request.param)
    server.pictures.mkdir(exist_ok=True)
    shutil.rmtree(server.user / "lemica", ignore_errors=True)
    yield server
    shutil.rmtree(server.user / "lemica", ignore_errors=True)


@pytest.fixture(scope="module")
def calibrated(page) -> dict:
    """What the page showed of a calibration."""
    return drive(
        "calibrate.mjs", page.url, workflow=WORKFLOWS / "calibrate.json", name=NAME, steps=STEPS, shots=page.pictures
    )


@pytest.fixture(scope="module")
def solved(page, calibrated) -> dict:
    """What the page showed of LeMiCa Solve, and of the run with what it saved."""
    from lemica.calibration.store import Calibrations

    store = Calibrations(page.user / "lemica" / "calibrations")
    store.save(SYNTHETIC[0], synthetic(50, 12, ("output hold", "output linear")))
    store.save(SYNTHETIC[1], synthetic(200, 24, ("output hold",)))
    return drive(
        "solve.mjs", page.url, alone=SOLVE_ALONE, synthetic=SYNTHETIC, calibration=NAME, budget=4, steps=STEPS,
        compare=WORKFLOWS / "compare.json", shots=page.pictures,
    )


@pytest.fixture(scope="module")
def reported(page) -> dict:
    """What the page showed of LeMiCa Report."""
    return drive("report.mjs", page.url, compare=WORKFLOWS / "compare.json", steps=STEPS, shots=page.pictures)


def synthetic(steps: int, longest: int, rules: tuple[str, ...]):
    """An error graph that looks like a measured one."""
    from route_requests import make_graph

    graph = make_graph(steps, longest, rules)
    _, start, end, rule = graph.segments.T
    length, at = end - start, start / steps
    shape = 0.2 / steps * (length - 1) ** 1.6 * (0.25 + 6 * np.exp(-9 * at) + 3 * np.exp(-14 * (1 - at)))
    slope = np.where(rule == 0, 1.0, 0.55 + 0.7 * (at - 0.5) ** 2 + 0.02 * length)
    noise = np.exp(0.25 * np.random.default_rng(steps).standard_normal((2, len(start))))
    return make_graph(steps, longest, rules, errors=shape * slope * noise)


def test_a_calibration_is_estimated_and_its_map_fills_in_while_it_runs(calibrated):
    before, begun, running = calibrated["before"], calibrated["begun"], calibrated["running"]
    assert before["hint"] and not before["map"] and not before["progress"]
    assert before["hinted"].startswith("About ") and "full runs" in before["hinted"]
    assert begun["progress"] and begun["name"] == NAME
    assert running["map"] and not running["curve"] and running["headline"].endswith("left")
    assert "model step" in running["detail"]
    assert running["coloured"] > 0 and calibrated["done"]["coloured"] > 0
    assert 0 < calibrated["told"][0] < calibrated["told"][-1], "every event brings some cells, no event all of them"


def test_an_effort_of_an_earlier_version_is_shown_as_what_does_its_work_now(calibrated):
    assert calibrated["effort"] == "normal"


def test_a_stopped_calibration_goes_on_where_it_was(calibrated):
    stopped, resumed, done = calibrated["stopped"], calibrated["resumed"], calibrated["done"]
    assert stopped["headline"] == "Stopped" and "queue again" in stopped["detail"] and stopped["coloured"] > 0
    assert resumed["map"] and resumed["progress"]
    assert calibrated["error"] is None
    assert done["curve"] and not done["progress"] and int(done["budget"]) in range(1, STEPS + 1)
    assert calibrated["solver"] == done["budget"], "the solve node that is linked shows the same calibration"


def test_a_fresh_page_says_what_is_kept_of_a_calibration(calibrated):
    kept, finished = calibrated["kept"], calibrated["finished"]
    assert re.search(r"^\d+ of at most \d+ model steps are kept: .* goes on where it stopped\.$", kept["hinted"])
    assert kept.get("name") is None, "the page is fresh"
    assert finished["hinted"].startswith("Finished: ") and "takes a moment" in finished["hinted"]
    assert finished.get("name") is None and finished["curve"] and finished["budget"] == calibrated["done"]["budget"]
    assert f"a calibration {NAME} with another cfg: give this one another name" in calibrated["other"]["hinted"]


def test_a_cell_is_told_by_keys_and_by_the_mouse(calibrated):
    assert len(set(calibrated["words"])) >= 3
    for words in (*calibrated["words"], calibrated["hovered"]):
        assert words.startswith("compute step ") and "error" in words and "worst" in words


def test_a_calibration_is_there_after_a_reload_and_in_both_renderers(calibrated):
    kept = ("map", "curve", "budget", "numbers", "name")
    done = {key: calibrated["done"][key] for key in kept}
    for again in (calibrated["reloaded"], calibrated["vue"]):
        assert {key: again[key] for key in kept} == done and again["coloured"] > 0
    assert calibrated["vueBox"]["width"] > 300 and calibrated["vueBox"]["height"] >= 500


def test_the_labels_of_the_map_follow_the_theme(calibrated):
    assert calibrated["ink"] > 0


def test_the_page_stays_smooth_while_a_calibration_reports(calibrated):
    """While one computes on the same cores it is only told; drawing alone, of 200 steps, is held to the page at rest."""
    print({kind: calibrated[kind] for kind in ("idle", "busy", "quiet", "flooded")})
    assert calibrated["flooded"]["perSecond"] > 0.4 * calibrated["quiet"]["perSecond"]


def test_the_slider_moves_path_numbers_and_widgets(solved):
    opened, keyed, rushed = solved["opened"], solved["keyed"], solved["rushed"]
    assert opened["budget"] == 23 and opened["preset"] == "medium" and opened["widget"] == 15
    assert keyed["budget"] == keyed["widget"] == rushed["last"] - 1 and keyed["preset"] == "custom"
    assert keyed["caption"] == f"budget {keyed['budget']} of 50" and keyed["numbers"] != opened["numbers"]


def test_a_new_solver_is_as_wide_as_its_map(solved):
    assert solved["width"] >= 440


def test_of_many_moves_the_last_one_wins_with_few_requests(solved):
    rushed = solved["rushed"]
    assert rushed["budget"] == rushed["last"] and rushed["requests"] <= 5


def test_a_move_of_the_slider_is_drawn_soon(solved):
    for name, times in solved["times"].items():
        middle = sorted(times)[len(times) // 2]
        print(f"{name}: {middle:.0f} ms, at most {max(times):.0f}")
        assert len(times) >= 5 and middle < 500


def test_widgets_move_the_slider(solved):
    assert solved["preset"]["budget"] == 18 and solved["preset"]["caption"] == "budget 18 of 50"
    shortest = solved["shortest"]
    assert shortest["curve"] != solved["preset"]["curve"]
    assert "computed0 " in shortest["numbers"] and shortest["numbers"].endswith("49")
    assert "has not measured residual half" in solved["refused"]["message"] and solved["refused"]["budget"] == 0


def test_a_saved_preset_is_what_the_lemica_node_runs(page, solved):
    from lemica.schedules import Library

    saved = Library(ROOT / "schedules" / "library", page.user / "lemica" / "schedules").get(f"{NAME}/fast")
    assert saved.source["preset"] == "fast" and saved.budget == 4
    assert solved["saved"]["message"].startswith("Saved") and "fast · 4" in solved["saved"]["saves"]
    assert solved["error"] is None
    (report,) = solved["reports"]
    assert report["schedule"] == f"{NAME}/fast" and tuple(report["computed"]) == saved.computed


def test_before_saving_the_page_says_what_changes_for_which_steps(solved):
    for told in (solved["foretold"], solved["focused"]):
        assert re.fullmatch(
            rf"fast: 4 of {STEPS} instead of {NAME}/{STEPS}b3 \(3 of {STEPS}, calibrated\), for these steps only\..*",
            told["message"],
        )
        assert "fast" in told["saves"]
    assert "other step counts are resampled" in solved["forAll"]["message"] and "fast · 4" in solved["forAll"]["saves"]
    assert "these steps only" in solved["saved"]["message"]


def test_a_save_is_undone_on_the_page(page, solved):
    from lemica.schedules import Library

    assert solved["forAll"]["undo"] == "Undo saving fast" and solved["undone"]["undo"] == ""
    assert solved["undone"]["library"] == [] and solved["undone"]["saves"] == solved["foretold"]["saves"]
    saved = Library(ROOT / "schedules" / "library", page.user / "lemica" / "schedules").get(f"{NAME}/fast")
    assert saved.source["scope"] == "these steps" and saved.origin == "predicted"


def test_predicted_and_measured_errors_stand_under_their_names(solved, calibrated):
    assert any(figure.startswith("predictedworst ") for figure in solved["opened"]["figures"])
    assert not any(figure.startswith("measured") for figure in solved["opened"]["figures"])
    assert "measuredmean " in calibrated["done"]["numbers"] and ", worst " in calibrated["done"]["numbers"]


def test_a_solver_is_there_after_a_reload_and_in_both_renderers(solved):
    kept = ("shown", "budget", "caption", "numbers", "saves", "preset", "widget", "calibration")
    saved = {key: solved["saved"][key] for key in kept}
    for again in (solved["reloaded"], solved["vue"]):
        assert {key: again[key] for key in kept} == saved
    assert solved["vueBox"]["width"] > 300 and solved["vueBox"]["height"] >= 500


def test_a_report_shows_its_table_and_both_frames(reported):
    done = reported["done"]
    assert reported["error"] is None and done["shown"] and done["different"]
    assert done["table"][0] == ["", "all frames", "worst frame"] and done["table"][1][0] == "PSNR"
    assert done["notes"].startswith("9 frames of 64x64 pixels") and done["sizes"] == [[64, 64]] * 2
    assert done["pictures"] == 0, "the picture would show the same frames again"


def test_the_divider_moves_by_keys_and_by_the_mouse(reported):
    assert (reported["done"]["now"], reported["keyed"]["now"], reported["dragged"]["now"]) == ("50", "38", "55")
    assert reported["last"]["frame"].startswith("frame 9: PSNR")


def test_a_report_is_there_after_a_reload_and_in_both_renderers(reported):
    for again in (reported["reloaded"], reported["vue"]):
        assert again["shown"] and again["table"] == reported["done"]["table"]
        assert again["sizes"] == [[64, 64]] * 2


@pytest.mark.parametrize("shown", ["calibrated", "solved", "reported"])
def test_nothing_of_ours_complains_in_the_console(request, page, shown):
    assert request.getfixturevalue(shown)["problems"] == []
