"""The LeMiCa node and the library on ComfyUI's page, in Chromium."""

from __future__ import annotations

WORKFLOW = "demo_video.json"
