"""What a running server tells the page while it samples and calibrates: steps, cells, and where calibrations stand."""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from collections.abc import Iterator

import aiohttp
import pytest
from calibration_prompts import calibrate, demo_models
from route_requests import get

STEPS = 40


async def _listen(url: str, prompt: dict, ask: str) -> tuple[list[tuple[str, dict]], list[dict]]:
    events, answers, client = [], [], uuid.uuid4().hex
    async with aiohttp.ClientSession(url) as session:
        async with session.ws_connect("/ws", params={"clientId": client}, max_msg_size=0) as socket:
            queued = await (await session.post("/prompt", json={"prompt": prompt, "client_id": client})).json()
            async for message in socket:
                if message.type != aiohttp.WSMsgType.TEXT:
                    continue
                event = json.loads(message.data)
                kind, data = event["type"], event.get("data") or {}
                if kind.startswith("lemica."):
                    events.append((kind, data))
                    answers.append(await (await session.get(ask)).json())
                ends = ("execution_error", "execution_interrupted", "execution_success")
                if data.get("prompt_id") == queued["prompt_id"] and kind in ends:
                    return events, answers
    raise AssertionError("the server closed the connection")


def listen(server, prompt: dict) -> tuple[list[tuple[str, dict]], list[dict]]:
    """The events of a run, and after each what /lemica/jobs answered."""
    return asyncio.run(_listen(server.url, prompt, "/lemica/jobs"))


def sampled(model: dict, **changed) -> dict[str, dict]:
    lemica = {"preset": "medium", "budget": 3, "schedule": "auto", "rule": "as scheduled", "cache_device": "auto"}
    return {
        "model": model,
        "lemica": {"class_type": "LeMiCa", "inputs": {"model": ["model", 0], **lemica, **changed}},
        "sampler": {"class_type": "KSampler", "inputs": {
            "model": ["lemica", 0], "positive": ["model", 1], "negative": ["model", 2], "latent_image": ["model", 3],
            "seed": uuid.uuid4().int % (1 << 32), "steps": STEPS, "cfg": 3.0, "sampler_name": "heun",
            "scheduler": "simple", "denoise": 1.0,
        }},
        "save": {"class_type": "SaveLatent", "inputs": {"samples": ["sampler", 0], "filename_prefix": "routes/x"}},
    }


@pytest.fixture
def clean(server) -> Iterator[None]:
    yield
    shutil.rmtree(server.user / "lemica", ignore_errors=True)


def test_a_run_tells_its_steps_now_and_then(server):
    events, _ = listen(server, sampled(demo_models(server)[0]))
    steps = [data for kind, data in events if kind == "lemica.step"]
    (report,) = (data for kind, data in events if kind == "lemica.run")
    assert events[-1][0] == "lemica.run" and steps
    assert [set(step) for step in steps] == [{"node", "step", "steps", "computed"}] * len(steps)
    assert {step["node"] for step in steps} == {"lemica"} and {step["steps"] for step in steps} == {STEPS}
    numbers = [step["step"] for step in steps]
    assert numbers == sorted(numbers) and numbers[0] == 0 and numbers[-1] < STEPS
    assert all(step["computed"] == (step["step"] in report["computed"]) for step in steps)
    assert len(steps) <= report["seconds"] / 0.1 + 2


def test_a_calibration_tells_what_it_replayed_and_where_it_stands(server, clean):
    calibrated = calibrate(name="told", negative_prompt=uuid.uuid4().hex)
    events, answers = listen(server, {"model": demo_models(server)[0], "calibrate": calibrated})
    told = [data for _, data in events]
    assert told[0]["state"] == "estimate" and told[-1]["state"] == "done"
    cells = [cell for event in told for cell in event.get("cells", [])]
    shown = get(server, "calibration", name="told").json
    assert cells and all(rule in shown["rules"] and error >= 0 for _, _, error, rule in cells)
    assert {(start, end) for start, end, _, _ in cells} <= {(start, end) for start, end, *_ in shown["cells"]}
    assert {event["state"] for event in told if "cells" in event} <= {"running", "done"}
    running = [answer["running"] for answer in answers]
    assert all(len(one) <= 1 for one in running) and any(running)
    for (entry,) in filter(None, running):
        assert set(entry) == {"node", "name", "folder", "state", "stage", "done", "total", "seconds_left", "grid", "cells"}
        assert entry["grid"][0] == calibrated["inputs"]["steps"]
        assert len(entry["cells"]) <= len(shown["cells"]) * len(shown["rules"])
        assert (entry["node"], entry["name"]) == ("calibrate", "told")
    assert get(server, "jobs").json == {"running": []}


def test_a_calibration_that_fails_is_running_no_more(server, clean):
    model = demo_models(server)[0]
    calibrated = calibrate(name="first", negative_prompt=uuid.uuid4().hex)
    listen(server, {"model": model, "calibrate": calibrated})
    calibrated["inputs"]["cfg"] = 5.0  # the name belongs to a calibration with another cfg
    events, _ = listen(server, {"model": model, "calibrate": calibrated})
    assert [data["state"] for _, data in events] == ["estimate", "stopped"]
    assert get(server, "jobs").json == {"running": []}
