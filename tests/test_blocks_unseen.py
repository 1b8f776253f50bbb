"""Models whose forward runs the blocks without calling them, as a compiler that replays them as CUDA graphs does."""

from __future__ import annotations

import logging

import pytest

COMPUTED = (0, 1, 3, 6)
WARM = 2
"""How often a block is called before it is replayed."""


@pytest.fixture
def compiled(comfy, tiny_wan):
    """Makes a Wan whose compiler replays each block once it is warm, or from a list of its own."""
    import torch
    from comfy.ldm.wan.model import sinusoidal_embedding_1d

    class WanModel(tiny_wan.comfy.ldm.wan.model.WanModel):
        """The class that the pack knows, by its name."""

        calls = 0

        def forward_orig(self, x, t, context, clip_fea=None, freqs=None, transformer_options={}, **kwargs):
            x = self.patch_embedding(x.float()).to(x.dtype)
            grid, x = x.shape[2:], x.flatten(2).transpose(1, 2)
            e = self.time_embedding(sinusoidal_embedding_1d(self.freq_dim, t.flatten()).to(x.dtype))
            e = e.reshape(t.shape[0], -1, e.shape[-1])
            arguments = {
                "e": self.time_projection(e).unflatten(2, (6, self.dim)), "freqs": freqs,
                "context": self.text_embedding(context), "transformer_options": transformer_options,
            }
            WanModel.calls += bool(len(self.blocks))
            for index, block in enumerate(self.blocks if self.walked else self.graphs):
                replayed = not self.walked or WanModel.calls > WARM
                x = self.graphs[index](x, **arguments) if replayed else block(x, **arguments)
            return self.unpatchify(self.head(x, e), grid)

    def make(walked: bool):
        model = tiny_wan.make_wan()
        network = model.model.diffusion_model
        network.graphs = [block.forward for block in network.blocks]  # no hook sees them
        network.walked = walked
        network.__class__ = WanModel
        WanModel.calls = 0
        assert isinstance(network.blocks, torch.nn.ModuleList)
        return model

    return make


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("slope", ["hold", "linear"])
def test_blocks_that_are_never_called_leave_output_rules(graphs, tiny_wan, compiled, slope, caplog):
    reports = []
    model = compiled(walked=False)
    plain = tiny_wan.sample(model, steps=graphs.STEPS)
    assert graphs.close(plain, tiny_wan.sample(tiny_wan.make_wan(), steps=graphs.STEPS)), "the model itself is the same"
    expected = tiny_wan.sample(graphs.scheduled(model, COMPUTED, f"output {slope}"), steps=graphs.STEPS)
    got = tiny_wan.sample(graphs.scheduled(model, COMPUTED, f"residual {slope}", reports), steps=graphs.STEPS)
    assert graphs.equal(got, expected) and not graphs.close(got, plain)
    (report,) = reports
    assert report.computed == COMPUTED
    assert report.doubts == ("rules run on the output: the tokens do not pass the model's blocks as known",)
    (warning,) = warnings(caplog)
    assert "the tokens do not pass the model's blocks as known" in warning
    every = graphs.scheduled(model, range(graphs.STEPS), f"residual {slope}")
    assert graphs.equal(tiny_wan.sample(every, steps=graphs.STEPS), plain)


def test_blocks_that_are_replayed_once_warm_leave_output_rules_from_there_on(graphs, tiny_wan, compiled, caplog):
    from lemica.cache.wrapper import install
    from lemica.schedules import Rule, Schedule

    rules = tuple(map(Rule.parse, ("residual hold", "residual hold", "output hold", "output hold")))
    changing = Schedule("test", "test", graphs.STEPS, COMPUTED, rules, "custom")
    expected = tiny_wan.sample(install(tiny_wan.make_wan(), lambda setting: (changing, "")), steps=graphs.STEPS)
    assert not warnings(caplog)
    reports = []
    model = compiled(walked=True)
    got = tiny_wan.sample(graphs.scheduled(model, COMPUTED, "residual hold", reports), steps=graphs.STEPS)
    assert graphs.close(got, expected)
    (report,) = reports
    assert report.computed == COMPUTED and len(report.doubts) == 1
    assert len(warnings(caplog)) == 1
