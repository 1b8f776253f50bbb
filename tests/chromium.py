"""Drives ComfyUI's page in Chromium by the scripts in tests/web/chromium."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lemica.workflows.environment import ComfyUI

SCRIPTS = Path(__file__).resolve().parent / "web" / "chromium"
PLAYWRIGHT = "playwright-core@1"
FRONTEND = "comfyui-frontend-package==1.58.1"
"""The newest on PyPI in November 2026; ComfyUI 0.30.0 itself has 1.47.12."""

FRONTENDS = ("server", "newest_server")
"""The fixtures of the servers, by the frontend that they have."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def browser() -> str:
    """The path of a Chromium; LEMICA_CHROMIUM names another one. Skips the test where there is none."""
    names = [os.environ["LEMICA_CHROMIUM"]] if "LEMICA_CHROMIUM" in os.environ else BROWSERS
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"No browser: install Chromium, or set LEMICA_CHROMIUM (looked for {', '.join(names)}).")
    return found


def playwright() -> Path:
    """The folder of playwright-core, installed into the cache once. Skips the test where that cannot be."""
    from lemica.workflows.environment import cache_root

    folder = cache_root() / "playwright"
    module = folder / "node_modules" / "playwright-core"
    if not (module / "package.json").is_file():
        if shutil.which("node") is None or shutil.which("npm") is None:
            pytest.skip("Chromium is driven by playwright-core, which needs node and npm: install Node.js.")
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, PLAYWRIGHT]
        installed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if installed.returncode:
            pytest.skip(f"playwright-core cannot be installed into {folder}: {installed.stderr[-300:]}")
    return module


def newest_frontend(comfyui: ComfyUI) -> Path:
    """The folder of the newest frontend, installed into the cache once. Skips the test where that cannot be."""
    from lemica.workflows.environment import package_folder
    from lemica.workflows.failure import Failure

    browser()  # without one there is nothing to start a server for
    try:
        return package_folder(comfyui, FRONTEND) / "comfyui_frontend_package" / "static"
    except Failure as failure:
        pytest.skip(f"{FRONTEND} cannot be installed: {failure}")


def drive(script: str, url: str, timeout: float = 600, **given: Any) -> dict[str, Any]:
    """Run a script on the page of a server; it gets ``given``, and its last line is what it found, in JSON."""
    told = {"url": url, **given}
    variables = {"LEMICA_BROWSER": browser(), "LEMICA_PLAYWRIGHT": str(playwright())}
    command = ["node", SCRIPTS / script, json.dumps(told, default=str)]
    # Killed with its browser, whose processes would stay otherwise.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | variables, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException:
        os.killpg(process.pid, 9)
        process.wait()
        raise
    assert process.returncode == 0, f"{out[-3000:]}\n{err[-3000:]}"
    return json.loads(out.strip().splitlines()[-1])
