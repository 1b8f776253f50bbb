"""The sidebar tab of the library on ComfyUI's page, in Chromium."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from chromium import FRONTENDS, drive
from route_requests import PACKAGED, get, make_graph, post, schedule

ROOT = Path(__file__).resolve().parent.parent
JOBS = ("half run", "Half Run")
"""Written alike in the names of their folders."""
NODE = {
    "last_node_id": 1, "last_link_id": 0, "links": [], "groups": [], "config": {}, "extra": {}, "version": 0.4,
    "nodes": [
        {
            "id": 1, "type": "LeMiCa", "pos": [500, 200], "size": [320, 300], "flags": {}, "order": 0, "mode": 0,
            "inputs": [], "outputs": [], "properties": {},
            "widgets_values": ["medium", 15, "auto", "as scheduled", ""],
        }
    ],
}


@pytest.fixture(scope="module", params=FRONTENDS)
def page(request) -> Iterator:
    """The server, with a library of the user's, and nothing of ours in the user's folder afterwards."""
    server = request.getfixturevalue(request.param)
    server.pictures.mkdir(exist_ok=True)
    from lemica.calibration import Sample
    from lemica.calibration.full_run import FullRun, Measured
    from lemica.calibration.job_folder import JobFolder, folder_name
    from lemica.calibration.store import Calibrations

    folder = server.user / "lemica"
    shutil.rmtree(folder, ignore_errors=True)
    store = Calibrations(folder / "calibrations")
    rules = ("output hold", "output linear")
    store.save("other", make_graph(12, 6, family="flux.1-dev"))
    store.save("day", make_graph(20, 8, rules, samples=(Sample("a bird", 3), Sample("a fish", 4))))
    store.save("night", make_graph(20, 8, rules))
    for name in JOBS:
        job = JobFolder(store.root / folder_name(name), {"sigmas": [1.0, 0.0]}, 3, name)
        job.open()
        for seed in (1, 2):
            derivatives = np.ones((1, 3, 1), dtype=np.float32)
            full = FullRun(Sample("a cat", seed), "c0", derivatives[0, 0], derivatives, np.ones((3, 3)))
            job.save(full)
            job.save_replayed(Measured(full, np.array([np.nan, 0.25, np.nan])))
        job.close()
    post(server, "save", {"schedule": schedule(), "name": "mine"})
    (folder / "schedules" / "broken.json").write_text("{")
    yield server
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def content(page) -> dict[str, bytes]:
    """The files of some entries as the server exports them."""
    kinds = {"mine": "schedule", PACKAGED: "schedule", "night": "calibration"}
    return {name: get(page, "export", kind=kind, name=name).content for name, kind in kinds.items()}


@pytest.fixture(scope="module")
def found(page, content, tmp_path_factory) -> dict:
    """What the page showed."""
    from lemica.calibration.job_folder import folder_name

    folder = tmp_path_factory.mktemp("files")
    files = {
        "from a friend.json": json.dumps({"schema": 1, "name": "theirs", **schedule()}).encode(),
        "broken.json": b'{"schema": 1, "name": ', "notes.txt": b"read me", "half.safetensors": content["night"][:-9],
        "night.safetensors": content["night"], "workflow.json": b'{"nodes": [], "links": []}',
        "dropped.json": json.dumps({"schema": 1, "name": "dropped", **schedule(computed=[0, 1, 4])}).encode(),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    chosen = ["from a friend.json", "broken.json", "notes.txt", "half.safetensors", "night.safetensors"]
    return drive(
        "library.mjs", page.url, packaged=PACKAGED, node=NODE, shots=page.pictures, last="night",
        jobs=[folder_name(name) for name in JOBS],
        files=[folder / name for name in chosen], dropped=[folder / "dropped.json", folder / "workflow.json"],
    )


def test_everything_is_listed_by_family(found):
    first = found["first"]
    assert found["closedByDefault"]
    assert first["families"][0] == "Unfinished calibrations"
    assert {"LeMiCa demo (tiny Wan 2.1)", "FLUX.1-dev", "Wan 2.2 14B", "Wan 2.1 T2V 14B"} <= set(first["families"])
    counts = dict(zip(first["families"], first["counts"], strict=True))
    assert counts["Unfinished calibrations"] == "2" and counts["Wan 2.1 T2V 14B"] == "4"
    assert counts["Wan 2.2 14B"] == "estimated"
    assert first["problems"] == ["1 file left out"]


def test_a_search_and_a_filter_leave_what_fits(found):
    searched, yours = found["searched"], found["yours"]
    assert set(searched["families"]) == {"Wan 2.1 T2V 1.3B", "Wan 2.1 T2V 14B", "Wan 2.1 I2V 14B"}
    assert len(searched["entries"]) == 12 and set(searched["badges"]) == {"published"}
    assert found["nothing"]["families"] == [] and found["nothing"]["empty"] == "Nothing fits the search."
    assert yours["entries"] == ["other", "day", "night", "mine"]
    assert found["unfinished"]["entries"] == list(JOBS)


def test_a_packaged_schedule_is_shown_and_cannot_be_changed(found):
    packaged = found["packaged"]
    assert packaged["marks"] == ["published"] and packaged["kind"].endswith("Wan 2.1 T2V 14B")
    assert (packaged["cells"], packaged["computed"]) == (50, 20)
    assert not any(word in " ".join(packaged["actions"]) for word in ("Rename", "Delete")) and found["noDialog"] == 0
    assert "read only" in dict(packaged["facts"])["origin"] and dict(packaged["facts"])["repo"]


def test_exported_files_are_those_of_the_server(found, content):
    for shown, name, suffix in (
        ("exported", "mine", ".json"), ("exportedPackaged", PACKAGED, ".json"),
        ("exportedCalibration", "night", ".safetensors"),
    ):
        assert found[shown]["file"].endswith(suffix)
        assert found[shown]["sha256"] == hashlib.sha256(content[name]).hexdigest()


def test_renaming_by_keys_tells_of_a_taken_name(found):
    assert "'night' is in use" in found["taken"]["refusal"]
    renamed = found["renamed"]
    assert "mine" not in renamed["entries"] and renamed["said"] == ["Renamed to mine anew."]


def test_deleting_asks_first(page, found):
    assert "mine anew" in found["dialog"]
    assert "mine anew" in found["cancelled"]["entries"] and found["cancelled"]["title"] == "mine anew"
    assert found["deleted"]["said"] == ["Deleted mine anew."] and found["deleted"]["title"] is None
    assert "mine anew" not in {one["name"] for one in get(page, "library").json["schedules"]}


def test_a_calibration_is_shown_and_merged(page, found):
    night, merged = found["night"], found["merged"]
    assert night["kind"] == "Calibration · LeMiCa demo (tiny Wan 2.1)" and night["budget"].endswith("of 20")
    assert "2 samples of 20 steps" in dict(night["facts"])["measured"]
    assert found["aloneMerge"], "there is nothing to merge the only one of its family with"
    assert merged["said"] == ["Merged into night and day."] and "night and day" in merged["entries"]
    prompts = [sample["prompt"] for sample in get(page, "calibration", name="night and day").json["samples"]]
    assert sorted(prompts) == ["a bird", "a cat", "a dog", "a fish"]
    assert "night and day/fast" in found["preset"]["entries"]


def test_files_are_imported_and_each_broken_one_is_named_with_its_error(page, found):
    imported = found["imported"]
    there = "The calibration night is there already, with the same content."
    assert imported["said"] == ["Imported the schedule theirs.", there]
    broken, notes, half = imported["failed"]
    assert broken.startswith("broken.json: ") and "not valid JSON" in broken
    assert notes.startswith("notes.txt: ") and "(.json) or a calibration (.safetensors)" in notes
    assert half.startswith("half.safetensors: ")


def test_dropped_files_are_imported_and_not_opened_as_workflows(found):
    assert found["drop"]["hints"] == [False, True, False]
    dropped = found["dropped"]
    assert dropped["said"] == ["Imported the schedule dropped."] and dropped["failed"][0].startswith("workflow.json: ")
    assert found["nodes"][0] == found["nodes"][1]


def test_an_estimate_is_planned_for_any_steps_and_saved(page, found):
    estimate, kept = found["estimate"], found["kept"]
    assert estimate["marks"] == ["estimated"] and "predicted" in dict(estimate["facts"])["computes"]
    assert found["estimated20"]["computed"] < 20
    assert kept["marks"] == ["yours", "estimated"] and kept["kind"] == "Schedule · Wan 2.2 14B"
    (saved,) = (one for one in get(page, "library").json["schedules"] if one["name"] == "wan2.2-14b/fast")
    assert saved["steps"] == 20 and saved["budget"] == found["estimated20"]["computed"]


def test_a_schedule_is_chosen_on_the_selected_node(found):
    assert found["unused"]["said"] == ["Select a LeMiCa node in the graph first."]
    assert found["used"]["said"] == ["The selected node uses wan2.2-14b/fast."]
    assert found["widget"] == {"value": "wan2.2-14b/fast", "offered": True}


def test_an_unfinished_calibration_tells_how_to_go_on(found):
    kept, go_on = found["job"]["words"]
    assert kept == "2 samples begun, 2 replays on the disk" and "same name" in go_on
    assert found["job"]["actions"] == ["Delete…"]
    running = found["running"]
    assert running["entries"].count("half run") == 1 and running["marks"] == ["running"] and running["actions"] == []
    assert running["words"][0] == "1 min 0 s left · sample 1 of 2 · model step 30 of 120"


def test_an_unfinished_calibration_is_deleted_when_asked_and_not_the_one_of_a_name_like_it(page, found):
    assert "Half Run" in found["twinDialog"] and "All that was measured for it is lost" in found["twinDialog"]
    assert {"Half Run", "half run"} <= set(found["twinKept"]["entries"])
    assert found["twinDeleted"]["said"] == ["Deleted Half Run."] and "half run" in found["twinDeleted"]["entries"]
    assert [job["name"] for job in get(page, "library").json["jobs"]] == ["half run"]


def test_the_tree_is_walked_by_keys(found):
    assert "half run" not in found["folded"]["entries"] and found["folded"]["focus"].startswith("Unfinished")
    assert "half run" in found["walked"]["entries"] and found["walked"]["focus"].startswith("half run")
    assert found["escaped"]["title"] is None and found["escaped"]["focus"].startswith("half run")


def test_a_reload_and_the_other_renderer_find_everything_as_it_was(found):
    kept = ("families", "counts", "open", "entries", "title", "budget", "marks")
    before = {key: found["reloaded"]["before"][key] for key in kept}
    assert before["title"] == "night and day"
    for again in (found["reloaded"]["after"], found["vue"]):
        assert {key: again[key] for key in kept} == before
    assert found["closed"] == 0 and found["again"]["title"] == found["light"]["title"] == "night and day/fast"


def test_nothing_of_ours_complains_in_the_console(found):
    """The browser itself notes each request that is refused: one name that is taken, four files that are broken."""
    refused = [problem for problem in found["problems"] if "Failed to load resource" in problem]
    assert [problem for problem in found["problems"] if problem not in refused] == []
    assert len([one for one in refused if "409" in one and "/lemica/rename" in one]) == 1
    assert len([one for one in refused if "400" in one and "/lemica/import" in one]) == len(refused) - 1 == 4
