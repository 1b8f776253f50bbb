"""The directory of calibrations: files that hold something else, that cannot be read, and that change while they are read."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from lemica.calibration.half_run import half_run
from lemica.calibration.job_error import JobError
from lemica.calibration.job_folder import JobFolder, folder_name
from lemica.calibration.segments import GraphError
from lemica.calibration.store import Calibrations, CalibrationTakenError
from lemica.calibration.tensor_file import parsed
from route_requests import make_graph

ROOT = Path(__file__).resolve().parent.parent


def tensors_file(metadata: dict[str, str], body: bytes = b"", **entries: object) -> bytes:
    """A safetensors file of this header, right or wrong."""
    header = json.dumps({"__metadata__": metadata, **entries}).encode()
    return struct.pack("<Q", len(header)) + header + body


def entry(dtype: object, shape: object, begin: object = 0, end: object = 0) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HUGE = 1 << 60
OVERFLOWING = {"segments": entry("I32", [0, HUGE]), "errors": entry("F64", [HUGE, 0])}


@pytest.mark.parametrize(
    "entries, body",
    [
        (OVERFLOWING, b""),
        ({"a": entry("I32", [1 << 32, 1 << 32, 0])}, b""),
        ({"a": entry("F64", [1 << 31, 1 << 31, 2], 0, 0)}, b""),
        ({"a": entry("F64", [1 << 61], 0, 8)}, b"x" * 8),
        ({"a": entry("F64", [-1, -1], 0, 8)}, b"x" * 8),
        ({"a": entry("F64", [True], 0, 8)}, b"x" * 8),
        ({"a": entry("F64", [1.0], 0, 8)}, b"x" * 8),
        ({"a": entry("F64", "1", 0, 8)}, b"x" * 8),
        ({"a": entry("F64", [1] * 40, 0, 8)}, b"x" * 8),
        ({"a": entry("F64", [2], 0, 8)}, b"x" * 8),
        ({"a": entry("F64", [1], 8, 0)}, b"x" * 8),
        ({"a": entry("F64", [1], 0, 1 << 62)}, b"x" * 8),
        ({"a": entry("F64", [1], 8, 16)}, b"x" * 16),
        ({"a": entry("F64", [1], 0, 8), "b": entry("F64", [1], 0, 8)}, b"x" * 8),
        ({"a": entry("F64", [1], 0, 8)}, b"x" * 16),
        ({"a": entry("BF16", [4], 0, 8)}, b"x" * 8),
        ({"a": entry(["F64"], [1], 0, 8)}, b"x" * 8),
        ({"a": [1]}, b""),
        ({"a": {"dtype": "F64", "shape": [0]}}, b""),
    ],
)
def test_a_header_that_tells_nothing_sensible_is_refused(entries, body):
    with pytest.raises(GraphError):
        parsed(tensors_file({}, body, **entries))


@pytest.mark.parametrize("content", [
    b"", b"\0" * 7, b"\0" * 8, struct.pack("<Q", 2**64 - 1), struct.pack("<Q", 2) + b"[]",
    struct.pack("<Q", 100_000) + b"[" * 100_000, struct.pack("<Q", 2) + b"\xff\xff",
    struct.pack("<Q", 20) + b'{"__metadata__": [] }', struct.pack("<Q", 24) + b'{"__metadata__":{"a":1}}',
])
def test_a_header_that_is_none_is_refused(content):
    with pytest.raises(GraphError):
        parsed(content)


def test_every_type_is_read_as_it_was_written():
    import numpy as np
    from safetensors.numpy import save

    made = {
        str(dtype): np.arange(6).reshape(2, 3).astype(dtype)
        for dtype in ("?", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8")
    }
    made |= {"none": np.zeros((0, 4), np.int32), "scalar": np.array(3.0)}
    metadata, tensors = parsed(save(made, {"about": "\u00fc"}))
    assert metadata == {"about": "\u00fc"} and tensors.keys() == made.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == made[name].dtype and np.array_equal(tensor, made[name]) and tensor.shape == made[name].shape


@pytest.fixture
def stored(tmp_path) -> Calibrations:
    calibrations = Calibrations(tmp_path / "calibrations")
    calibrations.save("good", make_graph())
    return calibrations


def path_of(stored: Calibrations, name: str) -> Path:
    return stored.root / f"{folder_name(name)}.safetensors"


def test_whatever_lies_in_the_folder_the_list_goes_on_and_names_it(stored):
    (stored.root / "huge.safetensors").write_bytes(tensors_file({"lemica_error_graph": "{}"}, **OVERFLOWING))
    (stored.root / "folder.safetensors").mkdir()
    os.mkfifo(stored.root / "pipe.safetensors")
    job = stored.root / "job"
    job.mkdir()
    (job / "job.json").write_text("{}")
    for kind, tensor in (("run", "final"), ("replays", "replayed")):
        overflowing = tensors_file({"lemica_sample": "{}"}, **{tensor: entry("F64", [0, HUGE])})
        (job / f"{kind}-1.safetensors").write_bytes(overflowing)
        os.mkfifo(job / f"{kind}-2.safetensors")
    assert stored.names() == ["good"]
    assert [line.partition(":")[0] for line in stored.problems()] == [
        "folder.safetensors", "huge.safetensors", "pipe.safetensors",
    ]
    jobs, problems = half_run(stored.root, set())
    assert jobs == [{"folder": "job", "name": "job", "samples": 2, "replays": 0}]
    assert [line.partition(":")[0] for line in problems] == ["job/replays-1.safetensors", "job/replays-2.safetensors"]
    with pytest.raises(JobError, match="run-1.safetensors is no sample"):
        JobFolder(job, {}, 3).load_all()


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    calibrations = Calibrations(tmp_path / "loop")
    assert calibrations.names() == [] and half_run(tmp_path / "loop", set()) == ([], [])
    assert calibrations.problems() == ["loop: the folder cannot be read, Too many levels of symbolic links."]


READ_ON = """
import sys, types
pack = types.ModuleType("lemica"); pack.__path__ = [sys.argv[1]]; sys.modules["lemica"] = pack
from pathlib import Path
from lemica.calibration.half_run import half_run
from lemica.calibration.store import Calibrations
print("ready", flush=True)
reads = 0
while not (Path(sys.argv[2]) / "stop").exists():
    Calibrations(Path(sys.argv[2])).all(), half_run(Path(sys.argv[2]), set())
    reads += 1
print(reads, flush=True)
"""


def test_a_file_that_is_written_in_place_while_it_is_read_ends_nothing(stored):
    """Both kinds of files are shortened and filled again without a pause, as a copy in place does it."""
    stored.save("large", make_graph(50, 12, ("output hold", "output linear")))
    job = stored.root / "job"
    job.mkdir()
    (job / "job.json").write_text("{}")
    path, sample = path_of(stored, "large"), job / "replays-1.safetensors"
    contents = {
        path: path.read_bytes(), sample: tensors_file({}, bytes(800_000), replayed=entry("F64", [100_000], 0, 800_000)),
    }
    reader = subprocess.Popen([sys.executable, "-c", READ_ON, ROOT, stored.root], stdout=subprocess.PIPE, text=True)
    try:
        assert reader.stdout.readline() == "ready\n"
        for _ in range(300):
            for file, content in contents.items():
                with file.open("wb") as opened:
                    for start in range(0, len(content), 1 << 16):
                        opened.write(content[start : start + (1 << 16)])
                        opened.flush()
    finally:
        (stored.root / "stop").touch()
        told = reader.communicate(timeout=60)[0]
    assert reader.returncode == 0 and int(told) > 10


def newer(content: bytes) -> bytes:
    return content.replace(b'\\"schema\\": 1', b'\\"schema\\": 9')


@pytest.mark.parametrize("held", ["newer", "broken", "another", "folder", "dangling"])
def test_a_file_that_holds_something_else_keeps_its_name(stored, held):
    path, content = path_of(stored, "mine"), path_of(stored, "good").read_bytes()
    held_content = {"newer": newer(content), "broken": content[:50], "another": content}.get(held)
    if held == "folder":
        path.mkdir()
    elif held == "dangling":
        path.symlink_to("nowhere")
    else:
        path.write_bytes(held_content)
    stored.save("more", make_graph())
    before = {file.name: file.lstat().st_ino for file in stored.root.iterdir()}
    for change in (
        lambda: stored.save("mine", make_graph()), lambda: stored.rename("more", "mine"),
        lambda: stored.merge("good", "more", "mine"),
    ):
        with pytest.raises(CalibrationTakenError, match=f"{path.name}.*move that file away"):
            change()
    assert {file.name: file.lstat().st_ino for file in stored.root.iterdir()} == before
    assert held_content is None or path.read_bytes() == held_content
    make_graph(source={"name": "mine"}, metric="l2").save(stored.root.parent / "import")
    with (stored.root.parent / "import").open("rb") as file:
        assert stored.import_file(file, "x.safetensors") == "mine (2)"


def test_a_folder_that_is_a_link_stays_and_nothing_is_written_where_it_leads(stored, tmp_path):
    (tmp_path / "outside").mkdir()
    link = stored.root / folder_name("good")
    link.symlink_to(tmp_path / "outside", target_is_directory=True)
    stored.rename("good", "better")
    assert stored.names() == ["better"] and link.is_symlink()
    assert list((tmp_path / "outside").iterdir()) == []
