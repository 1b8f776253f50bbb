"""What the routes change, on a running server: saving, renaming, deleting, merging."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from route_requests import ODD_NAMES, PACKAGED, files, get, make_graph, post, schedule, upload, user_folder


@pytest.fixture
def user(server) -> Iterator[Path]:
    """The pack's folder in the user's directory."""
    yield from user_folder(server)


def names(server, kind: str) -> list[str]:
    return [one["name"] for one in get(server, "library").json[f"{kind}s"] if kind != "schedule" or one["own"]]


def calibrations(user: Path):
    from lemica.calibration.store import Calibrations

    return Calibrations(user / "calibrations")


def test_a_schedule_is_saved_and_replaced_only_when_asked(server, user):
    changed = {"schedule": schedule(computed=[0, 1, 4]), "name": "mine"}
    assert post(server, "save", changed).status == 409
    assert post(server, "save", {**changed, "replace": True}).json == {"name": "mine"}
    assert get(server, "library").json["schedules"][0]["computed"] == [0, 1, 4]
    assert names(server, "schedule") == ["mine"]


def test_a_budget_is_solved_and_saved(server, user):
    options = {"calibration": "measured", "budget": 3, "objective": "shortest", "tail": False, "fixed": [1]}
    assert post(server, "save", {**options, "name": "solved"}).json == {"name": "solved"}
    (saved,) = (one for one in get(server, "library").json["schedules"] if one["name"] == "solved")
    solved = post(server, "solve", options).json
    assert saved["computed"] == solved["computed"] and saved["rules"] == solved["rules"]
    assert saved["origin"] == "predicted" and saved["source"]["calibration"] == "measured"
    assert saved["source"]["predicted"]["worst"] == solved["worst"]


@pytest.mark.parametrize(
    "changed, status, told",
    [
        ({"name": PACKAGED}, 409, PACKAGED),
        ({"name": PACKAGED, "replace": True}, 409, PACKAGED),
        ({"name": "measured"}, 409, "in use"),
        ({"name": "auto"}, 409, "in use"),
        ({"name": None}, 400, "name is missing"),
        ({"replace": "yes", "name": "mine"}, 400, "replace"),
        ({"calibration": "measured", "budget": 3}, 400, "either"),
        ({"schedule": None}, 400, "either"),
        ({"schedule": [1]}, 400, "schedule is"),
        ({"schedule": schedule(computed=[1, 2])}, 400, "step 0"),
        ({"schedule": schedule(rules=["output hold"])}, 400, "1 rules for 3"),
        ({"schedule": schedule(sigmas=[1, 0])}, 400, "2 sigmas"),
        ({"schedule": schedule(origin="heaven")}, 400, "heaven"),
        ({"schedule": schedule(extra=1)}, 400, "extra"),
        ({"schedule": schedule(source={"text": "x" * 1_040_000})}, 413, "1048576"),
        ({"schedule": {}}, 400, "lacks"),
        ({"schedule": None, "calibration": "nobody", "budget": 3}, 404, "nobody"),
        ({"schedule": None, "calibration": "measured", "budget": 30}, 400, "1 to 6"),
    ],
)
def test_what_cannot_be_saved_changes_nothing(server, user, changed, status, told):
    before = files(user)
    body = {"schedule": schedule(), "name": "new", **changed}
    if status == 413:
        body["schedule"]["source"]["text"] += "x" * 10_000
    answer = post(server, "save", body)
    assert answer.status == status and told in answer.error
    assert files(user) == before


@pytest.mark.parametrize("kind, old", [("schedule", "mine"), ("calibration", "measured")])
def test_renaming_keeps_everything_else(server, user, kind, old):
    before = get(server, "export", kind=kind, name=old).content
    assert post(server, "rename", {"kind": kind, "old": old, "new": "A / \u00e9"}).json == {"name": "A / \u00e9"}
    assert names(server, kind) == ["A / \u00e9"]
    assert post(server, "rename", {"kind": kind, "old": "A / \u00e9", "new": old}).status == 200
    assert get(server, "export", kind=kind, name=old).content == before
    assert post(server, "rename", {"kind": kind, "old": old, "new": old}).json == {"name": old}


def test_what_a_job_measured_goes_along_with_its_calibration(server, user):
    from lemica.calibration.job_folder import folder_name

    root = user / "calibrations"
    (root / folder_name("measured")).mkdir()
    (root / folder_name("measured") / "job.json").write_text("{}")
    assert post(server, "rename", {"kind": "calibration", "old": "measured", "new": "known"}).status == 200
    assert (root / folder_name("known") / "job.json").exists() and not (root / folder_name("measured")).exists()
    assert get(server, "library").json["jobs"] == []


def test_a_calibration_that_is_being_measured_is_not_renamed(server, user):
    from filelock import FileLock
    from lemica.calibration.job_folder import folder_name

    folder = user / "calibrations" / folder_name("measured")
    folder.mkdir()
    with FileLock(folder / ".lock"):
        before = files(user)
        answer = post(server, "rename", {"kind": "calibration", "old": "measured", "new": "known"})
        assert answer.status == 409 and "being measured" in answer.error
        assert files(user) == before


@pytest.fixture
def half_run(user) -> Path:
    """The folder of a calibration that is not finished, on the server."""
    from lemica.calibration.job_folder import JobFolder, folder_name

    job = JobFolder(user / "calibrations" / folder_name("half run"), {"sigmas": [1.0, 0.0]}, 3, "half run")
    job.open(), job.close()
    (job.path / "run-1.safetensors").write_bytes(b"measured")
    return job.path


def test_what_is_unfinished_is_deleted_by_its_folder(server, user, half_run):
    (listed,) = get(server, "library").json["jobs"]
    assert listed == {"folder": half_run.name, "name": "half run", "samples": 1, "replays": 0}
    before = files(user)
    for name in ("half run", "half-run", f"../calibrations/{half_run.name}", "", ".", "measured", f"{half_run.name}/"):
        assert post(server, "delete", {"kind": "job", "name": name}).status == 404, name
    assert files(user) == before
    assert post(server, "delete", {"kind": "job", "name": half_run.name}).json == {}
    assert not half_run.exists() and get(server, "library").json["jobs"] == []
    assert [path for path in (user / "calibrations").iterdir() if path.is_dir()] == []
    assert post(server, "delete", {"kind": "job", "name": half_run.name}).status == 404


def test_what_is_being_measured_finished_or_a_link_is_not_deleted_as_unfinished(server, user, half_run, tmp_path):
    from filelock import FileLock
    from lemica.calibration.job_folder import folder_name

    with FileLock(half_run / ".lock"):
        answer = post(server, "delete", {"kind": "job", "name": half_run.name})
        assert answer.status == 409 and "being measured" in answer.error
    finished = user / "calibrations" / folder_name("measured")
    half_run.rename(finished)
    assert post(server, "delete", {"kind": "job", "name": finished.name}).status == 404
    outside = tmp_path / "outside"
    finished.rename(outside)
    (user / "calibrations" / "link-12345678").symlink_to(outside, target_is_directory=True)
    assert post(server, "delete", {"kind": "job", "name": "link-12345678"}).status == 404
    assert (outside / "run-1.safetensors").exists() and (outside / "job.json").exists()


def test_a_link_in_what_is_unfinished_is_deleted_and_not_what_it_leads_to(server, user, half_run, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept.txt").write_text("kept")
    (half_run / "link").symlink_to(tmp_path / "outside", target_is_directory=True)
    (half_run / "run-2.safetensors").symlink_to(tmp_path / "outside" / "kept.txt")
    assert post(server, "delete", {"kind": "job", "name": half_run.name}).json == {}
    assert not half_run.exists() and (tmp_path / "outside" / "kept.txt").read_text() == "kept"


@pytest.mark.parametrize("kind, name", [("schedule", "mine"), ("calibration", "measured")])
def test_deleting_removes_one(server, user, kind, name):
    assert post(server, "delete", {"kind": kind, "name": name}).json == {}
    assert names(server, kind) == []
    assert post(server, "delete", {"kind": kind, "name": name}).status == 404


@pytest.mark.parametrize(
    "route, body, status",
    [
        ("delete", {"kind": "schedule", "name": PACKAGED}, 409),
        ("rename", {"kind": "schedule", "old": PACKAGED, "new": "new"}, 409),
        ("rename", {"kind": "schedule", "old": "mine", "new": PACKAGED}, 409),
        ("rename", {"kind": "schedule", "old": "mine", "new": "measured"}, 409),
        ("rename", {"kind": "calibration", "old": "measured", "new": "mine"}, 409),
        ("rename", {"kind": "calibration", "old": "measured", "new": "linked"}, 409),
        ("rename", {"kind": "schedule", "old": "nobody", "new": "new"}, 404),
        ("rename", {"kind": "calibration", "old": "nobody", "new": "new"}, 404),
        ("rename", {"kind": "calibration", "old": "mine", "new": "new"}, 404),
        ("delete", {"kind": "schedule", "name": "nobody"}, 404),
        ("delete", {"kind": "calibration", "name": "nobody"}, 404),
        ("delete", {"kind": "file", "name": "mine"}, 400),
        ("delete", {"name": "mine"}, 400),
        ("delete", {"kind": "schedule"}, 400),
        ("rename", {"kind": "schedule", "old": "mine"}, 400),
        ("merge", {"first": "measured", "second": "nobody", "name": "both"}, 404),
        ("merge", {"first": "measured", "second": "measured", "name": "both"}, 400),
        ("merge", {"first": "measured", "second": "other", "name": "both"}, 400),
        ("merge", {"first": "measured", "second": "more", "name": "measured"}, 409),
        ("merge", {"first": "measured", "second": "more", "name": "mine"}, 409),
        ("merge", {"first": "measured", "second": "more", "name": " "}, 400),
    ],
)
def test_what_cannot_be_done_changes_nothing(server, user, route, body, status):
    calibrations(user).save("other", make_graph(family="flux.1-dev"))
    calibrations(user).save("more", make_graph())
    before = files(user)
    answer = post(server, route, body)
    assert answer.status == status and answer.error
    assert files(user) == before


def test_two_calibrations_are_merged_into_a_new_one(server, user):
    from lemica.calibration import Sample

    calibrations(user).save("more", make_graph(samples=(Sample("a cat", 1), Sample("a bird", 9))))
    assert post(server, "merge", {"first": "measured", "second": "more", "name": "both"}).json == {"name": "both"}
    merged = get(server, "calibration", name="both").json
    assert [sample["prompt"] for sample in merged["samples"]] == ["a cat", "a dog", "a bird"]
    assert set(names(server, "calibration")) == {"measured", "more", "both"}


@pytest.mark.parametrize("name", [name for name in ODD_NAMES if name])
@pytest.mark.parametrize("kind, old", [("schedule", "mine"), ("calibration", "measured")])
def test_odd_names_are_refused_or_stay_in_the_folder(server, user, kind, old, name):
    others = {path: content for path, content in files(server.user).items() if not path.startswith("lemica")}
    folder = user / f"{kind}s"
    count = len(list(folder.iterdir()))
    assert post(server, "delete", {"kind": kind, "name": name}).status in (400, 404)
    assert post(server, "rename", {"kind": kind, "old": name, "new": "new"}).status in (400, 404)
    assert get(server, "export", kind=kind, name=name).status in (400, 404)
    renamed = post(server, "rename", {"kind": kind, "old": old, "new": name})
    assert renamed.status == (200 if len(name) <= 120 and name.isprintable() and name.strip() == name != "" else 400)
    assert len(list(folder.iterdir())) == count and all(path.parent == folder for path in folder.iterdir())
    assert names(server, kind) == [name if renamed.status == 200 else old]
    assert {path: content for path, content in files(server.user).items() if not path.startswith("lemica")} == others


def test_a_solved_budget_is_saved_as_a_preset_that_the_node_then_plans(server, user):
    solved = {"calibration": "measured", "budget": 2, "preset": "fast", "name": "measured/fast"}
    assert post(server, "save", solved).json["name"] == "measured/fast"
    (saved,) = (one for one in get(server, "library").json["schedules"] if one["name"] == "measured/fast")
    assert saved["source"]["preset"] == "fast" and saved["source"]["saved"] > 0
    sigmas = list(make_graph().sigmas)
    planned = post(server, "plan", {"family": "lemica-demo", "steps": 6, "preset": "fast", "sigmas": sigmas}).json
    assert planned["name"] == "measured/fast" and planned["budget"] == 2
    refused = post(server, "save", {**solved, "preset": "warp", "replace": True})
    assert refused.status == 400 and "slow, medium, fast, ultra" in refused.error


def save_preset(server, budget: int = 2, **changed) -> dict:
    body = {"calibration": "measured", "budget": budget, "preset": "fast", "name": "measured/fast", "replace": True}
    return post(server, "save", {**body, **changed}).json


def test_a_save_is_undone_to_exactly_what_was_there(server, user):
    empty = files(user)
    first = save_preset(server)
    assert first["replaced"] is None
    one = files(user)
    second = save_preset(server, 4, scope="all steps")
    assert second["saved"]["source"]["scope"] == "all steps" and second["replaced"] == first["saved"]
    changes = [{"saved": one["saved"], "replaced": one["replaced"]} for one in (first, second)]
    assert post(server, "undo", changes[1]).json == {"name": "measured/fast"}
    assert files(user) == one
    assert post(server, "undo", changes[0]).status == 200
    assert {path: content for path, content in files(user).items() if path != ".lock"} == {
        path: content for path, content in empty.items() if path != ".lock"
    }


def test_what_was_changed_after_a_save_is_not_undone(server, user):
    first = save_preset(server)
    save_preset(server, 4)
    before = files(user)
    answer = post(server, "undo", {"saved": first["saved"], "replaced": None})
    assert answer.status == 409 and "nothing is undone" in answer.error
    post(server, "delete", {"kind": "schedule", "name": "measured/fast"})
    assert post(server, "undo", {"saved": first["saved"], "replaced": None}).status == 409
    assert files(user).keys() == before.keys() - {path for path in before if "measured-fast" in path}


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"saved": None}, "saved is missing"), ({"saved": [1]}, "give an object"), ({"saved": {"name": "x"}}, "lacks"),
        ({"replaced": schedule(name="other")}, "give two of one name"), ({"replaced": "x"}, "give an object"),
    ],
)
def test_what_is_not_a_save_cannot_be_undone(server, user, changed, told):
    saved = save_preset(server)
    before = files(user)
    answer = post(server, "undo", {"saved": saved["saved"], "replaced": None, **changed})
    assert answer.status == 400 and told in answer.error
    assert files(user) == before


def test_a_preset_is_saved_for_its_own_steps_unless_for_all(server, user):
    assert save_preset(server)["saved"]["source"]["scope"] == "these steps"
    longer = {"family": "lemica-demo", "steps": 12, "preset": "fast"}
    assert "resampled_from" not in str(post(server, "plan", longer).json) and not planned_from_fast(server, longer)
    post(server, "delete", {"kind": "calibration", "name": "measured"})
    assert not planned_from_fast(server, longer)
    calibrations(user).save("measured", make_graph())
    save_preset(server, scope="all steps")
    post(server, "delete", {"kind": "calibration", "name": "measured"})
    assert planned_from_fast(server, longer)
    assert post(server, "save", {"calibration": "x", "budget": 2, "name": "y", "scope": "mine"}).status in (400, 404)


def planned_from_fast(server, request: dict) -> bool:
    return post(server, "plan", request).json["name"].startswith("measured/fast@12b")


def test_a_solved_path_comes_with_what_was_measured_of_it(server, user):
    body = {"calibration": "measured", "budget": 3}
    solved = post(server, "solve", body).json
    assert solved["measured"] is None
    source = {"calibration": "measured", "measured": {"mean": 0.087, "worst": 0.122}}
    graph = make_graph()
    sent = schedule(
        computed=solved["computed"], rules=solved["rules"], origin="calibrated", sigmas=list(graph.sigmas), source=source
    )
    post(server, "save", {"schedule": sent, "name": "measured/6b3"})
    assert post(server, "solve", body).json["measured"] == {"mean": 0.087, "worst": 0.122, "other": ""}
    other = post(server, "solve", {**body, "fixed": [1, 2], "curve": True}).json
    assert other["measured"]["other"] == "measured/6b3" and other["worst"] > solved["worst"]


def test_a_plan_for_a_calibrations_model_says_what_a_run_of_it_would(server, user):
    from dataclasses import replace

    graph = make_graph()
    request = {
        "family": "lemica-demo", "steps": 6, "preset": "custom", "budget": 3, "calibration": "measured",
        "sigmas": list(graph.sigmas),
    }
    calibrations(user).save("lora", replace(graph, model=replace(graph.model, patches="x")))
    planned = post(server, "plan", {**request, "calibration": "lora"}).json
    assert (planned["origin"], planned["name"]) == ("predicted", "lora/6b3")
    assert post(server, "plan", request).json["name"] == "measured/6b3"
    assert post(server, "plan", {**request, "calibration": "nobody"}).status == 404


NEWER = b'{"schema": 99, "name": "taken", "more": [1, 2, 3]}'


@pytest.mark.parametrize("content", [NEWER, b"{", b""])
@pytest.mark.parametrize("kind", ["schedule", "calibration"])
def test_a_file_that_cannot_be_read_keeps_its_name(server, user, kind, content):
    """A file of a newer version, or a broken one, that has the name of the file for ``taken``."""
    from lemica.calibration.job_folder import folder_name
    from lemica.schedules.store import file_name

    calibrations(user).save("more", make_graph())
    file = user / "schedules" / file_name("taken")
    if kind == "calibration":
        file = user / "calibrations" / f"{folder_name('taken')}.safetensors"
    file.write_bytes(content)
    before = files(user)
    if kind == "schedule":
        solved = {"calibration": "measured", "budget": 3}
        changes = [
            ("save", {**order, "name": "taken", "replace": replaces})
            for order in ({"schedule": schedule()}, solved) for replaces in (False, True)
        ]
    else:
        changes = [("merge", {"first": "measured", "second": "more", "name": "taken"})]
    old = "mine" if kind == "schedule" else "measured"
    for route, body in [*changes, ("rename", {"kind": kind, "old": old, "new": "taken"})]:
        answer = post(server, route, body)
        assert answer.status == 409 and file.name in answer.error
    assert files(user) == before
    if kind == "schedule":
        content = json.dumps({"schema": 1, "name": "taken", **schedule(), "source": {"by": "another"}}).encode()
        assert upload(server, "x.json", content).json["name"] == "taken (2)"
    else:
        make_graph(source={"name": "taken"}, metric="l2").save(user / "import")
        assert upload(server, "x.safetensors", (user / "import").read_bytes()).json["name"] == "taken (2)"
    assert before.items() <= files(user).items()
