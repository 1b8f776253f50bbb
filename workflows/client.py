"""Queues a prompt over ComfyUI's HTTP API and follows it over the websocket."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from .failure import Failure
from .server import Server

Prompt = dict[str, dict[str, Any]]
"""ComfyUI's API format: node id -> class_type, inputs."""

LINE = 79
"""Columns of a line that is rewritten in place."""
LINE_SECONDS = 10.0
"""How often a calibration says where it stands, where lines cannot be rewritten."""


@dataclass
class Execution:
    """What became of one queued prompt."""

    prompt_id: str
    seconds: dict[str, float] = field(default_factory=dict)
    """Node id -> wall time of the nodes that ran."""
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Node id -> what the node reported to the page: files, text."""
    lemica: list[dict[str, Any]] = field(default_factory=list)
    """The `lemica.run` events, one per accelerated sampling run."""

    def files(self, folder: Path) -> dict[str, list[Path]]:
        """Return node id -> files that were saved into the server's output folder."""
        found: dict[str, list[Path]] = {}
        for node, output in self.outputs.items():
            for items in output.values():
                if isinstance(items, list):
                    paths = [
                        folder / item["subfolder"] / item["filename"]
                        for item in items
                        if isinstance(item, dict) and item.get("type") == "output" and "filename" in item
                    ]
                    found.setdefault(node, []).extend(paths)
        return {node: paths for node, paths in found.items() if paths}


def queue(server: Server, prompt: Prompt, report: Callable[[str], None] | None = None) -> Execution:
    """Run a prompt to its end; `report` gets lines of progress."""
    return asyncio.run(_queue(server, prompt, _Progress(prompt, report)))


async def _queue(server: Server, prompt: Prompt, progress: _Progress) -> Execution:
    client = uuid.uuid4().hex
    async with aiohttp.ClientSession(server.url, timeout=aiohttp.ClientTimeout(total=None, connect=30)) as session:
        async with session.ws_connect("/ws", params={"clientId": client}, max_msg_size=0) as socket:
            async with session.post("/prompt", json={"prompt": prompt, "client_id": client}) as answer:
                told = await answer.json(content_type=None)
            if answer.status != 200 or told.get("node_errors"):
                raise Failure(f"ComfyUI refused the workflow.\n{_refusal(told, prompt)}")
            execution = Execution(told["prompt_id"])
            await _follow(socket, execution, progress, server)
        async with session.get(f"/history/{execution.prompt_id}") as answer:
            history = await answer.json()
    execution.outputs = history[execution.prompt_id]["outputs"]
    return execution


async def _follow(
    socket: aiohttp.ClientWebSocketResponse, execution: Execution, progress: _Progress, server: Server
) -> None:
    running: str | None = None
    since = 0.0
    async for message in socket:
        if message.type != aiohttp.WSMsgType.TEXT:
            continue  # previews
        event = json.loads(message.data)
        kind, data = event["type"], event.get("data") or {}
        if kind == "lemica.run":
            execution.lemica.append(data)
            continue
        if kind == "lemica.calibration":
            progress.calibration(data)
            continue
        if data.get("prompt_id") != execution.prompt_id:
            continue
        if kind in ("executing", "execution_success", "execution_error", "execution_interrupted"):
            now = time.perf_counter()
            if running is not None:
                execution.seconds[running] = execution.seconds.get(running, 0.0) + now - since
                progress.end(running, execution.seconds[running])
            running, since = (data.get("node"), now) if kind == "executing" else (None, now)
        if kind == "progress":
            progress.step(data["node"], data["value"], data["max"])
        elif kind == "executing" and running is None:  # sent when the history holds the outputs
            return
        elif kind == "execution_error":
            raise Failure(_error(data, progress))
        elif kind == "execution_interrupted":
            raise Failure(f"The run was interrupted at {progress.name(data['node_id'])}.")
    state = "" if server.running() else f"{server.log_tail()}\n"
    raise Failure(f"{state}The server closed the connection in the middle of the run; its log: {server.log}")


def _refusal(told: dict[str, Any], prompt: Prompt) -> str:
    lines = []
    if error := told.get("error"):
        error = error if isinstance(error, dict) else {"message": str(error)}
        lines.append(f"  {error.get('message', '')} {error.get('details', '')}".rstrip())
    for node, found in told.get("node_errors", {}).items():
        title = prompt.get(node, {}).get("_meta", {}).get("title", found.get("class_type"))
        for error in found["errors"]:
            lines.append(f"  node {node} ({title}): {error['message']}: {error['details']}")
    return "\n".join(lines)


def _error(data: dict[str, Any], progress: _Progress) -> str:
    trace = "".join(data.get("traceback", [])[-3:]).rstrip()
    message = f"{data['exception_type']}: {data['exception_message'].strip()}"
    return f"{trace}\n{progress.name(data['node_id'])} failed: {message}"


class _Progress:
    """One line per node that takes time: rewritten in place on a terminal, else written when the node is done.

    A calibration has its estimate and where it stands beside that.
    """

    def __init__(self, prompt: Prompt, report: Callable[[str], None] | None) -> None:
        self._prompt = prompt
        self._report = report
        self._live = report is print and sys.stdout.isatty()
        self._steps: dict[str, str] = {}
        self._calibrating: set[str] = set()
        self._next_line = 0.0

    def name(self, node: str) -> str:
        """Return the node as the user knows it."""
        found = self._prompt.get(node, {})
        return f"{found.get('_meta', {}).get('title') or found.get('class_type', 'node')} (node {node})"

    def step(self, node: str, value: int, total: int) -> None:
        self._steps[node] = f"  {value}/{total}"
        if node not in self._calibrating:
            self._passing(f"  {self.name(node):<44}{self._steps[node]}")

    def calibration(self, event: dict[str, Any]) -> None:
        """Tell a `lemica.calibration` event."""
        self._calibrating.add(event["node"])
        if event["state"] == "estimate":
            self._write(f"  {event['name']}: {event['text']}")
        elif event["state"] == "running":
            left = "" if event["seconds_left"] is None else f", {clock(event['seconds_left'])} left"
            line = f"  {event['stage']}: step {event['done']} of {event['total']}{left}"
            if self._live:
                self._passing(line)
            elif time.monotonic() >= self._next_line:
                self._next_line = time.monotonic() + LINE_SECONDS
                self._write(line)

    def end(self, node: str, seconds: float) -> None:
        steps = self._steps.get(node, "")
        if steps or seconds >= 0.5:
            self._write(f"  {self.name(node):<44}{steps:<8}{seconds:8.2f} s")

    def _passing(self, line: str) -> None:
        if self._live:
            print(f"\r{line:<{LINE}}", end="", flush=True)

    def _write(self, line: str) -> None:
        if self._live:
            print(f"\r{line:<{LINE}}")
        elif self._report:
            self._report(line)
        if self._report:
            sys.stdout.flush()


def clock(seconds: float) -> str:
    """Return a length of time as minutes and seconds, with hours where there are some."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
