"""What the routes show, on a running server: library, plan, calibration, solved paths."""

from __future__ import annotations

import gzip
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from route_requests import ODD_NAMES, OURS, files, get, make_graph, post, post_at_once, schedule, send, user_folder
from test_calibration_store import OVERFLOWING, tensors_file


@pytest.fixture
def user(server) -> Iterator[Path]:
    """The pack's folder in the user's directory."""
    yield from user_folder(server)


def plan(server, **changed):
    body = {
        "family": "lemica-demo", "steps": 6, "sigmas": None, "preset": "medium", "budget": 3, "schedule": "auto",
        "rule": "as scheduled", **changed,
    }
    return post(server, "plan", body)


def solve(server, **changed):
    return post(server, "solve", {"calibration": "measured", "budget": 3, **changed})


def test_the_library_lists_everything_and_says_what_is_left_out(server, user):
    job = user / "calibrations" / "half-12345678"
    job.mkdir()
    (job / "job.json").write_text("{}")
    (job / "run-1.safetensors").write_bytes(b"full run")
    (job / "replays-1.safetensors").write_bytes(b"broken")
    (user / "schedules" / "broken.json").write_text("{")
    (user / "calibrations" / "broken.safetensors").write_text("{")
    shown = get(server, "library").json
    assert {"key": "lemica-demo", "title": "LeMiCa demo (tiny Wan 2.1)"} in shown["families"]
    mine = shown["schedules"][0]
    assert mine == {
        "name": "mine", "family": "lemica-demo", "steps": 6, "budget": 3, "computed": [0, 2, 4],
        "rules": ["output hold"] * 3, "weights": [], "origin": "custom", "own": True, "source": {"by": "hand"},
    }
    assert len(shown["schedules"]) > 20 and not any(one["own"] for one in shown["schedules"][1:])
    assert shown["calibrations"] == [{
        "name": "measured", "family": "lemica-demo", "steps": 6, "mode": "exact", "metric": "l1",
        "rules": ["output hold"], "samples": 2, "longest": 6, "file": "wan_tiny.safetensors", "patches": "",
        "imported": False,
    }]
    assert shown["jobs"] == [{"folder": "half-12345678", "name": "half", "samples": 1, "replays": 0}]
    assert [line.partition(":")[0] for line in shown["problems"]] == [
        "broken.json", "broken.safetensors", "half-12345678/replays-1.safetensors",
    ]


def test_a_file_that_cannot_be_read_is_named_without_its_path(server, user):
    (user / "schedules" / "loop.json").symlink_to("loop.json")
    (user / "calibrations" / "loop.safetensors").symlink_to("loop.safetensors")
    answer = get(server, "library")
    assert [line.partition(":")[0] for line in answer.json["problems"]] == ["loop.json", "loop.safetensors"]
    assert str(server.user).encode() not in answer.content


NODES = {"LeMiCa", "LeMiCaSolve", "LeMiCaCalibrate", "LeMiCaReport"}


def test_no_file_takes_the_nodes_or_the_routes_away(server, user):
    """Headers with shapes that no array can have, in a calibration and in the sample of a job; and what is no file."""
    content = tensors_file({"lemica_error_graph": "{}"}, **OVERFLOWING)
    (user / "calibrations" / "huge.safetensors").write_bytes(content)
    job = user / "calibrations" / "half-12345678"
    job.mkdir()
    (job / "job.json").write_text("{}")
    (job / "run-1.safetensors").write_bytes(tensors_file({"lemica_sample": "{}"}, final=OVERFLOWING["errors"]))
    (job / "replays-1.safetensors").write_bytes(tensors_file({"lemica_sample": "{}"}, replayed=OVERFLOWING["errors"]))
    (user / "calibrations" / "folder.safetensors").mkdir()
    (user / "schedules" / "folder.json").mkdir()
    told = get(server, "library").json["problems"]
    assert [line.partition(":")[0] for line in told] == [
        "folder.json", "folder.safetensors", "huge.safetensors", "half-12345678/replays-1.safetensors",
    ]
    assert NODES <= server.object_info().keys()
    assert plan(server).status == 200 and solve(server).status == 200
    assert post(server, "save", {"schedule": schedule(), "name": "new"}).status == 200


@pytest.mark.parametrize("kind", ["schedules", "calibrations"])
def test_a_folder_that_cannot_be_read_takes_nothing_away(server, user, kind):
    (user / kind).rename(user / "kept")
    (user / kind).symlink_to(kind)
    assert f"{kind}: the folder cannot be read, " in " ".join(get(server, "library").json["problems"])
    assert NODES <= server.object_info().keys()
    assert plan(server).status == 200


def test_every_route_is_there_under_api_as_well(server, user):
    assert send(server, "/api/lemica/library").json == get(server, "library").json
    assert send(server, "/api/lemica/jobs").json == {"running": []}


def test_a_family_that_only_the_user_has_is_listed_and_can_be_planned(server, user):
    post(server, "save", {"schedule": schedule(family="wan21-0a1b2c3d"), "name": "theirs"})
    assert {"key": "wan21-0a1b2c3d", "title": "wan21-0a1b2c3d"} in get(server, "library").json["families"]
    assert plan(server, family="wan21-0a1b2c3d", preset="custom", budget=2).json["family"] == "wan21-0a1b2c3d"


def test_a_plan_is_what_the_node_would_run(server, user):
    sigmas = list(make_graph().sigmas)
    planned = plan(server, preset="custom", budget=4, sigmas=sigmas).json
    assert planned["name"] == "measured/6b4" and planned["origin"] == "predicted" and planned["budget"] == 4
    assert planned["note"].startswith("solved from calibration measured for 4 of 6 steps")
    assert "sigmas of" not in planned["note"]
    assert planned["speedup"] == pytest.approx(6 / (4 + 2 * 0.01))
    named = plan(server, schedule="mine", rule="residual linear").json
    assert named["computed"] == [0, 2, 4] and named["rules"] == ["residual linear"] * 3
    assert named["speedup"] == pytest.approx(6 / (3 + 3 * 0.06))
    published = plan(server, family="wan2.1-t2v-14b", steps=50).json
    assert published["name"] == "wan2.1-t2v-14b/b20" and published["origin"] == "published"
    assert published["note"].endswith("; for the sigmas of flow shift 5")
    assert "flow shift" not in plan(server, steps=5, sigmas=[1.0, 0.9, 0.7, 0.4, 0.1, 0.0]).json["note"]


def test_without_a_family_a_plan_is_estimated(server, user):
    planned = plan(server, family=None, steps=40).json
    assert planned["origin"] == "estimated" and planned["budget"] == 18 and planned["computed"][0] == 0
    assert plan(server, family=None, steps=1).json["computed"] == [0]


def test_sigmas_that_carry_no_schedule_plan_every_step(server, user):
    planned = plan(server, steps=3, sigmas=[1.0, 0.5, 0.5, 0.0]).json
    assert planned["computed"] == [0, 1, 2] and planned["note"].startswith("computing every step: ")


@pytest.mark.parametrize(
    "changed, status, told",
    [
        ({"family": "no-such"}, 404, "no-such"),
        ({"family": 3}, 400, "family"),
        ({"steps": None}, 400, "steps is missing"),
        ({"steps": 0}, 400, "1 to 10000"),
        ({"steps": 10**9}, 400, "1 to 10000"),
        ({"steps": 6.0}, 400, "whole number"),
        ({"sigmas": [1, 0.5, 0]}, 400, "7 numbers"),
        ({"sigmas": [1, 0.9, 0.8, 0.7, 0.6, "x", 0]}, 400, "7 numbers"),
        ({"sigmas": "long"}, 400, "7 numbers"),
        ({"preset": "warp"}, 400, "slow, medium, fast, ultra, custom"),
        ({"preset": ["slow"]}, 400, "slow, medium"),
        ({"preset": "custom", "budget": None}, 400, "budget is missing"),
        ({"preset": "custom", "budget": 7}, 400, "1 to 6"),
        ({"schedule": "nobody"}, 404, "nobody"),
        ({"rule": "guess"}, 400, "guess"),
        ({"rule": {}}, 400, "rule"),
    ],
)
def test_a_plan_of_nothing_sensible_is_refused(server, user, changed, status, told):
    answer = plan(server, **changed)
    assert answer.status == status and told in answer.error


def test_a_calibration_is_shown_with_its_cells_and_its_curve(server, user):
    shown = get(server, "calibration", name="measured").json
    graph = make_graph()
    assert shown["sigmas"] == list(graph.sigmas) and shown["steps"] == 6
    assert shown["samples"] == [{"prompt": "a cat", "seed": 1}, {"prompt": "a dog", "seed": 2}]
    assert [cell[:2] for cell in shown["cells"]] == graph.segments[:, 1:3].tolist()
    assert [cell[2] for cell in shown["cells"]] == graph.mean().tolist()
    assert [cell[3] for cell in shown["cells"]] == graph.worst().tolist()
    assert [point["budget"] for point in shown["curve"]] == [1, 2, 3, 4, 5, 6]
    assert shown["curve"][-1] == {"budget": 6, "worst": 0.0, "total": 0.0, "speedup": 1.0}
    assert shown["curve"][2]["worst"] == solve(server).json["worst"]
    assert set(shown["presets"]) == {"slow", "medium", "fast", "ultra"}


def test_a_path_is_solved_with_all_its_options(server, user):
    solved = solve(server).json
    assert set(solved) == {"computed", "rules", "errors", "worst", "total", "speedup", "budget", "steps", "measured"}
    assert solved["budget"] == len(solved["computed"]) == len(solved["rules"]) == len(solved["errors"]) == 3
    assert solved["worst"] == max(solved["errors"]) and solved["speedup"] == pytest.approx(6 / 3.03)
    fixed = solve(server, fixed=[5], reused=[1, 2], tail=False, rule="output hold", objective="shortest").json
    assert 5 in fixed["computed"] and not {1, 2} & set(fixed["computed"])
    assert fixed["total"] >= solve(server, objective="shortest").json["total"]


def test_the_curve_of_the_options_comes_along_when_asked(server, user):
    solved = solve(server, budget=1, fixed=[3, 4], curve=True).json
    assert solved["budget"] == 3 and [point["budget"] for point in solved["curve"]] == [3, 4, 5, 6]
    assert solved["curve"][0] == {key: solved[key] for key in ("budget", "worst", "total", "speedup")}


def test_a_budget_without_a_path_names_the_nearest(server, user):
    answer = solve(server, budget=1, fixed=[3, 4])
    assert answer.status == 400 and "3" in answer.error and answer.json["nearest"] == [3]


@pytest.mark.parametrize(
    "changed, status, told",
    [
        ({"calibration": "nobody"}, 404, "nobody"),
        ({"calibration": None}, 400, "calibration is missing"),
        ({"budget": "3"}, 400, "budget"),
        ({"budget": True}, 400, "budget"),
        ({"budget": 0}, 400, "1 to 6"),
        ({"rule": "output linear"}, 400, "output hold"),
        ({"rule": "guess work"}, 400, "guess"),
        ({"objective": "best"}, 400, "minimax, shortest"),
        ({"tail": "yes"}, 400, "tail"),
        ({"fixed": 3}, 400, "fixed"),
        ({"fixed": [[1]]}, 400, "fixed"),
        ({"fixed": [6]}, 400, "0 to 5"),
        ({"reused": [0]}, 400, "Step 0"),
        ({"reused": [True]}, 400, "reused"),
    ],
)
def test_a_path_that_cannot_be_solved_is_refused(server, user, changed, status, told):
    answer = solve(server, **changed)
    assert answer.status == status and told in answer.error


@pytest.mark.parametrize("route", ["plan", "solve", "save", "rename", "delete", "merge"])
@pytest.mark.parametrize(
    "content, status",
    [
        (b"", 400), (b"{", 400), (b"[]", 400), (b"null", 400), (b'"x"', 400), (b'{"steps": NaN}', 400),
        (b"\xff\xfe\x00", 400), (b"[" * 100_000, 400), (b'{"steps": ' + b"9" * 5000 + b"}", 400),
        (b" " * (2 << 20), 413), (b"{}", 400),
    ],
)
def test_a_body_that_is_none_is_refused(server, user, route, content, status):
    before = files(user)
    answer = send(server, f"/lemica/{route}", content)
    assert answer.status == status and answer.error
    assert files(user) == before


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x", "gzip, gzip"])
@pytest.mark.parametrize("route", ["plan", "save", "delete", "import"])
def test_a_body_that_cannot_be_decoded_is_refused(server, user, route, encoding):
    before = files(user)
    kind = {"Content-Type": "multipart/form-data; boundary=edge"} if route == "import" else {}
    for content in (b"{}", b"\x1f\x8b\x08\x00" + b"x" * 40, gzip.compress(b"{}" * 99)[:-4]):
        headers = {**OURS, **kind, "Content-Encoding": encoding}
        assert post_at_once(server, f"/lemica/{route}", content, headers) == 400
    assert files(user) == before and get(server, "library").status == 200


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_unknown_and_give_nothing_away(server, user, name):
    answers = [get(server, "calibration", name=name), solve(server, calibration=name), plan(server, schedule=name)]
    assert {answer.status for answer in answers} <= ({400} if len(name) > 1000 else {404})
    for answer in answers:
        assert answer.error and len(answer.content) < 8000 and str(server.user).encode() not in answer.content


def test_a_query_without_a_name_is_refused(server, user):
    assert get(server, "calibration").status == 400
    assert "name is missing" in get(server, "calibration").error


@pytest.mark.parametrize("headers", [{"Origin": "http://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_requests_from_other_sites_are_turned_away_like_those_to_comfyui_itself(server, user, headers):
    before = files(user)
    for path, content in (
        ("/queue", None), ("/lemica/library", None), ("/api/lemica/library", None),
        ("/lemica/delete", b'{"kind": "schedule", "name": "mine"}'),
    ):
        assert send(server, path, content, headers).status == 403
    assert files(user) == before
    assert send(server, "/lemica/library", headers={"Origin": server.url}).status == 200


def test_methods_that_a_route_has_not_are_refused(server, user):
    assert send(server, "/lemica/library", b"{}").status == 405
    assert send(server, "/lemica/delete?kind=schedule&name=mine").status in (404, 405)
    assert get(server, "library").json["schedules"][0]["name"] == "mine"


def test_errors_too_large_to_add_up_are_refused(server, user):
    from lemica.calibration.store import Calibrations

    graph = make_graph()
    Calibrations(user / "calibrations").save("huge", make_graph(errors=graph.errors * 0 + 1e308))
    assert "too large" in get(server, "calibration", name="huge").error
    assert "too large" in solve(server, calibration="huge").error


def test_a_large_graph_is_solved_at_once_when_it_is_asked_again(server, user):
    from lemica.calibration.store import Calibrations

    Calibrations(user / "calibrations").save("large", make_graph(50, 20))
    solve(server, calibration="large", budget=10)
    seconds = []
    for budget in range(10, 40):
        begin = time.perf_counter()
        assert len(solve(server, calibration="large", budget=budget).json["computed"]) == budget
        seconds.append(time.perf_counter() - begin)
    assert statistics.median(seconds) < 0.1


def test_a_calibration_tells_the_budgets_of_the_presets(server, user):
    presets = get(server, "calibration", name="measured").json["presets"]
    assert list(presets) == ["slow", "medium", "fast", "ultra"]
    assert list(presets.values()) == sorted(presets.values(), reverse=True)


ORDER = {"steps": 8, "samples": 4, "tries": 1, "longest": 0, "mode": "short", "rules": "output"}


def test_the_cost_of_a_calibration_is_what_the_job_would_count(server, user):
    cost = post(server, "cost", ORDER).json
    assert cost["text"].startswith("about ") and cost["full_runs"] == cost["steps"] / 8
    known = post(server, "cost", {**ORDER, "family": "lemica-demo"}).json
    assert known["steps"] == 4 * (8 + 5 + 3 + 2)
    assert known["text"].startswith("about 9.0 full runs (72 model steps)")
    costs = {
        mode: post(server, "cost", {**ORDER, "mode": mode}).json["steps"]
        for mode in ("short", "normal", "exact", "quick", "standard")
    }
    assert costs["short"] < costs["normal"] < costs["exact"]
    assert (costs["quick"], costs["standard"]) == (costs["short"], costs["normal"])
    residual = post(server, "cost", {**ORDER, "mode": "exact", "rules": "output and residual"}).json["steps"]
    assert residual > costs["exact"]


KEPT = {
    "name": "begun", "tries": 1, "seed": 5, "seeds": 1, "connected": 0, "prompts": ["a cat"], "steps": 6, "longest": 3,
    "mode": "short", "rules": "output", "metric": "l1", "setup": {"sampler": "euler"},
}


@pytest.fixture
def begun(user):
    """The folder of a calibration of one sample: its full run, a fit, two replays; it ended in mode short."""
    import numpy as np
    from lemica.calibration import Sample, all_segments
    from lemica.calibration.estimate import replayed_edges
    from lemica.calibration.fit_folder import Fit, FitFolder
    from lemica.calibration.full_run import FullRun, Measured
    from lemica.calibration.job_folder import folder_name, sample_id
    from lemica.schedules import FIXED

    rules = [rule for rule in FIXED if rule.target == "output"]
    segments = all_segments(6, 3, rules)
    identity = {
        "sigmas": list(make_graph().sigmas), "longest": 3, "metric": "l1", "rules": list(map(str, rules)),
        "setup": {"sampler": "euler"},
    }
    folder = FitFolder(user / "calibrations" / folder_name("begun"), identity, len(segments), "begun")
    folder.open()
    final, derivatives = np.ones(2, dtype=np.float32), np.ones((1, 6, 2), dtype=np.float32)
    full = FullRun(Sample("a cat", 5), "c0", final, derivatives, np.ones((6, 6)))
    replayed = np.full(len(segments), np.nan)
    for end in (2, 5):
        edge = next(edge for edge in replayed_edges(segments) if segments[edge, 2] == end)
        replayed[edge] = 0.5
    folder.save(full)
    folder.save_replayed(Measured(full, replayed))
    folder.save_fit(folder.fit_key((0, 2, 4), [full]), Fit(((1.0,),) * 3, {sample_id(full.sample, full.conds): 0.5}))
    folder.finish({"mode": "short", "safe": True, "samples": [[5, "a cat"]]})
    folder.close()
    return folder.path


def test_what_is_kept_of_a_calibration_is_told_before_it_is_queued(server, begun):
    def kept(**changed) -> dict:
        answer = post(server, "kept", {**KEPT, **changed})
        assert answer.status == 200, answer.error
        return answer.json

    done = {"name": "begun", "steps": 6 + 3, "finished": True, "different": []}
    assert kept() == kept(safe=True) == kept(mode="quick") == kept(connected=1, prompts=[]) == kept(tries=24) == done
    unfinished = {**done, "finished": False}
    assert kept(safe=False) == kept(mode="normal") == kept(mode="standard") == kept(seeds=2) == unfinished
    assert kept(mode="exact") == kept(mode="exact", tries=0) == {**unfinished, "steps": (6 - 2) + (6 - 5)}
    assert kept(prompts=["a dog"]) == kept(seed=6) == {**unfinished, "steps": 0}
    assert kept(name="not begun") == {"name": "not begun", "steps": 0, "finished": False, "different": []}
    other = kept(metric="l2", setup={"sampler": "dpmpp_2m"}, steps=8)
    assert other == {"name": "begun", "steps": 0, "finished": False, "different": ["metric", "steps", "sampler"]}


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"mode": "slow"}, "short, normal, exact"), ({"safe": "yes"}, "true or false"), ({"seeds": 0}, "1 to"),
        ({"tries": -1}, "0 to"), ({"prompts": []}, "number of prompts"), ({"prompts": "a cat"}, "list of texts"),
        ({"setup": [1]}, "an object"), ({"name": 3}, "name"), ({"metric": "fid"}, "l1"), ({"rules": "x"}, "and residual"),
    ],
)
def test_a_question_about_nothing_sensible_is_refused(server, user, changed, told):
    answer = post(server, "kept", {**KEPT, **changed})
    assert answer.status == 400 and told in answer.error


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"steps": 1}, "2 to 1000"), ({"steps": 10**6}, "2 to 1000"), ({"samples": 0}, "1 to"), ({"tries": -1}, "0 to"),
        ({"longest": 9}, "2 to 8"), ({"longest": 1}, "2 to 8"), ({"mode": "slow"}, "short, normal, exact"),
        ({"rules": "x"}, "output and residual"), ({"rules": "residual"}, "set effort to exact"),
    ],
)
def test_a_cost_of_nothing_sensible_is_refused(server, user, changed, told):
    answer = post(server, "cost", {**ORDER, **changed})
    assert answer.status == 400 and told in answer.error
