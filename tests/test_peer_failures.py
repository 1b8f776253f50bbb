"""How other caches fail, as tests that fail with their designs. Where ours is tested elsewhere, the test is named there.

c1 copied forwards, c2 differences found at run time, c3 state on the module, c4 guessing the step, c5 CFG, c6 a counter
that drifts, c7 errors swallowed, c8 the wrong menu entry, c9 control added twice, c10 schedules stretched in silence
(test_schedules_select, test_cache_select), c11 calibrations lost (test_calibration_job, test_calibration_kill), c12 no
account of what was done, c13 small things (test_nodes).
"""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RULES = ("output hold", "residual hold")


def test_c1_no_file_of_the_cache_imports_a_model_of_comfyui():
    for path in ROOT.glob("cache/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.startswith("comfy.ldm")], path


@pytest.mark.parametrize("rule", RULES)
def test_c1_a_forward_that_gained_an_argument_and_a_block_that_did_go_on_working(graphs, tiny_wan, rule):
    """What ComfyUI's updates do to models: new arguments, passed on to the blocks by name."""
    import comfy.ldm.wan.model

    class WanAttentionBlock(comfy.ldm.wan.model.WanAttentionBlock):
        def forward(self, x, e, freqs, context, context_img_len=257, transformer_options={}, novel=None, **more):
            return super().forward(x, e, freqs, context, context_img_len, transformer_options) * (novel or 1.1)

    class WanModel(comfy.ldm.wan.model.WanModel):
        def forward(self, x, timestep, context, clip_fea=None, time_dim_concat=None, transformer_options={}, novel=0, **more):
            return super().forward(x, timestep, context, clip_fea, time_dim_concat, transformer_options, **more)

    model = tiny_wan.make_wan()
    network = model.model.diffusion_model
    network.__class__ = WanModel
    for block in network.blocks:
        block.__class__ = WanAttentionBlock
    graphs.check_graph(model, lambda model: tiny_wan.sample(model, steps=graphs.STEPS), [rule])


def test_c2_a_size_that_changes_in_mid_run_is_computed_and_then_reused_again(graphs, comfy):
    """LCM Upscale grows the latent at every second step; nothing of another size is reused, and reuse comes back."""
    import tiny_unet
    import torch
    from comfy_extras.nodes_advanced_samplers import SamplerLCMUpscale
    from comfy_extras.nodes_custom_sampler import CFGGuider

    unet, reports = tiny_unet.make_unet(), []
    (sampler,) = SamplerLCMUpscale.execute(2.0, 3, "bilinear").args

    def sample(model):
        (guider,) = CFGGuider.execute(model, tiny_unet.conditioning(11), tiny_unet.conditioning(12), 4.0).args
        torch.manual_seed(3)
        latent = {"samples": torch.zeros(tiny_unet.LATENT_SHAPE)}
        return graphs.sample_with(guider, graphs.sigmas_of(unet), latent, sampler)

    plain = sample(unet)
    assert plain.shape[-1] == 2 * tiny_unet.LATENT_SHAPE[-1]
    assert graphs.equal(sample(graphs.scheduled(unet, graphs.EVERY)), plain)
    with graphs.rows_through(unet, "out") as rows:
        sample(graphs.scheduled(unet, (0,), reports=reports))
    assert reports[0].computed == (0, 1, 2, 3) and sum(rows) == 2 * 4
    assert "computed at steps 1, 2, 3 too: nothing cached fits" in reports[0].line()


@pytest.mark.parametrize("rule", RULES)
def test_c2_each_context_window_gets_what_it_had_itself(graphs, tiny_wan, wan, rule):
    """The windows share their conds; with EasyCache a skipped window gets the last window's change."""
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    (windowed,) = ContextWindowsManualNode.execute(
        wan, 3, 1, "standard_static", 1, False, "flat", 2, False, "", False, "", True
    ).args
    graphs.check_graph(
        windowed, lambda model: tiny_wan.sample(model, steps=graphs.STEPS, shape=(1, 16, 7, 4, 4)), [rule]
    )


@pytest.mark.parametrize("rule", RULES)
def test_c2_neither_the_latent_nor_what_is_kept_is_written_to(graphs, tiny_wan, wan, rule):
    """A sampler that looks whether its latent changed, and a node that writes into the outputs that it is given."""
    import comfy.samplers

    seen = []

    def suspicious(model, x, sigmas, **options):
        def look(x, sigma, **extra):
            before = x.clone()
            denoised = model(x, sigma, **extra)
            seen.append(graphs.equal(before, x))
            return denoised

        look.inner_model = model.inner_model
        return comfy.samplers.ksampler("euler").sampler_function(look, x, sigmas, **options)

    def spoil(args):
        result = args["denoised"] * 1.0
        for output in args["conds_out"] if "conds_out" in args else (args["cond_denoised"], args["uncond_denoised"]):
            output.zero_()
        return result

    expected = tiny_wan.sample(graphs.scheduled(wan, rule=rule), steps=graphs.STEPS)
    spoiled = wan.clone()
    spoiled.set_model_sampler_post_cfg_function(spoil)
    sampler = comfy.samplers.KSAMPLER(suspicious)
    assert graphs.equal(
        tiny_wan.sample(graphs.scheduled(spoiled, rule=rule), steps=graphs.STEPS, sampler=sampler), expected
    )
    assert len(seen) >= graphs.STEPS and all(seen)


def test_c2_what_a_calibration_recorded_is_not_written_to(graphs, tiny_wan, wan):
    """The same node, while recorded steps are recalled for a measurement."""
    import comfy.samplers
    import torch
    from lemica.cache.placement import Placement
    from lemica.cache.run import SamplingRun
    from lemica.cache.steps import Action
    from lemica.cache.trajectory import Trajectory
    from lemica.cache.wrapper import attach, full_schedule

    trajectory, settings = Trajectory(), {}

    def spoil(args):
        result = args["denoised"] * 1.0
        args["cond_denoised"].zero_()
        return result

    spoiled = wan.clone()
    spoiled.set_model_sampler_post_cfg_function(spoil)
    model = attach(spoiled, lambda setting: SamplingRun(
        full_schedule(setting.sigmas), setting.sigmas, Placement("auto"), **settings
    ))
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(tiny_wan.conditioning(11), tiny_wan.conditioning(12))
    guider.set_cfg(4.0)
    latent = {"samples": torch.zeros(tiny_wan.LATENT_SHAPE)}
    sigmas = graphs.sigmas_of(wan, 4)
    settings.update(record=trajectory)
    recorded = graphs.sample_with(guider, sigmas, latent)
    settings.clear()
    settings.update(recall=trajectory, actions=[Action.RECALL] * 4)
    for _ in range(2):
        assert graphs.equal(graphs.sample_with(guider, sigmas, latent), recorded)


@pytest.mark.parametrize("rule", RULES)
def test_c3_a_run_within_a_run_leaves_it_alone(graphs, tiny_wan, wan, rule):
    """Two samplers at work at once: what is known of one must not reach the other."""
    outer, inner = graphs.scheduled(wan, rule=rule), graphs.scheduled(tiny_wan.make_wan(seed=8), (0, 3), rule)
    alone = tiny_wan.sample(outer, steps=graphs.STEPS), tiny_wan.sample(inner, steps=6, seed=7)
    within = []

    def another(step, denoised, x, total):
        if step in (1, 4):
            within.append(tiny_wan.sample(inner, steps=6, seed=7))

    assert graphs.equal(tiny_wan.sample(outer, steps=graphs.STEPS, callback=another), alone[0])
    assert len(within) == 2 and all(graphs.equal(latent, alone[1]) for latent in within)


@pytest.mark.parametrize("rule", RULES)
def test_c3_a_run_that_is_stopped_anywhere_leaves_nothing(graphs, tiny_wan, wan, rule):
    """Stopped after every step, and within every evaluation of the model."""
    import comfy.model_management

    reports = []
    model = graphs.scheduled(wan, rule=rule, reports=reports)
    expected = tiny_wan.sample(model, steps=graphs.STEPS)
    stop = comfy.model_management.InterruptProcessingException

    for last in range(graphs.STEPS):
        def at_step(step, denoised, x, total):
            if step == last:
                raise stop

        with pytest.raises(stop):
            tiny_wan.sample(model, steps=graphs.STEPS, callback=at_step)
        assert not reports[-1].finished and set(reports[-1].computed) <= set(graphs.COMPUTED)
        assert "stopped early" in reports[-1].line()
    for last in range(len(graphs.COMPUTED)):
        left = [last]

        def in_model(module, args):
            if not left[0]:
                raise stop
            left[0] -= 1

        hook = wan.model.diffusion_model.blocks[1].register_forward_pre_hook(in_model)
        try:
            with pytest.raises(stop):
                tiny_wan.sample(model, steps=graphs.STEPS)
        finally:
            hook.remove()
    assert graphs.equal(tiny_wan.sample(model, steps=graphs.STEPS), expected)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("sampler", ["heun", "dpm_2", "dpmpp_2s_ancestral", "dpmpp_sde", "seeds_3", "exp_heun_2_x0"])
def test_c4_a_step_of_several_calls_is_one_step(graphs, tiny_wan, wan, rule, sampler):
    """Calls counted as steps would end the schedule early; sigmas looked up would put a stage into the next step."""
    reports = []
    with graphs.rows_through(wan, "blocks.1") as rows:
        tiny_wan.sample(wan, sampler=sampler, steps=6)
    per_step = max(2, -(-sum(rows) // 6))
    with graphs.rows_through(wan, "blocks.1") as rows:
        tiny_wan.sample(graphs.scheduled(wan, (0, 1, 3), rule, reports), sampler=sampler, steps=6)
    assert sum(rows) == 3 * per_step == reports[0].calls
    assert reports[0].computed == (0, 1, 3) and not reports[0].doubts


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("swapped", [False, True])
def test_c5_cond_and_uncond_apart_are_what_they_are_together(graphs, tiny_wan, wan, rule, swapped, monkeypatch):
    """Two calls a step where memory is short, one where it is not; with either cond first."""
    one, two = tiny_wan.conditioning(11), tiny_wan.conditioning(12)
    conds = {"positive": two, "negative": one} if swapped else {"positive": one, "negative": two}
    model = graphs.scheduled(wan, rule=rule)
    together = tiny_wan.sample(model, steps=graphs.STEPS, **conds)
    monkeypatch.setattr(type(wan), "get_free_memory", lambda self, device: 0)
    reports = []
    with graphs.rows_through(wan) as rows:
        apart = tiny_wan.sample(graphs.scheduled(wan, rule=rule, reports=reports), steps=graphs.STEPS, **conds)
    assert rows == [1] * 2 * len(graphs.COMPUTED), "cond and uncond by themselves, at the same steps"
    assert graphs.close(apart, together) and not reports[0].doubts
    both = tiny_wan.sample(graphs.scheduled(wan, rule=rule), steps=graphs.STEPS, cfg=4.001, **conds)
    assert not graphs.equal(both, apart), "the guidance is at work"


@pytest.mark.parametrize("steps", [1, 2, 7, 39, 49, 50])
def test_c6_any_number_of_steps_runs_as_many_as_it_says_again_and_again(graphs, tiny_wan, wan, steps):
    computed = tuple(range(0, steps, 3))
    model, batches = tiny_wan.counted(wan)
    model, latents = graphs.scheduled(model, computed), []
    for _ in range(3):
        batches.clear()
        latents.append(tiny_wan.sample(model, steps=steps, cfg=1.0))
        assert len(batches) == len(computed)
    assert all(graphs.equal(latents[0], latent) for latent in latents)


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_c7_an_error_comes_out_once_and_nothing_is_run_again(graphs, tiny_wan, wan, error):
    calls = []

    def fail(module, args):
        calls.append(1)
        if len(calls) == 3:
            raise error("out of memory")

    hook = wan.model.diffusion_model.blocks[1].register_forward_pre_hook(fail)
    try:
        with pytest.raises(error, match="out of memory"):
            tiny_wan.sample(graphs.scheduled(wan, rule="residual hold"), steps=graphs.STEPS)
    finally:
        hook.remove()
    assert len(calls) == 3


def test_c8_the_model_is_found_and_one_that_is_not_known_works_on_its_output(graphs, comfy):
    import tiny_unet
    from lemica.cache.blocks import look_up

    unet, reports = tiny_unet.make_unet(), []
    assert look_up(unet) == (None, "")
    from lemica.cache.wrapper import install
    from lemica.schedules import Rule, Schedule

    def choose(setting):
        return Schedule("x", "x", len(setting.sigmas) - 1, (0, 2), (Rule.parse("residual linear"),) * 2, "custom"), "note"

    import torch
    from comfy_extras.nodes_custom_sampler import BasicGuider

    (guider,) = BasicGuider.execute(
        install(unet, choose, on_report=reports.append), tiny_unet.conditioning(11)
    ).args
    graphs.sample_with(guider, graphs.sigmas_of(unet), {"samples": torch.zeros(tiny_unet.LATENT_SHAPE)})
    assert reports[0].computed == (0, 2) and reports[0].calls == 2
    assert "rules run on the output, this model's block stack is not known" in reports[0].line()


def test_c9_control_between_the_blocks_is_in_the_residual_once(comfy, graphs):
    """Flux adds ControlNet's result after its blocks, outside of what a block patch sees."""
    import comfy.patcher_extension
    import tiny_models
    import torch

    model = tiny_models.make("flux")
    generator = torch.Generator().manual_seed(3)
    hints = [torch.randn(1, 4, 32, generator=generator) * 0.5 for _ in range(2)]

    def control(executor, x, t, c_concat, c_crossattn, control, options, **more):
        given = {"input": [hint.repeat(x.shape[0], 1, 1) for hint in hints], "output": [hints[0].repeat(x.shape[0], 1, 1)]}
        return executor(x, t, c_concat, c_crossattn, given, options, **more)

    controlled = model.clone()
    controlled.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "control", control)
    plain = tiny_models.sample(controlled, "flux", steps=4)
    assert not graphs.equal(plain, tiny_models.sample(model, "flux", steps=4))
    assert graphs.equal(
        tiny_models.sample(graphs.scheduled(controlled, graphs.EVERY, "residual hold"), "flux", steps=4), plain
    )
    kept, entered, steps = {}, [], []
    network = model.model.diffusion_model

    def head(module, args):
        steps.append(1)
        if len(steps) % 2:
            kept[0] = args[0] - entered[-1]
        return (entered[-1] + kept[0], *args[1:])

    hooks = [
        network.double_blocks[0].register_forward_pre_hook(
            lambda module, args, kwargs: entered.append(kwargs["img"].clone()), with_kwargs=True
        ),
        network.final_layer.register_forward_pre_hook(head),
    ]
    try:
        expected = tiny_models.sample(controlled, "flux", steps=4)
    finally:
        for hook in hooks:
            hook.remove()
    got = tiny_models.sample(graphs.scheduled(controlled, (0, 2), "residual hold"), "flux", steps=4)
    assert graphs.close(got, expected) and not graphs.close(got, plain)


def test_c12_one_line_a_run_says_what_was_computed(graphs, tiny_wan, wan, caplog):
    model = graphs.scheduled(wan)
    with caplog.at_level(logging.INFO, logger="LeMiCa"):
        for _ in range(2):
            tiny_wan.sample(model, steps=graphs.STEPS)
    lines = [record.getMessage() for record in caplog.records if record.name == "LeMiCa"]
    assert len(lines) == 2
    for line in lines:
        assert "computed 4 of 8 steps (8 of 16 model calls)" in line and "schedule test (custom)" in line


def test_c13_nothing_heavy_is_required_and_the_pack_is_in_the_registrys_form():
    requirements = [line for line in (ROOT / "requirements.txt").read_text().split("\n") if line and line[0] != "#"]
    assert not [line for line in requirements if line.split("=")[0].strip() in ("torch", "diffusers", "xformers")]
    assert "[tool.comfy]" in (ROOT / "pyproject.toml").read_text()
