"""The LeMiCa node and the library on ComfyUI's page, in Chromium."""

from __future__ import annotations

import pytest
from chromium import drive

WORKFLOW = "demo_video.json"
