"""The LeMiCa node on ComfyUI's page, in Chromium: its strip before, during and after a run, and what keeps its values."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import FRONTENDS, drive

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = ROOT / "example_workflows" / "demo_video.json"
STEPS = 30
BUDGETS = {"medium": 13, "fast": 10, "ultra": 8}
"""Of the packaged schedules of the demo model."""
INPUTS = ["preset", "budget", "schedule", "rule", "cache_device", "steps", "learn"]


@pytest.fixture(scope="module", params=FRONTENDS)
def page(request) -> Iterator:
    """The server, with nothing of ours in the user's folder before and after."""
    server = request.getfixturevalue(request.param)
    shutil.rmtree(server.user / "lemica", ignore_errors=True)
    server.pictures.mkdir(exist_ok=True)
    yield server
    shutil.rmtree(server.user / "lemica", ignore_errors=True)


@pytest.fixture(scope="module")
def ran(page) -> dict:
    """From the search to the measured speed-up, on the classic canvas."""
    return drive("node_run.mjs", page.url, workflow=WORKFLOW, pictures=page.pictures)


@pytest.fixture(scope="module")
def custom(page) -> dict:
    """Steps chosen by hand, and what keeps them, on the classic canvas."""
    return drive("node_custom.mjs", page.url, workflow=WORKFLOW, pictures=page.pictures)


@pytest.fixture(scope="module")
def vue(page) -> dict:
    """The same in Nodes 2.0."""
    return drive("node_vue.mjs", page.url, workflow=WORKFLOW, pictures=page.pictures)


KSAMPLER = {"steps": STEPS, "sampler_name": "euler", "scheduler": "simple", "denoise": 1}


def sampling(shift: float | None, **changed) -> dict:
    """What the page finds out of the demo's graph."""
    model = [] if shift is None else [{"type": "ModelSamplingSD3", "inputs": {"shift": shift}, "output": 0}]
    return {"model": model, "sigmas": [{"type": "KSampler", "inputs": KSAMPLER | changed, "output": 0}]}


RUNS = {
    "as it is": {"changes": {}, "sampling": sampling(5)},
    "no ModelSamplingSD3": {"changes": {"ModelSamplingSD3": {"mode": 4}}, "sampling": sampling(None)},
    "denoise": {"changes": {"KSampler": {"denoise": 0.5}}, "sampling": sampling(5, denoise=0.5)},
    "shift 8": {"changes": {"ModelSamplingSD3": {"shift": 8}}, "sampling": sampling(8)},
}

NODE = "14"
EVENTS = [
    {"type": "lemica.plan", "data": {
        "node": NODE, "family": "lemica-demo", "name": "x", "steps": 2, "computed": [0], "rules": ["output hold"],
        "origin": "calibrated", "sigmas": [1, 0.5, 0],
    }},
    {"type": "lemica.step", "data": {"node": NODE, "step": 1, "steps": 2, "computed": False}},
    {"type": "lemica.run", "data": {
        "node": NODE, "schedule": "x", "origin": "calibrated", "note": "", "steps": 2, "computed": [0], "speedup": 2.0,
        "doubts": [], "finished": True,
    }},
    {"type": "lemica.calibration", "data": {
        "node": NODE, "name": "c", "state": "running", "stage": "sample 1 of 2", "done": 1, "total": 9, "seconds_left": 3,
    }},
]


@pytest.fixture(scope="module")
def before_and_after(page) -> dict:
    """What the node said before runs that differ in their sigmas, and what they were."""
    return drive("node_plan.mjs", page.url, workflow=WORKFLOW, runs=RUNS)


def packaged(budget: int):
    from lemica.schedules import Library

    return Library(ROOT / "schedules" / "library").get(f"lemica-demo fitted/{STEPS}b{budget}")


def shows_schedule(strip: dict, budget: int) -> None:
    """The strip has a cell for each step, the computed ones filled, and says whose schedule it is."""
    schedule = packaged(budget)
    assert strip["cells"] == STEPS and tuple(strip["computed"]) == schedule.computed
    assert strip["filled"] == strip["computed"], "computed cells are filled, reused ones hollow"
    assert strip["colours"] == len(set(map(str, schedule.rules))), "one colour a rule"
    assert set(strip["legend"]) <= set(map(str, schedule.rules)) and strip["legend"]
    assert (strip["name"], strip["origin"]) == (schedule.name, schedule.origin)
    assert strip["count"] == f"{budget} of {STEPS} computed"
    assert strip["label"].startswith(f"{budget} of {STEPS} steps computed: 0, ")
    assert strip["error"] == ""


def predicted(strip: dict) -> float:
    assert strip["speed"].endswith("× fasterpredicted")
    return float(strip["speed"].split("×")[0])


def measured(strip: dict) -> float:
    """The speed-up that a strip shows; how large it is, a machine with other work does not tell."""
    assert strip["speed"].endswith("× fastermeasured")
    return float(strip["speed"].split("×")[0])


def test_a_node_from_the_search_has_a_strip_that_follows_what_it_is_connected_to(ran):
    searched = ran["searched"]
    assert searched["cells"] > 0 and searched["name"] == "general estimate" and "first runs" in searched["notes"]
    shows_schedule(ran["connected"], BUDGETS["medium"])
    assert ran["strips"] == 1


@pytest.mark.parametrize("preset", BUDGETS)
def test_a_preset_shows_its_schedule_and_predicted_speed_up(ran, preset):
    shows_schedule(ran[preset], BUDGETS[preset])
    assert 1 < predicted(ran[preset]) < STEPS / BUDGETS[preset]


def test_a_choice_is_drawn_at_once(ran):
    times = sorted(ran["times"])
    print(f"{times[len(times) // 2]:.0f} ms, at most {times[-1]:.0f}")
    assert len(times) == 8 and times[len(times) // 2] < 500


def test_a_dragged_budget_is_an_order_for_a_schedule_of_its_own(ran):
    dragged = ran["dragged"]
    assert dragged["budget"] == len(dragged["computed"]) != dragged["before"]
    assert dragged["preset"] == "custom" and dragged["steps"] == ""


def test_a_strip_follows_the_steps_of_the_sampler(ran):
    assert ran["longer"]["cells"] == STEPS + 1
    assert ran["left"]["error"] == "a point is missing" and ran["left"]["speed"] == ""
    assert ran["many"]["cells"] == 120 and ran["many"]["filled"] == ran["many"]["computed"]


def test_a_run_marks_its_steps_and_ends_with_the_measured_speed_up(ran):
    run = ran["run"]
    assert run["error"] is None and run["marked"], "a run of two tenths of a second is told of once or twice"
    assert run["marked"] == sorted(run["marked"]) and run["marked"][-1] < STEPS
    assert run["counted"] == [f"{step} of {STEPS} steps done" for step in run["marked"]]
    shows_schedule(ran["measured"], BUDGETS["fast"])
    assert measured(ran["measured"]) > 0 and "detected LeMiCa demo" in ran["measured"]["notes"]
    assert f"last run: {BUDGETS['fast']} of {STEPS} computed" in ran["ultra"]["notes"]


def by_hand(strip: dict, computed: list[int]) -> None:
    assert strip["computed"] == strip["filled"] == computed and strip["error"] == ""
    assert (strip["name"], strip["origin"]) == ("by hand", "custom")


def with_steps(shown: dict, computed: list[int]) -> None:
    """Strip and widgets have these steps."""
    by_hand(shown, computed)
    assert shown["steps"] == ",".join(map(str, computed)) and shown["budget"] == len(computed)
    assert shown["preset"] == "custom"


def toggled(computed: list[int], step: int) -> list[int]:
    return sorted(set(computed) ^ {step})


@pytest.mark.parametrize("shown", ["custom", "vue"])
def test_a_click_and_a_key_toggle_single_steps(request, page, shown):
    found = request.getfixturevalue(shown)
    step = found["clicked"]["step"]
    clicked = toggled(found["budget"]["computed"], step)
    with_steps(found["clicked"], clicked)
    with_steps(found["keyed"], toggled(clicked, step + 1))
    assert found["clicked"]["focused"] == step and found["keyed"]["focused"] == step + 1


def test_the_first_step_stays_computed(custom):
    assert custom["end"]["focused"] == STEPS - 1 and custom["first"]["focused"] == 0
    with_steps(custom["first"], custom["keyed"]["computed"])


def test_a_screen_reader_is_told_of_every_step(custom):
    computed = custom["first"]["computed"]
    assert custom["roles"] == [
        ["checkbox", str(step in computed).lower(), str(step == 0).lower()] for step in range(STEPS)
    ]


def test_chosen_steps_are_undone_and_redone(custom):
    with_steps(custom["undone"], custom["clicked"]["computed"])
    with_steps(custom["redone"], custom["keyed"]["computed"])


@pytest.mark.parametrize("shown", ["custom", "vue"])
def test_chosen_steps_are_what_runs(request, page, shown):
    found = request.getfixturevalue(shown)
    assert found["run"]["error"] is None and found["run"]["marked"]
    by_hand(found["measured"], found["keyed"]["computed"])
    assert measured(found["measured"]) > 0


def test_the_strip_is_neither_saved_nor_sent(custom):
    values = dict(zip(INPUTS, custom["saved"]["values"], strict=True))
    assert values["preset"] == "custom" and values["steps"] == custom["redone"]["steps"]
    assert set(custom["saved"]["sent"]) == {"model", *INPUTS}


def test_chosen_steps_survive_a_copy_bypass_and_a_reload(custom):
    steps = custom["keyed"]["computed"]
    assert custom["pasted"] == {"nodes": 2, "steps": custom["redone"]["steps"], "family": "lemica-demo"}
    bypassed = custom["bypassed"]
    assert bypassed["failure"] is None
    assert (bypassed["during"], bypassed["mode"], bypassed["reports"]) == (4, 0, 0), "a bypassed node does not run"
    with_steps(bypassed, steps)
    with_steps(custom["reloaded"], steps)


def test_a_node_that_went_into_a_subgraph_keeps_its_steps_and_shows_its_runs(custom):
    steps = custom["keyed"]["computed"]
    with_steps(custom["inSubgraph"], steps)
    assert custom["subgraphRun"]["error"] is None and custom["subgraphRun"]["marked"]
    by_hand(custom["subgraphMeasured"], steps)


def test_a_preset_that_the_subgraph_shows_outside_is_the_one_that_counts(custom):
    shows_schedule(custom["promoted"], BUDGETS["fast"])


def test_steps_that_do_not_fit_are_told_before_a_run_that_computes_every_step(custom):
    refused = custom["refused"]
    assert "Step 90 is chosen, but the run has 30 steps" in refused["error"] and "computes every step" in refused["error"]
    assert refused["computed"] == list(range(STEPS)) and refused["speed"] == ""
    assert custom["ranAnyway"]["failed"] is None
    assert custom["ranAnyway"]["filled"] == [*range(STEPS)]
    assert "computing every step: Computed step 90 is not in a run of 30 steps" in custom["ranAnyway"]["notes"]
    assert custom["reset"]["steps"] == "" and custom["reset"]["error"] == ""


@pytest.mark.parametrize("name", RUNS)
def test_what_the_node_says_before_a_run_is_what_the_run_is(before_and_after, name):
    found = before_and_after[name]
    assert found["error"] is None and found["before"] == found["after"]
    assert "known when it starts" not in found["notes"]


def test_sigmas_that_differ_are_told_apart(before_and_after):
    assert len({str(before_and_after[name]["before"]) for name in RUNS}) >= 3


def test_the_colours_follow_the_theme_of_the_page(before_and_after):
    """Of each rule the first colour of the stylesheet in the light theme, and the second one in the dark theme."""
    css = (ROOT / "web" / "lemica.css").read_text(encoding="utf-8")
    for place, theme in enumerate(("light", "dark")):
        assert before_and_after[theme]
        for rule, colour in before_and_after[theme].items():
            (pair,) = re.findall(rf"\.lemica-rule-{rule.replace(' ', '-')} {{\s*--lemica-rule: light-dark\((.*?)\)", css)
            wanted = pair.split(", ")[place]
            assert colour == f"rgb({int(wanted[1:3], 16)}, {int(wanted[3:5], 16)}, {int(wanted[5:7], 16)})"


def test_a_muted_node_and_the_first_of_two_in_a_row_promise_nothing(custom):
    for shown, note in (("bypassed", "bypassed"), ("muted", "muted"), ("covered", "only the last one")):
        assert custom[shown]["speed"] == "" and note in custom[shown]["notes"]
    for shown in ("unmuted", "second"):
        assert predicted(custom[shown]) > 1


def test_a_page_that_just_opens_knows_every_message_of_ours(page):
    assert drive("messages.mjs", page.url, events=EVENTS)["problems"] == []


def test_a_typed_number_of_steps_is_taken_at_once_in_nodes_2(vue):
    assert (vue["typed24"]["cells"], vue["typed30"]["cells"]) == (24, 30)


def test_nodes_2_shows_the_same(vue):
    shows_schedule(vue["medium"], BUDGETS["medium"])
    shows_schedule(vue["fast"], BUDGETS["fast"])
    assert vue["budget"]["budget"] == len(vue["budget"]["computed"]) == vue["budget"]["before"] + 1
    kept = ("computed", "filled", "speed", "name", "notes")
    assert {key: vue["classic"][key] for key in kept} == {key: vue["measured"][key] for key in kept}


@pytest.mark.parametrize("shown", ["ran", "custom", "vue", "before_and_after"])
def test_nothing_of_ours_complains_in_the_console(request, page, shown):
    assert request.getfixturevalue(shown)["problems"] == []
