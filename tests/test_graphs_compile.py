"""torch.compile as ComfyUI's own wrapper applies it: what a schedule adds to the graphs, and whether it still works."""

from __future__ import annotations

from types import ModuleType

import pytest

BLOCKS = [f"diffusion_model.blocks.{i}" for i in range(3)]


@pytest.fixture
def compiled(comfy: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """Compiles a patcher as the node TorchCompileModel does, with a backend that notes its graphs and runs them as is.

    Attention is PyTorch's own, as on a GPU: ComfyUI's for the CPU asks the system for its memory, which breaks graphs.
    """
    import comfy.ldm.modules.attention
    import comfy.ldm.wan.model
    import torch
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from comfy_extras.nodes_torch_compile import skip_torch_compile_dict

    monkeypatch.setattr(
        comfy.ldm.wan.model, "optimized_attention", comfy.ldm.modules.attention.attention_pytorch
    )
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()

    def backend(module, inputs, **options):
        patch.graphs.append(module)
        return module.forward

    def patch(model, keys=None):
        model = model.clone(disable_dynamic=True)
        set_torch_compile_wrapper(
            model, backend, {"guard_filter_fn": skip_torch_compile_dict}, keys=keys or ["diffusion_model"]
        )
        return model

    patch.graphs = []
    patch.breaks = lambda: sum(torch._dynamo.utils.counters["graph_break"].values())
    yield patch
    torch._dynamo.reset()


def orders(graphs, compiled, wan, rule: str, reports: list, keys: list[str] | None = None):
    """The two nodes in either order."""
    yield graphs.scheduled(compiled(wan, keys), rule=rule, reports=reports)
    yield compiled(graphs.scheduled(wan, rule=rule, reports=reports), keys)


@pytest.mark.parametrize("keys", [None, BLOCKS], ids=["whole", "blocks"])
def test_output_rules_add_no_graph_and_no_break(graphs, tiny_wan, wan, compiled, keys):
    import torch

    def sample(model):
        return tiny_wan.sample(model, steps=graphs.STEPS, cfg=1.0)

    expected = sample(graphs.scheduled(wan))
    plain = sample(compiled(wan, keys))
    count, breaks = len(compiled.graphs), compiled.breaks()
    assert count > 0 and graphs.close(plain, sample(wan))
    reports = []
    for model in orders(graphs, compiled, wan, "output hold", reports, keys):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        compiled.graphs.clear()
        for _ in range(2):
            assert graphs.close(sample(model), expected)
            assert len(compiled.graphs) == count and compiled.breaks() == breaks
    assert all(report.computed == graphs.COMPUTED and not report.doubts for report in reports)


def test_residual_rules_add_no_graph_where_blocks_are_compiled(graphs, tiny_wan, wan, compiled):
    import torch

    def sample(model):
        return tiny_wan.sample(model, steps=graphs.STEPS, cfg=1.0)

    expected = sample(graphs.scheduled(wan, rule="residual hold"))
    sample(compiled(wan, BLOCKS))
    count, breaks = len(compiled.graphs), compiled.breaks()
    reports = []
    for model in orders(graphs, compiled, wan, "residual hold", reports, BLOCKS):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        compiled.graphs.clear()
        assert graphs.close(sample(model), expected)
        assert len(compiled.graphs) <= count and compiled.breaks() == breaks
    assert all(report.computed == graphs.COMPUTED and not report.doubts for report in reports)


def test_residual_rules_work_where_the_whole_model_is_compiled_and_say_what_is_not(graphs, tiny_wan, wan, compiled):
    def sample(model):
        return tiny_wan.sample(model, steps=graphs.STEPS, cfg=1.0)

    expected = sample(graphs.scheduled(wan, rule="residual hold"))
    sample(compiled(wan))
    count = len(compiled.graphs)
    for model in orders(graphs, compiled, wan, "residual hold", reports := []):
        compiled.graphs.clear()
        assert graphs.close(sample(model), expected)
        assert len(compiled.graphs) <= count
        assert not hasattr(model.model.diffusion_model, "_orig_mod"), "put back as it was"
    for report in reports:
        assert report.computed == graphs.COMPUTED
        assert "run without torch.compile of the whole model" in report.line()
