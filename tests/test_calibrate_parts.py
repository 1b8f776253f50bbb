"""What the calibrate nodes are made of, without a server."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch


class Clip:
    """Encodes a text as its letters."""

    def tokenize(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def encode_from_tokens_scheduled(self, tokens: list[int]) -> list:
        return [[torch.tensor(tokens, dtype=torch.float32), {}]]


def test_typed_prompts_are_encoded_line_by_line_beside_what_is_connected(comfy):
    from lemica.nodes.calibrate import named_prompts, negative_of
    from lemica.nodes.calibration_run import lines_of
    from tiny_wan import conditioning, make_wan

    typed = lines_of("a cat\n\n  two dogs \n")
    named = named_prompts(make_wan(), [conditioning(1), conditioning(2)], typed, Clip())
    assert [name for name, _ in named][2:] == ["a cat", "two dogs"]
    assert len({name for name, _ in named}) == 4
    assert named[3][1][0][0].tolist() == [float(ord(letter)) for letter in "two dogs"]
    assert negative_of(None, "x", Clip(), named[0][1], 3.0)[0][0].tolist() == [120.0]
    assert negative_of(None, "", None, named[0][1], 1.0) is named[0][1]


def test_residual_rules_need_a_known_block_stack(comfy):
    from lemica.calibration.job_error import JobError
    from lemica.nodes.calibration_run import Order
    from tiny_wan import make_wan

    model = make_wan()
    order = Order("exact", 0, "output and residual", "", "l1", 0)
    order.check(model)
    network = model.model.diffusion_model
    network.__class__ = type("SomeModel", (type(network),), {})
    with pytest.raises(JobError, match="SomeModel.*set rules to output"):
        order.check(model)


SHAPE = (1, 3, 2, 64, 64)


class Network(torch.nn.Module):
    """Stands for the network of LPIPS, whose trunk is not at hand: the mean difference."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (one - other).abs().mean((1, 2, 3), keepdim=True) * self.scale


@pytest.fixture
def frame_distance(comfy, monkeypatch):
    """A distance of frames, and the list of what it has decoded."""
    from lemica.nodes import calibration_run

    decoded = []

    def decode(latents: torch.Tensor) -> torch.Tensor:
        decoded.append(latents.shape)
        return latents.movedim(1, -1)

    monkeypatch.setattr(calibration_run, "load_network", lambda: (Network(), ""))
    sampling = SimpleNamespace(latents=lambda flat: flat.reshape(SHAPE))
    return calibration_run.FrameDistance(sampling, SimpleNamespace(decode=decode)), decoded


def frames(value: float) -> torch.Tensor:
    return torch.full((3 * 2 * 64 * 64,), value)


def test_lpips_compares_the_decoded_frames(frame_distance):
    distance, decoded = frame_distance
    reference, other = frames(0.5), frames(0.6)
    assert distance(other, reference) == pytest.approx(0.2, rel=1e-4)
    assert distance(reference.clone(), reference) == 0
    assert decoded == [SHAPE] * 3


@pytest.mark.parametrize("kept", [0, 1, 3, 5])
def test_a_reference_is_decoded_once_however_samples_alternate(frame_distance, monkeypatch, kept):
    """Of those that do not fit only the last one is kept."""
    from lemica.nodes import calibration_run

    distance, decoded = frame_distance
    monkeypatch.setattr(calibration_run, "KEPT_FRAMES", kept * frames(0.0).nbytes)
    references, rounds = [frames(0.1 * place) for place in range(5)], 4
    for _ in range(rounds):
        for place, reference in enumerate(references):
            assert distance(reference + 0.05, reference.clone()) == pytest.approx(0.1, rel=1e-3), place
            assert distance(reference, reference) == 0
    compared = 2 * rounds * len(references)
    assert len(decoded) - compared == kept + rounds * (len(references) - kept)
    assert sum(one.nbytes for one in distance._kept.values()) == kept * frames(0.0).nbytes


def test_a_calibration_decodes_every_reference_once(frame_distance, tmp_path):
    """Its segments, then paths on one sample after the other."""
    import tiny_wan
    from lemica.calibration import Sample
    from lemica.calibration.job import Job, Settings
    from lemica.calibration.sampling import AttachedModel, ksampler_sampling
    from lemica.schedules import ModelIdentity, Rule

    distance, decoded = frame_distance
    attached = AttachedModel(tiny_wan.make_wan())
    samplings = [
        ksampler_sampling(
            attached, tiny_wan.conditioning(11), tiny_wan.conditioning(12), {"samples": torch.zeros(tiny_wan.LATENT_SHAPE)},
            Sample("noise", seed), 5, 3.0, "euler", "simple",
        )
        for seed in (4, 5)
    ]
    compared = []

    def counted(latents: torch.Tensor, reference: torch.Tensor) -> float:
        compared.append(latents)
        size = frames(0.0).numel()
        return distance(*(one.repeat(size // one.numel() + 1)[:size].sigmoid() for one in (latents, reference)))

    settings = Settings(
        family="test", model=ModelIdentity("WAN21", "WanModel"), mode="exact", metric="lpips",
        rules=(Rule("output", "hold"),), longest=3, budgets=(3,), tries=4,
    )
    Job(tmp_path, "frames", samplings, settings, distance=counted).run()
    assert len(compared) > 10 and len(decoded) == len(compared) + len(samplings)


def test_a_route_that_the_graph_does_not_have_is_not_predicted():
    from lemica.calibration import ErrorGraph, Sample, all_segments
    from lemica.calibration.outcome import Outcome, Route
    from lemica.nodes.calibration_summary import path_of, picture_of, summary
    from lemica.nodes.types import Calibrated
    from lemica.schedules import ModelIdentity, Rule

    rules = (Rule("output", "hold"), Rule("output", "linear"))
    segments = all_segments(6, 3, rules)
    errors = np.arange(1.0, len(segments) + 1)[None]
    graph = ErrorGraph(
        "any", ModelIdentity("A", "B"), (6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0), "exact", "l1", rules, (Sample("a", 1),),
        segments, errors,
    )
    known = {tuple(row): error for row, error in zip(segments.tolist(), errors[0], strict=True)}
    route = Route((0, 2, 5), (rules[0], rules[1], rules[0]))
    assert path_of(graph, route).segment_errors == (known[-1, 0, 2, 0], known[0, 2, 5, 1], 0.0)
    long = Route((0, 4), (rules[0], rules[0]))
    calibrated = Calibrated("one", graph, {3: Outcome(route, (0.5,)), 2: Outcome(long, (2.0,))})
    text = summary(calibrated, 12, 90, ["here"])
    assert "| 2 | 0 4 | 2 x output hold |" not in text and "| 2 | 0 4 | output hold | - | 2 | 2 |" in text
    assert "| 3 | 0 2 5 | 1 x output hold, 1 x output linear |" in text
    assert picture_of(calibrated).width >= 1240
