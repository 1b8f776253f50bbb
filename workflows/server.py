"""Starts the real ComfyUI server with this pack in it, and stops it again."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from .environment import ComfyUI, cache_root
from .failure import Failure

PACK = Path(__file__).resolve().parent.parent
START_SECONDS = 900
"""A ComfyUI with many custom nodes takes minutes; a server that dies is noticed at once."""


class Server:
    """A ComfyUI server on a free port of this machine, up between `with` and its end.

    Its page is ComfyUI's own unless `frontend` is the folder of another one.

    Outputs and log go to `output`; what the server would write beside them (settings, database, temporary files) goes
    to folders of ours, so that a user's own ComfyUI stays as it is.

    Args:
        base: a folder with the custom nodes and models of the server, in place of ComfyUI's own and of this pack.
    """

    def __init__(
        self, comfy: ComfyUI, output: Path, user: Path | None = None, port: int = 0, base: Path | None = None,
        frontend: Path | None = None,
    ) -> None:
        self.comfy = comfy
        self._base = base
        self.frontend = frontend
        self.output = output.absolute()
        self.log = self.output / "server.log"
        self.user = (user or cache_root() / "user").absolute()
        self._port = port or _free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: Path | None = None

    def __enter__(self) -> Server:
        self.output.mkdir(parents=True, exist_ok=True)
        self.user.mkdir(parents=True, exist_ok=True)
        self._scratch = Path(tempfile.mkdtemp(prefix="lemica-"))
        try:
            command = self._command(self._scratch)
            with self.log.open("wb") as log:
                log.write(f"$ {shlex.join(command)}\n".encode())
                log.flush()
                self._process = subprocess.Popen(
                    command,
                    cwd=self.comfy.path,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=os.environ | {"PYTHONUNBUFFERED": "1"},
                    start_new_session=os.name != "nt",  # Ctrl-C reaches us alone, and we stop the server
                )
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server, politely first, and remove its temporary files."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGINT)
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def running(self) -> bool:
        """Whether the server process is alive."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> None:
        """Return when the server ends by itself."""
        if self._process is not None:
            self._process.wait()

    def get(self, path: str) -> Any:
        """Return the JSON that the server answers at this path."""
        with urllib.request.urlopen(self.url + path, timeout=120) as answer:
            return json.load(answer)

    def object_info(self) -> dict[str, Any]:
        """Return the description of every node type."""
        return self.get("/object_info")

    def log_tail(self, lines: int = 25) -> str:
        """Return the end of the server's log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def _command(self, scratch: Path) -> list[str]:
        main = [str(self.comfy.python), "main.py", "--listen", "127.0.0.1", "--port", str(self._port)]
        folders = ["--output-directory", str(self.output), "--temp-directory", str(scratch)]
        folders += ["--user-directory", str(self.user), "--database-url", "sqlite:///:memory:"]
        if self.comfy.owned:
            inputs = cache_root() / "input"
            inputs.mkdir(parents=True, exist_ok=True)
            folders += ["--input-directory", str(inputs), "--disable-api-nodes"]
        options = ["--disable-auto-launch", *_device_options(), *shlex.split(os.environ.get("COMFYUI_ARGS", ""))]
        if self.frontend is not None:
            folders += ["--front-end-root", str(self.frontend)]
        if self._base is not None:
            folders += ["--base-directory", str(self._base)]
        elif not _holds_pack(self.comfy.path / "custom_nodes"):
            folders += ["--extra-model-paths-config", str(_custom_nodes(scratch))]
        return main + folders + options

    def _wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if not self.running():
                raise Failure(f"{self.log_tail()}\nThe ComfyUI server ended while it was starting; its log: {self.log}")
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
        raise Failure(f"{self.log_tail()}\nThe ComfyUI server did not answer in {START_SECONDS} s; its log: {self.log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _device_options() -> list[str]:
    import torch

    accelerators = (torch.cuda, torch.backends.mps, torch.xpu)
    return [] if any(accelerator.is_available() for accelerator in accelerators) else ["--cpu"]


def _holds_pack(custom_nodes: Path) -> bool:
    return custom_nodes.is_dir() and any(entry.resolve() == PACK for entry in custom_nodes.iterdir())


def _custom_nodes(scratch: Path) -> Path:
    """Make one more custom_nodes folder that holds this pack, and the configuration file that tells ComfyUI of it."""
    link = scratch / "custom_nodes" / "ComfyUI-LeMiCa"
    link.parent.mkdir()
    try:
        link.symlink_to(PACK, target_is_directory=True)
    except OSError:  # Windows gives the right to make links to developers only
        shutil.copytree(PACK, link, ignore=shutil.ignore_patterns(".*", "__pycache__", "output-lemica"))
    config = scratch / "custom_nodes.yaml"
    config.write_text(json.dumps({"lemica": {"custom_nodes": str(link.parent)}}), encoding="utf-8")
    return config
