"""Disks that are full or read only, files that are removed while a job runs, a clock that is set back."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from route_requests import make_graph, schedule

ROOT = Path(__file__).resolve().parent.parent


def a_schedule(**changed):
    from lemica.schedules import Schedule

    return Schedule.from_json({"schema": 1, "name": "mine", **schedule(**changed)})


@pytest.fixture
def stores(tmp_path: Path):
    """Library and calibrations with one of each."""
    from lemica.calibration.store import Calibrations
    from lemica.schedules import Library

    library = Library(ROOT / "schedules" / "library", tmp_path / "schedules")
    calibrations = Calibrations(tmp_path / "calibrations")
    library.save(a_schedule())
    calibrations.save("measured", make_graph())
    return library, calibrations


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FAULTS = {
    "no space when a file is begun": ("tempfile.mkstemp", errno.ENOSPC),
    "no space when it is flushed": ("os.fsync", errno.ENOSPC),
    "a disk that fails": ("os.fsync", errno.EIO),
    "read only when a file is begun": ("tempfile.mkstemp", errno.EROFS),
    "read only when it is renamed": ("os.replace", errno.EACCES),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_disk_that_refuses_leaves_everything_as_it_was(stores, tmp_path, monkeypatch, fault):
    from lemica.schedules import dump_json

    library, calibrations = stores
    before = everything(tmp_path)
    what, number = FAULTS[fault]

    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(what, refuse)
    for change in (
        lambda: library.save(a_schedule(computed=[0, 1, 4])),
        lambda: library.rename("mine", "yours"),
        lambda: library.import_bytes(dump_json(a_schedule(computed=[0, 1, 4]).to_json()).encode()),
        lambda: calibrations.save("measured", make_graph(longest=3)),
        lambda: calibrations.rename("measured", "known"),
        lambda: calibrations.merge("measured", "measured", "both"),
    ):
        with pytest.raises(OSError) as raised:
            change()
        assert raised.value.errno == number
        assert everything(tmp_path) == before
    monkeypatch.undo()
    assert library.own() == (a_schedule(),) and calibrations.names() == ["measured"]
    library.rename("mine", "yours")
    assert [one.name for one in library.own()] == ["yours"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_a_file_that_outgrows_the_disk_leaves_the_old_one(stores, tmp_path):
    """The limit of a process on the size of its files stands in for a full disk: the write itself fails, half way."""
    import resource
    import signal

    library, calibrations = stores
    before = everything(tmp_path)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            refused = 0
            for change in (
                lambda: library.save(a_schedule(source={"text": "x" * 10_000})),
                lambda: calibrations.save("measured", make_graph(20, 20)),
            ):
                try:
                    change()
                except OSError as error:
                    refused += error.errno == errno.EFBIG
            code = 0 if refused == 2 else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert everything(tmp_path) == before


def test_a_clock_that_is_set_back_hides_no_change(stores, tmp_path):
    """A file that is replaced by one of the same size at the same time, or an earlier one, is another file."""
    library, calibrations = stores
    for computed in ([0, 1, 4], [0, 3, 5], [0, 2, 5]):
        path = library.save(a_schedule(computed=computed))
        os.utime(path, (1, 1))
        assert library.own()[0].computed == tuple(computed)
    for seed in range(3):
        path = calibrations.save("measured", make_graph(errors=make_graph().errors * (seed + 2)))
        os.utime(path, (1, 1))
        assert np.array_equal(calibrations.get("measured").errors, make_graph().errors * (seed + 2))
    assert library.problems() == calibrations.problems() == []


def test_saving_the_same_again_writes_nothing(stores):
    library, calibrations = stores
    before = library.stamps(), calibrations.stamps()
    library.save(a_schedule()), calibrations.save("measured", make_graph())
    assert (library.stamps(), calibrations.stamps()) == before


def test_two_that_delete_the_same_find_no_error_in_it(stores, tmp_path, monkeypatch):
    library, calibrations = stores
    unlink = Path.unlink

    def removed_before(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok=True)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", removed_before)
    library.delete("mine"), calibrations.delete("measured")
    assert library.own() == () and calibrations.names() == []


def test_nothing_is_remembered_of_files_that_are_gone(stores):
    library, calibrations = stores
    for number in range(50):
        library.save(a_schedule(source={"number": number}))
        library.rename("mine", f"name {number}"), library.delete(f"name {number}")
        library.save(a_schedule())
        calibrations.save(f"name {number}", make_graph()), calibrations.names()
        calibrations.delete(f"name {number}")
    library.own(), calibrations.names()
    assert len(library._files._known) == 1 and len(calibrations._folder._known) == 1


@pytest.fixture
def tiny_wan(comfy: ModuleType) -> ModuleType:
    import tiny_wan

    return tiny_wan


def make_job(tiny_wan, root: Path, on_progress=lambda progress: None, mode: str = "exact"):
    import torch
    from lemica.calibration import Sample
    from lemica.calibration.job import Job, Settings
    from lemica.calibration.sampling import AttachedModel, ksampler_sampling
    from lemica.schedules import ModelIdentity, Rule

    sampling = ksampler_sampling(
        AttachedModel(tiny_wan.make_wan()), tiny_wan.conditioning(11), tiny_wan.conditioning(12),
        {"samples": torch.zeros(tiny_wan.LATENT_SHAPE)}, Sample("noise", 4), 5, 3.0, "euler", "simple",
    )
    settings = Settings(
        family="test", model=ModelIdentity("WAN21", "WanModel"), mode=mode, metric="l1", rules=(Rule("output", "hold"),),
        longest=3, budgets=(3,) if mode == "exact" else (4, 3), tries=2,
    )
    return Job(root, "faulty", [sampling], settings, on_progress=on_progress)


@pytest.mark.parametrize("mode, what", [
    ("exact", "run-"), ("exact", "replays-"), ("exact", "paths"), ("exact", "folder"), ("short", "run-"), ("short", "walk-"),
    ("short", "fits"), ("short", "folder"),
])
def test_files_that_are_removed_while_a_job_runs_are_written_again(tiny_wan, tmp_path, mode, what):
    whole = make_job(tiny_wan, tmp_path / "whole", mode=mode).run()
    told, removed = [], []

    def remove(progress) -> None:
        told.append(progress)
        folder = job.folder.path
        files = [folder] if what == "folder" else list(folder.glob(f"{what}*"))
        if (len(told) % 3 == 0 or what == "fits") and files and files[0].exists():
            shutil.rmtree(folder) if what == "folder" else files[0].unlink()
            removed.append(files[0])

    job = make_job(tiny_wan, tmp_path / "removed", remove, mode)
    result = job.run()
    assert removed and np.array_equal(result.graph.errors, whole.graph.errors)
    assert result.outcomes == whole.outcomes
    again = make_job(tiny_wan, tmp_path / "removed", mode=mode).run()
    assert np.array_equal(again.graph.errors, whole.graph.errors) and again.outcomes == whole.outcomes


def test_a_folder_that_is_removed_while_a_job_replays_holds_everything_at_its_end(tiny_wan, tmp_path):
    told = []

    def remove(progress) -> None:
        told.append(progress)
        if len(told) == 6:
            assert list(job.folder.path.glob("replays-*"))
            shutil.rmtree(job.folder.path)

    job = make_job(tiny_wan, tmp_path, remove)
    result = job.run()
    again = make_job(tiny_wan, tmp_path).run()
    assert again.computed == 0 and again.outcomes == result.outcomes
    assert np.array_equal(again.graph.errors, result.graph.errors)


def test_a_disk_that_is_full_stops_a_job_which_then_goes_on(tiny_wan, tmp_path, monkeypatch):
    whole = make_job(tiny_wan, tmp_path / "whole").run()
    fsync, written = os.fsync, []

    def full(handle: int) -> None:
        written.append(handle)
        if len(written) % 4 == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr("os.fsync", full)
    stops, result = 0, None
    while result is None:
        try:
            result = make_job(tiny_wan, tmp_path / "full").run()
        except OSError as error:
            assert error.errno == error.__cause__.errno == errno.ENOSPC
            assert "what was measured is kept" in str(error) and "queue the calibration again" in str(error)
            stops += 1
    assert stops > 2 and np.array_equal(result.graph.errors, whole.graph.errors)
    assert not list((tmp_path / "full").rglob("*.tmp"))


def test_a_folder_of_a_job_that_is_a_link_is_refused(tiny_wan, tmp_path):
    from lemica.calibration.half_run import half_run
    from lemica.calibration.job_error import JobError

    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "job.json").write_text("{}")
    job = make_job(tiny_wan, tmp_path / "root")
    job.folder.path.parent.mkdir()
    job.folder.path.symlink_to(tmp_path / "outside", target_is_directory=True)
    with pytest.raises(JobError, match="link"):
        job.run()
    assert half_run(tmp_path / "root", set()) == ([], [])
    assert sorted(path.name for path in (tmp_path / "outside").iterdir()) == ["job.json"]
