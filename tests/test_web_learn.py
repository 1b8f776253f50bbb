"""Learning from pictures on ComfyUI's page, in Chromium: from the first picture to the badge, and the list in the sidebar."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import drive

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = ROOT / "example_workflows" / "demo_video.json"
STEPS = 12


@pytest.fixture(scope="module")
def page(server) -> Iterator:
    shutil.rmtree(server.user / "lemica", ignore_errors=True)
    server.pictures.mkdir(exist_ok=True)
    yield server
    shutil.rmtree(server.user / "lemica", ignore_errors=True)


@pytest.fixture(scope="module")
def found(page) -> dict:
    return drive("learn.mjs", page.url, workflow=WORKFLOW, pictures=page.pictures)


def test_the_node_says_before_a_run_that_it_will_be_a_full_one(found):
    before = found["before"]
    assert before["computed"] == list(range(STEPS)) and "a full run, to learn from: 1 of 3" in before["notes"]


def test_three_full_runs_count_up(found):
    for number, run in enumerate(found["runs"], start=1):
        assert run["error"] in (None, "") and run["origin"] == "learning"
        assert run["count"] == f"{STEPS} of {STEPS} computed" and f"a full run, to learn from: {number} of 3" in run["notes"]


def test_then_it_is_fast_and_says_from_what(found):
    assert "solved from 3 of your pictures" in found["planned"]["notes"]
    fast = found["fast"]
    assert fast["origin"] == "learned" and len(fast["computed"]) < STEPS
    assert "solved from 3 of your pictures" in fast["notes"]


def test_the_sidebar_lists_what_was_learned_from_and_forgets_it_on_demand(page, found):
    assert all(entry.startswith("picture of ") for entry in found["listed"]["entries"])
    assert {"model", "sampler", "cfg", "latent", "seed"} <= set(found["details"]["facts"])
    assert found["details"]["actions"] == ["Leave out", "Rename…", "Delete…"]
    assert found["leftOut"]["badges"] == ["learned", "left out"] and len(found["leftOut"]["entries"]) == 3
    assert len(found["renamed"]["entries"]) == 3
    assert len(list((page.user / "lemica" / "learned").glob("*.safetensors"))) == 2


def test_nothing_of_ours_complains_in_the_console(found):
    assert found["problems"] == []
