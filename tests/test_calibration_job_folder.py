"""What a half-run calibration leaves on the disk, and what it refuses to go on with."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from lemica.cache.trajectory import Batch, Trajectory
from lemica.calibration import Sample
from lemica.calibration.fit_folder import Fit, FitFolder
from lemica.calibration.full_run import FullRun, Measured
from lemica.calibration.job_error import JobError
from lemica.calibration.job_folder import folder_name

IDENTITY = {"sigmas": [1.0, 0.5, 0.0], "rules": ["output hold"], "cfg": 4.0}
EDGES = 3
FINAL = np.array([0.5, -1.0], dtype=np.float32)
DERIVATIVES = np.arange(12, dtype=np.float32).reshape(1, 3, 4)


def folder(tmp_path, identity=IDENTITY, edges=EDGES) -> FitFolder:
    return FitFolder(tmp_path / "mine", identity, edges)


def measured(seed: int = 1) -> Measured:
    full = FullRun(Sample("a cat", seed), "c0", FINAL, DERIVATIVES, np.eye(3))
    return Measured(full, np.array([np.nan, 0.25, np.nan]))


def save(job: FitFolder, one: Measured) -> None:
    job.save(one.full)
    job.save_replayed(one)


def test_what_was_saved_is_read_again(tmp_path):
    job = folder(tmp_path)
    job.open()
    save(job, measured())
    save(job, measured(2))
    job.save_path_error("0,2|output hold", Sample("a cat", 1), "c0", 0.125)
    job.close()
    again = folder(tmp_path)
    again.open()
    found = again.load(Sample("a cat", 1), "c0")
    assert np.array_equal(found.replayed, measured().replayed, equal_nan=True)
    assert np.array_equal(found.full.derivatives, DERIVATIVES) and np.array_equal(found.full.final, FINAL)
    assert (found.full.sample, found.full.conds) == (Sample("a cat", 1), "c0")
    assert again.load(Sample("a cat", 1), "other conds") is None
    assert {one.full.sample.seed for one in again.load_all()} == {1, 2}
    assert again.path_error("0,2|output hold", Sample("a cat", 1), "c0") == 0.125
    assert again.path_error("0,2|output hold", Sample("a cat", 2), "c0") is None
    again.close()


def test_a_full_run_without_replays_has_none_of_them_yet(tmp_path):
    job = folder(tmp_path)
    job.open()
    job.save(measured().full)
    assert np.array_equal(job.load(Sample("a cat", 1), "c0").replayed, np.full(EDGES, np.nan), equal_nan=True)
    save(job, measured(2))
    (file,) = set((tmp_path / "mine").glob("run-*")) - {job._file("run-", Sample("a cat", 1), "c0")}
    file.unlink()
    assert job.load(Sample("a cat", 2), "c0") is None and len(job.load_all()) == 1, "replays alone are no sample"
    job.save_replayed(measured(2))
    again = job.load(Sample("a cat", 2), "c0")
    assert np.array_equal(again.replayed, measured().replayed, equal_nan=True), "a full run that was removed is there again"
    job.close()


def test_one_process_at_a_time(tmp_path):
    job, other = folder(tmp_path), folder(tmp_path)
    job.open()
    with pytest.raises(JobError, match="another run"):
        other.open()
    job.close()
    other.open()
    other.close()


def test_other_settings_under_the_same_name_are_refused_and_named(tmp_path):
    job = folder(tmp_path)
    job.open()
    save(job, measured())
    job.close()
    other = folder(tmp_path, IDENTITY | {"cfg": 5.0})
    with pytest.raises(JobError, match="cfg: 4.0 there, 5.0 here"):
        other.open()
    job.open()
    assert job.load(Sample("a cat", 1), "c0") is not None
    job.close()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 9, "identity": {}}', b'{"schema": 1}', b"\xff\xfe"])
def test_a_broken_job_file_is_an_error_with_its_name(tmp_path, content):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "job.json").write_bytes(content)
    with pytest.raises(JobError, match="job.json"):
        folder(tmp_path).open()
    assert (tmp_path / "mine" / "job.json").read_bytes() == content


@pytest.mark.parametrize("kind", ["run-", "replays-"])
@pytest.mark.parametrize("content", [b"", b"x" * 200, b"\x10\0\0\0\0\0\0\0{}              "])
def test_a_truncated_or_foreign_sample_file_is_an_error_with_its_name(tmp_path, kind, content):
    job = folder(tmp_path)
    job.open()
    save(job, measured())
    (file,) = (tmp_path / "mine").glob(f"{kind}*")
    file.write_bytes(content)
    with pytest.raises(JobError, match=f"{kind}.*move it away"):
        job.load(Sample("a cat", 1), "c0")
    with pytest.raises(JobError, match=f"{kind}.*move it away"):
        job.load_all()
    job.close()


@pytest.mark.parametrize("kind", ["run-", "replays-"])
def test_a_sample_file_that_is_a_link_or_of_another_schema_is_refused(tmp_path, kind):
    job = folder(tmp_path)
    job.open()
    save(job, measured())
    (file,) = (tmp_path / "mine").glob(f"{kind}*")
    content = file.read_bytes()
    newer = content.replace(b'\\"schema\\": 1', b'\\"schema\\": 9')
    assert newer != content
    file.write_bytes(newer)
    with pytest.raises(JobError, match=f"{kind}.*schema is 9.*move it away"):
        job.load_all()
    (tmp_path / "elsewhere").write_bytes(content)
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JobError, match=f"{kind}.*it is a link.*move it away"):
        job.load_all()
    job.close()


def test_replays_of_another_grid_are_refused(tmp_path):
    job = folder(tmp_path)
    job.open()
    save(job, measured())
    job.close()
    with pytest.raises(JobError, match="replays-.*holds.*(3,).*move it away"):
        folder(tmp_path, edges=4).load(Sample("a cat", 1), "c0")


@pytest.mark.parametrize("kind, changed", [
    *(("run-", one) for one in (
        {"final": FINAL.astype(np.float64)}, {"final": FINAL[None]}, {"final": FINAL[:0]}, {"final": FINAL * np.nan},
        {"derivatives": DERIVATIVES[0]}, {"derivatives": DERIVATIVES.astype(np.float16)},
        {"derivatives": np.full_like(DERIVATIVES, np.inf)}, {"conds": 3},
    )),
    *(("replays-", {"replayed": np.array(one)}) for one in (
        [1.0, 2.0], [1.0, 2.0, -1.0], [1.0, 2.0, np.inf], [[1.0, 2.0, 3.0]], [1, 2, 3],
    )),
])
def test_a_sample_that_holds_something_else_is_an_error_with_its_name(tmp_path, kind, changed):
    job = folder(tmp_path)
    job.open()
    right = measured()
    own = {name: value for name, value in changed.items() if name != "replayed"}
    save(job, Measured(replace(right.full, **own), changed.get("replayed", right.replayed)))
    with pytest.raises(JobError, match=f"{kind}.*move it away"):
        job.load_all()
    job.close()


def test_a_fit_is_read_again_and_its_walks_go(tmp_path):
    job = folder(tmp_path)
    job.open()
    key, sample = "0,3|abc", Sample("a cat", 1)
    known = Trajectory()
    for step in (0, 3):
        known.batches[Batch(step, 0, 0)] = [torch.full((2,), float(step)), torch.zeros(1)]
        job.save_walk(key, sample, "c0", known, step)
    (again := folder(tmp_path)).path.joinpath("walk-broken.safetensors").write_bytes(b"x")
    found = again.walk(key, sample, "c0")
    assert found.steps == {0, 3}
    assert all(torch.equal(*pair) for batch, outputs in known.batches.items()
               for pair in zip(outputs, found.batches[batch], strict=True))
    assert again.walk("other", sample, "c0").steps == again.walk(key, sample, "c1").steps == set()
    job.save_fit(key, Fit(((1.0, -0.5), ()), {"b": 0.25, "a": 0.5, "c": 0.125}))
    job.close()
    assert list((tmp_path / "mine").glob("walk-*")) == []
    again.open()
    assert again.fit(key) == Fit(((1.0, -0.5), ()), {"b": 0.25, "a": 0.5, "c": 0.125}) and again.fit("other") is None
    assert list(again.fit(key).errors) == ["b", "a", "c"], "in the order of the samples"
    assert again.fit_errors() == {key: again.fit(key).errors}
    again.close()


def test_a_step_of_a_walk_that_is_broken_is_made_again(tmp_path):
    job = folder(tmp_path)
    job.open()
    known = Trajectory()
    known.batches[Batch(0, 0, 0)] = [torch.zeros(2)]
    job.save_walk("key", Sample("a cat", 1), "c0", known, 0)
    (file,) = (tmp_path / "mine").glob("walk-*")
    file.write_bytes(file.read_bytes()[:-4])
    assert job.walk("key", Sample("a cat", 1), "c0").steps == set() and not file.exists()
    job.close()


@pytest.mark.parametrize("content", ["[1]", "{\"a\": 3}", "{\"a\": {\"weights\": 1, \"errors\": {}}}", "{\"a\": {}}", "{"])
def test_broken_fits_are_an_error(tmp_path, content):
    job = folder(tmp_path)
    job.open()
    job.close()
    (tmp_path / "mine" / "fits.json").write_text(content)
    with pytest.raises(JobError, match="fits.json"):
        job.open()


@pytest.mark.parametrize("content", ["[1]", "{\"a\": 3}", "{\"a\": {\"b\": \"c\"}}", "{"])
def test_broken_path_measurements_are_an_error(tmp_path, content):
    job = folder(tmp_path)
    job.open()
    job.close()
    (tmp_path / "mine" / "paths.json").write_text(content)
    with pytest.raises(JobError, match="paths.json"):
        job.open()


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    job = folder(tmp_path)
    job.open()
    save(job, measured())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    changed = measured()
    changed.replayed[0] = 9.0
    with pytest.raises(OSError, match="No space"):
        job.save_replayed(changed)
    with pytest.raises(OSError, match="No space"):
        job.save(replace(changed.full, final=FINAL + 1))
    monkeypatch.undo()
    kept = job.load(Sample("a cat", 1), "c0")
    assert np.isnan(kept.replayed[0]) and np.array_equal(kept.full.final, FINAL)
    assert [path.name for path in (tmp_path / "mine").glob("*.tmp")] == []
    job.close()


def test_names_become_file_names_that_are_never_paths():
    for name in ("../../etc/passwd", "a/b", "C:\\x", "....", " ", "Ünï", "a" * 500):
        made = folder_name(name)
        assert "/" not in made and "\\" not in made and made.strip(".") == made and len(made) <= 80
    assert folder_name("a b") != folder_name("a-b")
    assert json.dumps(folder_name("x")).isascii()
