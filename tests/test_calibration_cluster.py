"""What workers of a calibration must have in common with it, and the part of a prompt that they run."""

from __future__ import annotations

import os


def test_facts_that_differ_are_told_and_equal_ones_are_not():
    from lemica.calibration.cluster.facts import differences

    ours = {"the pack": "0.1.0 (aa)", "ComfyUI": "0.30.0", "wan.safetensors": "a" * 64, "lora.safetensors": "b" * 64}
    assert differences(ours, dict(ours)) == []
    theirs = {"the pack": "0.1.0 (bb)", "ComfyUI": "0.30.0", "wan.safetensors": "c" * 64}
    assert differences(ours, theirs) == [
        "lora.safetensors is missing there, bbbbbbbbbbbb... here",
        "the pack is 0.1.0 (bb) there, 0.1.0 (aa) here",
        "wan.safetensors is cccccccccccc... there, aaaaaaaaaaaa... here",
    ]


def test_a_digest_is_remembered_until_the_file_changes(tmp_path):
    from lemica.calibration.cluster.facts import file_digest

    file, remembered = tmp_path / "model.safetensors", tmp_path / "digests"
    file.write_bytes(b"weights")
    first = file_digest(file, remembered)
    assert first == file_digest(file) and len(list(remembered.iterdir())) == 1
    (note,) = remembered.iterdir()
    note.write_text("0" * 64)
    assert file_digest(file, remembered) == "0" * 64, "it is not read again"
    file.write_bytes(b"Weights")
    os.utime(file, ns=(1, 1))
    assert file_digest(file, remembered) == file_digest(file) != first


def test_the_version_of_the_pack_names_its_code(tmp_path, monkeypatch):
    from lemica.calibration.cluster import facts

    own = facts.pack_version()
    assert own == facts.pack_version() and own.startswith("0.") and own.endswith(")")
    for folder in facts.CODE:
        (tmp_path / folder).mkdir()
    (tmp_path / "pyproject.toml").write_text((facts.PACK / "pyproject.toml").read_text())
    monkeypatch.setattr(facts, "PACK", tmp_path)
    empty = facts.pack_version()
    (tmp_path / "cache" / "run.py").write_text("changed = True\n")
    assert len({own, empty, facts.pack_version()}) == 3


def test_a_worker_gets_the_nodes_before_the_calibrate_node_and_no_others(comfy):
    from comfy_execution.graph import DynamicPrompt
    from lemica.nodes.cluster.upstream import upstream

    prompt = {
        "1": {"class_type": "Loader", "inputs": {"name": "a.safetensors"}, "_meta": {"title": "Mine"}},
        "2": {"class_type": "Lora", "inputs": {"model": ["1", 0]}},
        "3": {"class_type": "LeMiCaCalibrate", "inputs": {"model": ["2", 0], "positive.positive0": ["4", 1], "steps": 8}},
        "4": {"class_type": "Encode", "inputs": {"clip": ["1", 1]}},
        "5": {"class_type": "Save", "inputs": {"images": ["3", 1]}},
    }
    found = upstream(DynamicPrompt(prompt), "3")
    assert found.keys() == {"1", "2", "3", "4"}
    assert found["3"]["inputs"] == prompt["3"]["inputs"] and "_meta" not in found["1"]


def test_files_that_a_prompt_names_are_facts_and_other_texts_are_not(comfy, tmp_path, monkeypatch):
    import folder_paths
    from lemica.nodes.cluster.upstream import facts_of

    models, inputs = tmp_path / "models", tmp_path / "input"
    for folder in (models, inputs):
        folder.mkdir()
    (models / "wan.safetensors").write_bytes(b"1")
    (inputs / "start.png").write_bytes(b"2")
    (tmp_path / "secret.txt").write_bytes(b"3")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusion_models", ([str(models)], {".safetensors"}))
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(inputs))
    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(tmp_path / "user"))
    values = ["wan.safetensors", "start.png", "../secret.txt", "a cat\nand a dog", "", "euler", "x" * 600]
    prompt = {str(place): {"class_type": "Node", "inputs": {"value": value}} for place, value in enumerate(values)}
    assert facts_of(prompt).keys() == {"the pack", "ComfyUI", "wan.safetensors", "start.png"}


def test_digests_are_written_in_their_folder_only(comfy, tmp_path, monkeypatch):
    import folder_paths
    from lemica.nodes.cluster.upstream import facts_of

    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "start.png").write_bytes(b"2")
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path / "input"))
    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(tmp_path / "user"))
    facts_of({"0": {"class_type": "Node", "inputs": {"value": "start.png"}}})
    written = [path.relative_to(tmp_path / "user") for path in (tmp_path / "user").rglob("*") if path.is_file()]
    assert [path.parent.as_posix() for path in written] == ["lemica/digests"]
    assert len(list((tmp_path / "input").iterdir())) == 1


def test_a_contest_tells_what_it_is_likely_to_measure_next():
    from lemica.calibration.outcome import Contest, Route, sample_by_sample
    from lemica.schedules import Rule

    rule, expected = Rule("output", "hold"), []
    routes = [Route((0, place), (rule, rule)) for place in (3, 2, 4)]
    attempt = sample_by_sample(lambda route, place: float(route.computed[1]), 1)
    contest = Contest(attempt, 5, lambda routes: expected.append([one.computed[1] for one in routes]))
    assert contest.best(routes) == contest.best(routes[1:2])
    assert expected == [[2, 4], [4], [], []]
    expected.clear()
    best = contest.polish(contest.best(routes), 2, [rule])
    assert best.route.computed == (0, 1)
    assert expected[3:] == [[1], []], "no more than the limit leaves"
