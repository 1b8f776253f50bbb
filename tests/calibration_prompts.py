"""Prompts with the calibration nodes, what becomes of them on a server, and what that saves."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
STEPS = 8
MEASURING = {
    "seed": 5, "seeds": 1, "mode": "short", "longest": 0, "rules": "output", "name": "", "metric": "l1", "tries": 1
}


@dataclass
class Watched:
    """What a run told: the nodes that ran, their outputs, events of calibrations, previews, and how it failed."""

    ran: list[str] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    events: list[dict] = field(default_factory=list)
    previews: int = 0
    error: str = ""
    interrupted: bool = False

    def text(self, node: str) -> str:
        return self.outputs[node]["text"][0]


def watch(server, prompt: dict, interrupt_at: int | None = None) -> Watched:
    """Run a prompt to whatever end, and interrupt it at so many events of a calibration that runs."""
    return asyncio.run(_watch(server.url, prompt, interrupt_at))


async def _watch(url: str, prompt: dict, interrupt_at: int | None) -> Watched:
    watched, client = Watched(), uuid.uuid4().hex
    queued = {"prompt": prompt, "client_id": client, "extra_data": {"preview_method": "latent2rgb"}}
    async with aiohttp.ClientSession(url) as session:
        async with session.ws_connect("/ws", params={"clientId": client}, max_msg_size=0) as socket:
            async with session.post("/prompt", json=queued) as answer:
                told = await answer.json()
            assert answer.status == 200 and not told.get("node_errors"), told
            async for message in socket:
                if message.type != aiohttp.WSMsgType.TEXT:
                    watched.previews += message.type == aiohttp.WSMsgType.BINARY
                    continue
                event = json.loads(message.data)
                kind, data = event["type"], event.get("data") or {}
                if kind == "lemica.calibration":
                    watched.events.append(data)
                    if [one["state"] for one in watched.events].count("running") == interrupt_at:
                        interrupt_at = None
                        await (await session.post("/interrupt")).read()
                if data.get("prompt_id") != told["prompt_id"]:
                    continue
                if kind == "execution_error":
                    watched.error = f"{data['exception_type']}: {data['exception_message']}"
                elif kind == "execution_interrupted":
                    watched.interrupted = True
                elif kind == "executing" and data["node"] is not None:
                    watched.ran.append(data["node"])
                if kind in ("execution_error", "execution_interrupted", "execution_success"):
                    break
        while not (history := await (await session.get(f"/history/{told['prompt_id']}")).json()):
            await asyncio.sleep(0.05)
    watched.outputs = history[told["prompt_id"]]["outputs"]
    return watched


def calibrate(**changed) -> dict:
    inputs = {
        "model": ["model", 0], "latent": ["model", 3], "positive.positive0": ["model", 1], "negative": ["model", 2],
        "prompts": "", "negative_prompt": "", "steps": STEPS, "cfg": 3.0, "sampler_name": "euler",
        "scheduler": "simple", "denoise": 1.0, **MEASURING, **changed,
    }
    return {"class_type": "LeMiCaCalibrate", "inputs": {key: value for key, value in inputs.items() if value != []}}


def solve(**changed) -> dict:
    inputs = {
        "calibration": "linked", "preset": "medium", "budget": 4, "objective": "minimax", "rules": "best per segment",
        "compute_last": False, "name": "", "save": True, **changed,
    }
    return {"class_type": "LeMiCaSolve", "inputs": inputs}


def custom(**changed) -> dict[str, dict]:
    """The nodes of the custom twin, for one prompt."""
    return {
        "guider": {
            "class_type": "CFGGuider",
            "inputs": {"model": ["model", 0], "positive": ["model", 1], "negative": ["model", 2], "cfg": 3.0},
        },
        "sampler": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "sigmas": {
            "class_type": "BasicScheduler",
            "inputs": {"model": ["model", 0], "scheduler": "simple", "steps": STEPS, "denoise": 1.0},
        },
        "calibrate": {
            "class_type": "LeMiCaCalibrateCustom",
            "inputs": {
                "guiders.guider0": ["guider", 0], "sampler": ["sampler", 0], "sigmas": ["sigmas", 0],
                "latent": ["model", 3], "prompts": "", "add_noise": True, **MEASURING, **changed,
            },
        },
    }


def saved(server, name: str):
    """A calibration that the server saved."""
    from lemica.calibration.store import Calibrations

    return Calibrations(server.user / "lemica" / "calibrations").get(name)


def saved_names(server) -> list[str]:
    from lemica.calibration.store import Calibrations

    return Calibrations(server.user / "lemica" / "calibrations").names()


def schedule(server, name: str):
    from lemica.schedules import Library

    return Library(ROOT / "schedules/library", server.user / "lemica" / "schedules").get(name)


def files(server) -> dict[str, bytes]:
    """Everything that the server has saved of calibrations and schedules."""
    folder = server.user / "lemica"
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def demo_models(server) -> list[dict]:
    """Two of the demo model's prompts as nodes."""
    kind, *options = server.object_info()["LeMiCaDemoModel"]["input"]["required"]["prompt"]
    known = kind if isinstance(kind, list) else options[0]["options"]
    return [{"class_type": "LeMiCaDemoModel", "inputs": {"prompt": prompt}} for prompt in known[:2]]


def basic_run(server) -> Watched:
    """One calibration under the name "basic", with a budget of it solved; never taken from the server's cache."""
    unread = uuid.uuid4().hex
    prompt = {"model": demo_models(server)[0], "calibrate": calibrate(name="basic", negative_prompt=unread)}
    prompt["solve"] = solve(error_graph=["calibrate", 0], preset="custom", budget=4)
    return watch(server, prompt)
