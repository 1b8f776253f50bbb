"""CONTRIBUTING.md against the code that it speaks of."""

from __future__ import annotations

from pathlib import Path

import pytest
from lemica.cache.host import BLOCK_POINTS, POINTS

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("point", (*POINTS, *BLOCK_POINTS), ids=str)
def test_contributors_are_told_of_every_point(point):
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Where the pack hooks into ComfyUI")[1]
    assert point.name.split(".")[-1] in table
