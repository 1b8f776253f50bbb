"""The user's directory of schedules: reading, writing and everything that can be wrong with a file in it."""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import lemica.schedules
import pytest
from lemica.schedules import Library, ScheduleError, dump_json, load_schedule_file
from lemica.schedules.store import MAX_BYTES, NameTakenError, file_name
from test_schedules_schedule import make

PACKAGED = Path(lemica.schedules.__file__).parent / "library"


@pytest.fixture
def user(tmp_path):
    return tmp_path / "schedules"


@pytest.fixture
def library(user):
    return Library(PACKAGED, user)


def test_saved_schedule_comes_back(library, user):
    schedule = make(source={"text": 'a, [b]  "c"', "list": ["x,  y", "z"]})
    path = library.save(schedule)
    assert path.parent == user
    assert Library(PACKAGED, user).get(schedule.name) == schedule
    assert library.schedules()[0] == schedule
    assert library.schedules("demo") == library.own() == (schedule,)
    assert '"computed": [0, 2]' in path.read_text(encoding="utf-8")
    assert [file.name for file in user.iterdir()] == [path.name]


def test_saving_again_replaces_and_the_cache_notices(library):
    library.save(make())
    library.get("demo/b2")
    library.save(make(computed=(0, 3), source={"run": 2}))
    assert library.get("demo/b2").computed == (0, 3)
    assert len(library.own()) == 1


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "..", "C:\\x", "CON", "a/b", "\u6d4b\u8bd5", "A/B", "x" * 120]
)
def test_names_never_become_paths(library, user, name):
    path = library.save(make(name=name))
    assert path.parent == user and path.resolve().parent == user.resolve()
    assert len(path.name) < 90 and path.name.isascii()
    assert library.get(name).name == name
    library.delete(name)
    assert not path.exists()


def test_names_that_look_alike_keep_apart():
    assert len({file_name(name) for name in ("a/b", "a-b", "A/b", "a b", "\u6d4b", "\u8bd5")}) == 6


def test_crash_while_writing_leaves_the_old_file(library, user, monkeypatch):
    library.save(make())

    def refuse(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        library.save(make(computed=(0, 3)))
    assert library.get("demo/b2").computed == (0, 2)
    assert len(list(user.iterdir())) == 1


def test_rename_writes_before_it_removes(library, user, monkeypatch):
    library.save(make())
    assert library.rename("demo/b2", "mine").name == "mine"
    assert [schedule.name for schedule in library.own()] == ["mine"]

    def crash(path, missing_ok=False):
        raise OSError("killed")

    monkeypatch.setattr(Path, "unlink", crash)
    with pytest.raises(OSError, match="killed"):
        library.rename("mine", "yours")
    assert sorted(schedule.name for schedule in library.own()) == ["mine", "yours"]


def test_rename_refuses_a_taken_or_wrong_name(library):
    library.save(make())
    library.save(make(name="other"))
    for new in ("other", "flux.1-dev/b15", "", "a\nb"):
        with pytest.raises(ScheduleError):
            library.rename("demo/b2", new)
    assert len(library.own()) == 2


def test_packaged_schedules_are_read_only(library):
    packaged = library.get("flux.1-dev/b15")
    for change in (
        lambda: library.save(replace(packaged, origin="custom")),
        lambda: library.delete(packaged.name),
        lambda: library.rename(packaged.name, "mine"),
    ):
        with pytest.raises(ScheduleError, match="read only"):
            change()
    with pytest.raises(ScheduleError, match="user directory"):
        Library(PACKAGED).save(make())


def test_unknown_name_lists_near_ones(library):
    with pytest.raises(ScheduleError, match="flux.1-dev/b15"):
        library.get("flux1-dev/b15")
    with pytest.raises(ScheduleError, match="no schedule"):
        library.delete("flux1-dev/b15")


BROKEN = {
    "empty": b"",
    "blank": b" \n",
    "truncated": dump_json(make().to_json()).encode()[:-20],
    "text": b"hello",
    "list": b"[]",
    "null": b"null",
    "nan": dump_json(make().to_json()).replace("0.75", "NaN").encode(),
    "infinity": dump_json(make().to_json()).replace("0.75", "-Infinity").encode(),
    "huge number": dump_json(make().to_json()).replace("0.75", "9" * 5000).encode(),
    "overflow": dump_json(make().to_json()).replace("0.75", "1e999").encode(),
    "deep": b"[" * 200_000 + b"]" * 200_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "not utf-8": b'{"name": "\xff"}',
    "too large": dump_json(make(name="large").to_json()).encode() + b" " * MAX_BYTES,
    "newer": json.dumps({**make().to_json(), "schema": 99}).encode(),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_file_is_named_and_leaves_the_others(library, user, caplog, kind):
    library.save(make())
    broken = user / "a-broken.json"
    broken.write_bytes(BROKEN[kind])
    with pytest.raises(ScheduleError, match="a-broken.json"):
        load_schedule_file(broken)
    with caplog.at_level(logging.WARNING, logger="LeMiCa"):
        assert library.get("demo/b2") == make()
        library.schedules()
        problems = library.problems()
    assert len(problems) == 1 and problems[0].startswith("a-broken.json: ")
    assert len(caplog.records) == 1
    broken.write_text(dump_json(make(name="mended").to_json()), encoding="utf-8")
    assert library.problems() == []
    assert library.get("mended")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_file_that_is_no_file(library, user):
    library.save(make())
    (user / "folder.json").mkdir()
    os.mkfifo(user / "pipe.json")
    (user / "dangling.json").symlink_to(user / "nowhere.json")
    (user / "loop.json").symlink_to(user / "loop.json")
    assert len(library.problems()) == 4
    assert library.own() == (make(),)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("nan", "holds NaN"), ("infinity", "holds -Infinity"), ("empty", "empty"), ("deep", "too deeply")],
)
def test_broken_file_says_what_is_wrong(tmp_path, kind, words):
    path = tmp_path / "broken.json"
    path.write_bytes(BROKEN[kind])
    with pytest.raises(ScheduleError, match=words):
        load_schedule_file(path)


def test_links_out_of_the_directory_are_not_followed(library, user, tmp_path):
    library.save(make())
    outside = tmp_path / "outside.json"
    outside.write_text(dump_json(make(name="outside").to_json()), encoding="utf-8")
    (user / "link.json").symlink_to(outside)
    assert [schedule.name for schedule in library.own()] == ["demo/b2"]
    assert "link out of the directory" in library.problems()[0]
    (user / file_name("mine")).symlink_to(outside)
    with pytest.raises(NameTakenError, match=file_name("mine")):
        library.save(make(name="mine"))
    assert load_schedule_file(outside).name == "outside"
    assert (user / file_name("mine")).is_symlink()


OTHERS = {
    "newer": b'{"schema": 99, "name": "mine", "more": [1, 2]}', "broken": b"{", "empty": b"", "large": b" " * (MAX_BYTES + 1),
    "another": dump_json(make(name="another").to_json()).encode(),
}


@pytest.mark.parametrize("held", [*OTHERS, "folder", "dangling"])
def test_a_file_that_holds_something_else_keeps_its_name(library, user, held):
    library.save(make(name="old"))
    path = user / file_name("mine")
    if held == "folder":
        path.mkdir()
    elif held == "dangling":
        path.symlink_to("nowhere")
    else:
        path.write_bytes(OTHERS[held])
    before = {file.name: file.lstat().st_ino for file in user.iterdir()}
    for change in (lambda: library.save(make(name="mine")), lambda: library.rename("old", "mine")):
        with pytest.raises(NameTakenError, match=f"{file_name('mine')}.*move that file away"):
            change()
    assert {file.name: file.lstat().st_ino for file in user.iterdir()} == before
    assert held not in OTHERS or path.read_bytes() == OTHERS[held]
    assert library.import_bytes(dump_json(make(name="mine").to_json()).encode()).name == "mine (2)"
    assert library.get("old").name == "old"


def test_a_directory_that_cannot_be_read_is_named(library, user):
    user.symlink_to(user.name)
    assert library.own() == () and library.stamps() == []
    assert library.problems() == ["schedules: the folder cannot be read, Too many levels of symbolic links."]


def test_two_files_of_one_name(library, user):
    path = library.save(make())
    (user / "zz-copy.json").write_bytes(path.read_bytes())
    assert len(library.own()) == 1
    assert "same name" in library.problems()[0]


def test_missing_directory_is_empty(library):
    assert library.own() == () and library.problems() == []
    assert len(library.schedules()) >= 39
