"""The connection to the process that speaks Ray."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from multiprocessing.connection import Client, Connection
from pathlib import Path

from ..job_error import JobError

LINK = Path(__file__).with_name("link.py")
CLOSING = 15.0
"""How long the process may take to put things away, in seconds."""

RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_worker_niceness": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "20",
}
"""No statistics are sent to anybody, no folder to workers; a worker of this machine has the priority that ComfyUI has, and
a head that is gone is noticed soon."""


class ChannelError(JobError):
    """The process did not start."""


class Channel:
    """Starts the process, and exchanges messages with it.

    Args:
        python: the Python that has Ray.
        address: of the cluster.
        workers: how many are to find room in a cluster that is started here.
    """

    def __init__(self, python: str, address: str, workers: int) -> None:
        key = os.urandom(32)
        self._process = subprocess.Popen(
            [python, str(LINK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | RAY,
            start_new_session=os.name != "nt",  # Ctrl-C reaches the calibration, which ends this
        )
        self._process.stdin.write(key.hex().encode() + b"\n")
        self._process.stdin.close()
        port = self._process.stdout.readline().strip()
        if not port:
            raise ChannelError(f"{python} could not start {LINK.name}: see the log for why.")
        self._connection: Connection = Client(("127.0.0.1", int(port)), authkey=key)
        self._connection.send((address, workers))

    def send(self, *message: object) -> None:
        """Send a message; one to a process that is gone is dropped, ``receive`` tells of that."""
        try:
            self._connection.send(message)
        except OSError:
            return

    def receive(self, seconds: float) -> list[tuple]:
        """All messages there are, after waiting so long for a first one; the last is ("gone",) where the process is."""
        found = []
        try:
            while self._connection.poll(0.0 if found else seconds):
                found.append(self._connection.recv())
        except (EOFError, OSError):
            found.append(("gone",))
        return found

    def first(self, check: Callable[[], None]) -> tuple:
        """The first message of all."""
        while True:
            check()
            if messages := self.receive(0.1):
                return messages[0]

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        end = time.monotonic() + CLOSING
        while self._process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
