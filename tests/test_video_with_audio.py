"""Models that make video and audio at once, in one packed latent: MiniMax-H3, whose tokens have no batch axis, and LTX-2."""

from __future__ import annotations

from types import ModuleType

import pytest

NAMES = ("minimax_h3", "ltx2")


def streams(tiny: ModuleType, name: str, latents):
    """Video and audio of what tiny_models.sample gives."""
    import torch

    video, audio = (torch.Size(shape).numel() for shape in tiny.MODELS[name].latent)
    return latents.split([video, audio])


@pytest.mark.parametrize("rule", ["output hold", "output linear", "residual hold", "residual linear"])
@pytest.mark.parametrize("name", NAMES)
def test_both_streams_are_the_plain_run_bit_for_bit_when_every_step_computes(runs, graphs, tiny, name, rule):
    model = tiny.make(name)
    plain = streams(tiny, name, runs.sample(model, name))
    got = streams(tiny, name, runs.sample(graphs.scheduled(model, range(runs.STEPS), rule), name))
    for a, b in zip(plain, got, strict=True):
        assert a.isfinite().all() and a.std() > 0 and graphs.equal(a, b)


@pytest.mark.parametrize("rule", ["output hold", "residual hold"])
@pytest.mark.parametrize("name", NAMES)
def test_a_reused_step_gives_each_stream_its_own_value(runs, graphs, tiny, name, rule):
    """The reference keeps the whole output or, where there are residual rules, the blocks' residual of each stream."""
    model, reports, full, ran = tiny.make(name), [], [], []
    with runs.watched(model, name, lambda args, kwargs: full.append(1)):
        plain = streams(tiny, name, runs.sample(model, name))
    on_output = rule == "output hold" or name == "minimax_h3"
    expected = runs.sample(graphs.reusing_outputs(model, runs.COMPUTED), name) if on_output else runs.reference(model, name)
    with runs.watched(model, name, lambda args, kwargs: ran.append(1)):
        got = runs.sample(graphs.scheduled(model, runs.COMPUTED, rule, reports), name)
    for a, b, c in zip(streams(tiny, name, got), streams(tiny, name, expected), plain, strict=True):
        assert graphs.close(a, b) and not graphs.close(a, c)
    assert len(ran) * runs.STEPS == len(full) * len(runs.COMPUTED)
    assert reports[0].computed == runs.COMPUTED and not reports[0].doubts
    assert ("rules run on the output" in reports[0].note) is (on_output and rule == "residual hold")
