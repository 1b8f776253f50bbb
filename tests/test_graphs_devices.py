"""ComfyUI's own work on several GPUs: each device has a copy of the model and takes its share of the conds.

The devices are names of one CPU, so the threads, the copies and the way of the conds are ComfyUI's and the arithmetic
is the same; memory that is really apart is not tested here.
"""

from __future__ import annotations

import pytest

RULES = ("output hold", "residual hold", "residual linear")


@pytest.fixture
def wan(tiny_wan, monkeypatch):
    """A model as its loader leaves it, on the first of two devices."""
    import comfy.model_management
    import torch

    devices = [torch.device("cpu"), torch.device("cpu", 0)]
    monkeypatch.setattr(comfy.model_management, "get_all_torch_devices", lambda exclude_current=False: devices)
    model = tiny_wan.make_wan()
    model.cached_patcher_init = (tiny_wan.make_wan, ())
    return model


def on_both(model):
    from comfy.multigpu import create_multigpu_deepclones

    return create_multigpu_deepclones(model, 2)


class Threads:
    """Which threads evaluate the model, noted inside of its first block."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def patch(self, model):
        import threading

        def noted(args, extra):
            self.seen.append(threading.current_thread().name)
            return extra["original_block"](args)

        model = model.clone()
        model.set_model_patch_replace(noted, "dit", "double_block", 0)
        return model


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("ours_first", [True, False])
def test_conds_on_two_devices_are_what_they_are_on_one(graphs, tiny_wan, wan, rule, ours_first):
    threads = Threads()
    reports, alone = [], []

    def scheduled(model, computed):
        if ours_first:
            return on_both(graphs.scheduled(model, computed, rule, reports))
        return graphs.scheduled(on_both(model), computed, rule, reports)

    plain = tiny_wan.sample(wan, steps=graphs.STEPS)
    watched = threads.patch(wan)
    assert graphs.close(tiny_wan.sample(on_both(watched), steps=graphs.STEPS), plain)
    assert len(threads.seen) == 2 * graphs.STEPS and len(set(threads.seen)) == 2
    assert graphs.close(tiny_wan.sample(scheduled(wan, graphs.EVERY), steps=graphs.STEPS), plain)
    threads.seen.clear()
    got = tiny_wan.sample(scheduled(watched, graphs.COMPUTED), steps=graphs.STEPS)
    assert len(threads.seen) == 2 * len(graphs.COMPUTED) and len(set(threads.seen)) == 2
    expected = tiny_wan.sample(graphs.scheduled(wan, graphs.COMPUTED, rule, alone), steps=graphs.STEPS)
    assert graphs.close(got, expected) and not graphs.close(got, plain)
    assert reports[-1].computed == graphs.COMPUTED and not reports[-1].doubts
    assert reports[-1].calls == alone[-1].calls == 2 * len(graphs.COMPUTED)
    assert graphs.equal(tiny_wan.sample(wan, steps=graphs.STEPS), plain), "the plain model afterwards"
