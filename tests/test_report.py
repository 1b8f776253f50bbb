"""The LeMiCa Report node: its table and picture, and the node on a running server."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from lpips_trunk import alexnet_trunk, hub_with_trunk, hub_without_network

ROOT = Path(__file__).resolve().parent.parent
STEPS = 6


@pytest.fixture(scope="module")
def report(comfy) -> ModuleType:
    import lemica.nodes.report

    return lemica.nodes.report


def clips(frames: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A clip of plain colours, and the same one brighter by 0.02 a frame."""
    full = torch.linspace(0.1, 0.6, frames)[:, None, None, None].expand(frames, height, width, 3)
    return full, full + 0.02 * torch.arange(frames)[:, None, None, None]


def measured(report: ModuleType, *psnr: float) -> list:
    return [report.Quality(value, value / 100, 1 / value) for value in psnr]


def test_the_table_has_all_frames_and_the_worst_of_each_figure(report):
    frames = [report.Quality(30.0, 0.9, 0.1), report.Quality(math.inf, 0.8, 0.0), report.Quality(40.0, 0.95, 0.4)]
    text = report.table(frames, (64, 48), {"speed-up": "2.00x"}, "")
    assert text.splitlines() == [
        "| | all frames | worst frame |",
        "| --- | --- | --- |",
        "| PSNR | 34.36 dB | 30.00 dB (frame 1) |",
        "| SSIM | 0.8833 | 0.8000 (frame 2) |",
        "| LPIPS | 0.1667 | 0.4000 (frame 3) |",
        "| speed-up | 2.00x | |",
        "",
        "3 frames of 64x48 pixels, against the full run.",
    ]


def test_without_lpips_the_table_says_why(report):
    text = report.table([report.Quality(math.inf, 1.0, None)], (64, 48), {}, "no such package")
    assert "| PSNR | identical | identical (frame 1) |" in text
    assert "| LPIPS" not in text and text.endswith("LPIPS was not measured: no such package\n")


@pytest.mark.parametrize(
    "seconds, told",
    [
        ((0.0, 0.0), {}),
        ((12.0, 0.0), {"full run": "12.00 s"}),
        ((12.0, 4.0), {"full run": "12.00 s", "accelerated run": "4.00 s", "speed-up": "3.00x"}),
    ],
)
def test_the_speed_up_needs_both_times(report, seconds, told):
    assert report.timing(*seconds) == told


@pytest.mark.parametrize("count, include", [(1, 0), (8, 3), (9, 4), (81, 0), (81, 80), (81, 41)])
def test_the_picture_shows_first_last_and_worst_of_at_most_eight(report, count, include):
    rows = report.shown(count, include)
    assert rows == sorted(set(rows)) and len(rows) <= report.ROWS
    assert {0, include, count - 1} <= set(rows)
    assert len(rows) >= min(count, report.ROWS - 1)


@pytest.mark.parametrize(
    "size, drawn", [((32, 32), (224, 224)), ((30, 40), (200, 150)), ((480, 832), (512, 295)), ((512, 256), (256, 512))]
)
def test_a_row_is_full_accelerated_and_the_difference_amplified(report, size, drawn):
    height, width = size
    full, accelerated = clips(2, height, width)
    picture = report.draw(full, accelerated, measured(report, 50.0, 30.0), {"speed-up": "2.00x"})
    panel_width, panel_height = drawn
    strip = report.STRIP
    assert picture.shape == (1, 2 * strip + 2 * (strip + panel_height), 3 * panel_width, 3)
    assert picture.dtype == torch.float32 and 0 <= picture.min() and picture.max() <= 1
    for row, index in enumerate(range(2)):
        top = 2 * strip + row * (strip + panel_height) + strip
        shown = [picture[0, top : top + panel_height, x * panel_width : (x + 1) * panel_width] for x in range(3)]
        for panel, value in zip(shown, (full[index], accelerated[index], torch.tensor(4 * 0.02 * index)), strict=True):
            assert torch.allclose(panel, value.flatten()[0].expand_as(panel), atol=0.003)


def test_captions_fit_in_the_picture(report):
    full, accelerated = clips(1, 32, 32)
    picture = report.draw(full, accelerated, measured(report, 50.0), {"speed-up": "12.34x"})
    ink = (picture[0, : report.STRIP] - picture[0, 0, -1]).abs().sum((0, 2)) > 0.1
    assert ink.any() and not ink[-20:].any()


def test_lpips_is_measured_where_its_trunk_is(report, tmp_path, monkeypatch):
    from lemica.workflows.environment import cache_root

    hub_with_trunk(alexnet_trunk(cache_root() / "lpips"), tmp_path, monkeypatch)
    with torch.inference_mode():
        output = report.LeMiCaReport.execute(*clips(2, 32, 32), full_seconds=3.0, accelerated_seconds=2.0)
    text, picture = output.result
    assert "| speed-up | 1.50x | |" in text and "not measured" not in text
    assert re.search(r"^\| LPIPS \| 0\.\d{4} \| 0\.\d{4} \(frame 2\) \|$", text, re.MULTILINE)
    assert output.ui["text"] == (text,) and len(output.ui["images"]) == len(picture) == 1
    assert len(output.ui["full"]) == len(output.ui["accelerated"]) == len(output.ui["frames"]) == 2
    assert output.ui["full"][0]["type"] == "temp" and output.ui["frames"][1].startswith("frame 2: PSNR")


def test_without_the_trunk_the_rest_is_reported(report, tmp_path, monkeypatch):
    hub_without_network(tmp_path, monkeypatch)
    text, _ = report.LeMiCaReport.execute(*clips(2, 32, 32)).result
    assert "| PSNR | " in text and "| SSIM | " in text and "| LPIPS" not in text
    assert "\nLPIPS was not measured: The trunk" in text


def test_every_text_is_in_the_locale_and_the_inputs_keep_their_order(server):
    info = server.object_info()["LeMiCaReport"]
    assert info["input_order"]["required"] == ["full", "accelerated"]
    assert info["input_order"]["optional"] == ["full_seconds", "accelerated_seconds", "lpips"]
    assert info["output"] == ["STRING", "IMAGE"] and info["output_node"]
    texts = json.loads((ROOT / "locales/en/nodeDefs.json").read_text())["LeMiCaReport"]
    inputs = info["input"]["required"] | info["input"]["optional"]
    assert {name: options["tooltip"] for name, (_, options) in inputs.items()} == {
        name: text["tooltip"] for name, text in texts["inputs"].items()
    }
    assert info["output_tooltips"] == [text["tooltip"] for text in texts["outputs"].values()]
    assert (texts["display_name"], texts["description"]) == (info["display_name"], info["description"])
    assert (ROOT / "web/docs/LeMiCaReport.md").read_text().startswith("# ")


def graph(server, **changed) -> dict:
    """A full and an accelerated run of the demo model, and the report of the two."""
    kind, *options = server.object_info()["LeMiCaDemoModel"]["input"]["required"]["prompt"]
    demo = (kind if isinstance(kind, list) else options[0]["options"])[0]
    cache = {"preset": "custom", "budget": 3, "schedule": "auto", "rule": "as scheduled", "cache_device": "auto"}
    prompt = {
        "model": {"class_type": "LeMiCaDemoModel", "inputs": {"prompt": demo}},
        "lemica": {"class_type": "LeMiCa", "inputs": {"model": ["model", 0], **cache}},
    }
    for name, model in (("full", "model"), ("accelerated", "lemica")):
        inputs = {
            "model": [model, 0], "positive": ["model", 1], "negative": ["model", 2], "latent_image": ["model", 3],
            "seed": 1, "steps": STEPS, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
        }
        prompt[f"sample {name}"] = {"class_type": "KSampler", "inputs": inputs}
        decode = {"samples": [f"sample {name}", 0], "vae": ["model", 4]}
        prompt[f"decode {name}"] = {"class_type": "VAEDecode", "inputs": decode}
    compared = {"full": ["decode full", 0], "accelerated": ["decode accelerated", 0], **changed}
    prompt["report"] = {"class_type": "LeMiCaReport", "inputs": compared}
    prompt["text"] = {"class_type": "PreviewAny", "inputs": {"source": ["report", 0]}}
    prompt["picture"] = {"class_type": "SaveImage", "inputs": {"images": ["report", 1], "filename_prefix": "report"}}
    return prompt


def figure(text: str, label: str) -> float:
    return float(re.search(rf"^\| {label} \| ([\d.]+)", text, re.MULTILINE)[1])


def test_a_full_and_an_accelerated_run_are_compared(server):
    execution = server.queue(graph(server, full_seconds=3.0, accelerated_seconds=1.5))
    (text,) = execution.outputs["report"]["text"]
    assert execution.outputs["text"]["text"] == [text]
    assert 5 < figure(text, "PSNR") < 90 and 0 < figure(text, "SSIM") < 1
    assert figure(text, "speed-up") == 2
    if "LPIPS was not measured" not in text:
        assert 0 < figure(text, "LPIPS") < 1
    assert execution.outputs["report"]["images"][0]["type"] == "temp"
    (picture,) = execution.files(server.output)["picture"]
    assert picture.stat().st_size > 1000


def test_a_run_against_itself_is_identical(server):
    execution = server.queue(graph(server, accelerated=["decode full", 0], lpips=False))
    (text,) = execution.outputs["report"]["text"]
    assert "| PSNR | identical |" in text and "LPIPS" not in text and "speed-up" not in text


def test_clips_of_different_length_stop_with_both_sizes(server):
    from lemica.workflows.failure import Failure

    prompt = graph(server, accelerated=["first", 0], lpips=False)
    inputs = {"image": ["decode full", 0], "batch_index": 0, "length": 1}
    prompt["first"] = {"class_type": "ImageFromBatch", "inputs": inputs}
    with pytest.raises(Failure, match="QualityError: The frames are 1 of .* their reference is"):
        server.queue(prompt)
