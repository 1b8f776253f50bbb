"""Kills saving, renaming, merging, importing and deleting: `tests/run --script tests/kill_changes.py --kills 500`.

A process that changes the schedules and calibrations of a directory in a loop is ended by SIGKILL at random moments, while
this one reads the directory all the time. Prints how many kills it took, how many changes were completed, how often the
directory was read, and what went wrong: files that could not be read, names that were lost, content that was neither the
old nor the new. What the killed processes left behind is counted and then removed, as the pack does when it saves.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import sys
import tempfile
import time
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = [f"name {number}" for number in range(8)]

State = dict[str, dict[str, list[int]]]
"""By kind and name, what tells the content."""


def enter_pack() -> None:
    """Make the pack importable; none of this needs ComfyUI."""
    pack = types.ModuleType("lemica")
    pack.__path__ = [str(ROOT)]
    sys.modules["lemica"] = pack
    sys.path.insert(0, str(ROOT / "tests"))


def stores(folder: Path):
    from lemica.calibration.store import Calibrations
    from lemica.schedules import Library

    return {
        "schedule": Library(ROOT / "schedules" / "library", folder / "schedules"),
        "calibration": Calibrations(folder / "calibrations"),
    }


def make_schedule(name: str, tag: int):
    from lemica.schedules import Schedule
    from route_requests import schedule

    return Schedule.from_json({"schema": 1, "name": name, **schedule(source={"tag": [tag], "text": "x" * 20_000})})


def make_graph(tag: int):
    from lemica.calibration import Sample
    from route_requests import make_graph

    return make_graph(12, 8, samples=(Sample("a cat", tag), Sample("a dog", tag)))


def read(folder: Path) -> State:
    """What fresh eyes see in the directory; raises where a file cannot be read."""
    schedules, calibrations = stores(folder).values()
    problems = [*schedules.problems(), *calibrations.problems()]
    if problems:
        raise AssertionError(problems)
    return {
        "schedule": {schedule.name: list(schedule.source["tag"]) for schedule in schedules.own()},
        "calibration": {name: sorted({one.seed for one in graph.samples}) for name, graph in calibrations.all()},
    }


def plan(draw: random.Random, state: State, tag: int) -> tuple[list, State]:
    """A change that can be made to this state, and the state afterwards."""
    kind = draw.choice(["schedule", "calibration"])
    after = json.loads(json.dumps(state))
    names, known = after[kind], sorted(after[kind])
    free = [name for name in NAMES if name not in names]
    possible = ["save"]
    possible += ["import"] * bool(free) + ["rename"] * bool(free and known) + ["delete"] * (len(known) > 4)
    possible += ["merge"] * (kind == "calibration" and bool(free) and len(known) > 1)
    what = draw.choice(possible)
    if what == "save":
        arguments = [draw.choice(NAMES)]
        names[arguments[0]] = [tag]
    elif what == "import":
        arguments = [free[0]]
        names[free[0]] = [tag]
    elif what == "rename":
        arguments = [draw.choice(known), free[0]]
        names[free[0]] = names.pop(arguments[0])
    elif what == "merge":
        arguments = [*draw.sample(known, 2), free[0]]
        names[free[0]] = sorted({*names[arguments[0]], *names[arguments[1]]})
    else:
        arguments = [draw.choice(known)]
        del names[arguments[0]]
    return [kind, what, *arguments, tag], after


def change(folder: Path, kind: str, what: str, *arguments) -> None:
    """Make a change as the routes make it."""
    store, (*names, tag) = stores(folder)[kind], arguments
    if what in ("save", "import") and kind == "schedule":
        schedule = make_schedule(names[0], tag)
        store.save(schedule) if what == "save" else store.import_bytes(json.dumps(schedule.to_json()).encode())
    elif what == "save":
        store.save(names[0], make_graph(tag))
    elif what == "import":
        with tempfile.TemporaryDirectory(dir=folder) as other:
            make_graph(tag).save(Path(other) / "x.safetensors")
            store.import_file(io.BytesIO((Path(other) / "x.safetensors").read_bytes()), names[0])
    elif what == "rename":
        store.rename(*names)
    elif what == "merge":
        store.merge(*names)
    else:
        store.delete(names[0])


def work(folder: Path, seed: int) -> None:
    """Change things until killed; every change is written down before and after."""
    draw, state = random.Random(seed), read(folder)
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in range(1_000_000):
        order, after = plan(draw, state, seed * 1000 + number)
        os.write(log, (json.dumps([order, state, after]) + "\n").encode())
        change(folder, *order)
        os.write(log, b"done\n")
        state = after


def reconcile(folder: Path, found: State) -> tuple[int, list[str]]:
    """How many changes were completed, and what is amiss with what was found after them."""
    lines = (folder / "log").read_text().splitlines() if (folder / "log").exists() else []
    if not lines:
        return 0, []
    done = lines.count("done")
    (kind, what, *arguments), before, after = json.loads([line for line in lines if line != "done"][-1])
    if lines[-1] == "done":
        return done, [] if found == after else [f"after {what} {arguments}: {found} instead of {after}"]
    wrong = []
    for one in before:
        for name in {*before[one], *after[one], *found[one]}:
            allowed = [before[one].get(name), after[one].get(name)]
            if found[one].get(name) not in allowed:
                wrong.append(f"in {what} {arguments}: {name} is {found[one].get(name)}, not of {allowed}")
    if what == "rename" and not {arguments[0], arguments[1]} & found[kind].keys():
        wrong.append(f"in {what} {arguments}: neither name is there")
    return done, wrong


def live(folder: Path, seed: int, seconds: float) -> tuple[int, list[str]]:
    """One life of the process that changes things; how often the directory was read meanwhile, and what was amiss."""
    (folder / "log").unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            work(folder, seed)
        finally:
            os._exit(1)
    end, reads, wrong = time.monotonic() + seconds, 0, []
    while time.monotonic() < end:
        try:
            read(folder)
        except AssertionError as error:
            wrong.append(f"read while changed: {error}")
        reads += 1
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        wrong.append(f"a change failed: status {status}")
    return reads, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    enter_pack()
    from lemica.schedules.atomic import PREFIX, remove_left

    draw = random.Random(arguments.seed)
    said = {"kills": 0, "changes": 0, "killed_in_a_change": 0, "reads": 0, "left": 0, "left_after_cleaning": 0, "wrong": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_graph(0), read(folder)
        while said["kills"] < arguments.kills:
            reads, wrong = live(folder, said["kills"] + 1, draw.uniform(0.005, 0.25))
            said["kills"] += 1
            said["reads"] += reads
            done, lost = reconcile(folder, read(folder))
            said["changes"] += done
            log = folder / "log"
            said["killed_in_a_change"] += log.exists() and not log.read_bytes().endswith(b"done\n")
            said["wrong"] += [*wrong, *lost]
        for kind in ("schedules", "calibrations"):
            said["left"] += len(list((folder / kind).glob(f"{PREFIX}*"))) + len(list((folder / kind).glob(".import-*")))
            remove_left(folder / kind, 0)
            said["left_after_cleaning"] += len(list((folder / kind).glob(f"{PREFIX}*")))
    print(json.dumps(said))


if __name__ == "__main__":
    main()
