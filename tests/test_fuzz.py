"""A few hundred odd and hostile inputs for every parser and route; `fuzz.py` is the command that tries many more."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CASES = 120
PARSERS = [
    "schedule file", "graph file", "job folder", "node texts", "files that change", "request headers",
    "GET library", "GET jobs", "GET calibration", "GET export", "POST plan", "POST cost", "POST kept", "POST solve",
    "POST save", "POST undo", "POST rename", "POST delete", "POST leave_out", "POST merge", "POST import",
]


@pytest.fixture(scope="module")
def watch(comfy: ModuleType):
    """Sees what is opened; there is no taking an audit hook back, so there is one."""
    import fuzz_ground
    import lemica.nodes.routes  # noqa: F401  before anything is watched

    return fuzz_ground.Watch()


@pytest.fixture(scope="module")
def ground(watch, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    import fuzz_ground

    logger = logging.getLogger("LeMiCa")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    with fuzz_ground.ground_of(Path(tmp_path_factory.mktemp("fuzz")), watch) as ground:
        yield ground
    logger.setLevel(level)


def test_every_route_is_fuzzed(ground):
    import fuzz
    import fuzz_guided
    from lemica.nodes.routes import ROUTES

    assert list(fuzz.targets(ground)) == PARSERS
    routes = {f"{method} {name}" for method, name, _ in ROUTES}
    assert routes <= set(PARSERS)
    assert {route for route in routes if route.startswith("POST")} <= set(fuzz_guided.PARSERS) <= set(PARSERS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PARSERS)
def test_hostile_input_is_refused_or_works(ground, watch, name):
    import fuzz

    ground.reset()
    cases = fuzz.cases_of(name, CASES)
    said = fuzz.fuzz(fuzz.targets(ground)[name], name, iter(range(cases)), watch)
    assert said.failures == []
    assert said.cases == cases and said.ends["accepted"] > 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["schedule file", "graph file"])
def test_hostile_files_that_hypothesis_finds(ground, watch, name):
    import fuzz

    target = fuzz.targets(ground)[name]

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.randoms(use_true_random=False))
    def check(draw: Random) -> None:
        assert fuzz.fuzz(target, name, iter([draw]), watch).failures == []

    check()


def test_the_watch_sees_what_is_opened_outside(ground, watch):
    import fuzz

    def look_outside(draw: Random) -> None:
        (ground.folder / "secret.json").read_bytes()

    (failure,) = fuzz.fuzz(look_outside, "outside", iter([0]), watch).failures
    assert "secret.json" in failure


def test_a_crash_is_counted(ground, watch):
    import fuzz

    def crash(draw: Random) -> None:
        raise KeyError("lost")

    said = fuzz.fuzz(crash, "crash", iter([0, 1]), watch)
    assert len(said.failures) == 2 and said.ends["failed"] == 2
