"""Samplers, sigmas and the graphs around them: every sampler node, second passes, sizes, batches, windows, previews."""

from __future__ import annotations

from pathlib import Path

import pytest

RULES = ("output hold", "residual hold")


def ksampler(tiny_wan, model, latent: dict | None = None, **changed):
    """The KSampler node's latent."""
    import torch

    import nodes

    settings = {
        "seed": 1, "steps": 8, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0, **changed
    }
    (result,) = nodes.KSampler().sample(
        model, positive=tiny_wan.conditioning(11), negative=tiny_wan.conditioning(12),
        latent_image=latent or {"samples": torch.zeros(tiny_wan.LATENT_SHAPE)}, **settings,
    )
    return result


def advanced(tiny_wan, model, latent: dict, start: int, end: int, first: bool = False, last: bool = False, **changed):
    """The KSampler (Advanced) node's latent."""
    import nodes

    settings = {"noise_seed": 1, "steps": 10, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", **changed}
    (result,) = nodes.KSamplerAdvanced().sample(
        model, "enable" if first else "disable", positive=tiny_wan.conditioning(11),
        negative=tiny_wan.conditioning(12), latent_image=latent, start_at_step=start, end_at_step=end,
        return_with_leftover_noise="disable" if last else "enable", **settings,
    )
    return result


def filled(shape: tuple[int, ...]) -> dict:
    import torch

    return {"samples": torch.randn(shape, generator=torch.Generator().manual_seed(4))}


def test_every_sampler_of_the_ksampler_node_calls_the_model_as_often_as_the_schedule_says(graphs, tiny_wan, wan):
    import comfy.samplers

    computed = (0, 1, 3)
    for name in comfy.samplers.KSampler.SAMPLERS:
        with graphs.rows_through(wan) as rows:
            plain = ksampler(tiny_wan, wan, steps=5, sampler_name=name)["samples"]
            full = sum(rows)
        reports = []
        with graphs.rows_through(wan) as rows:
            latent = ksampler(tiny_wan, graphs.scheduled(wan, computed, reports=reports), steps=5, sampler_name=name)
        (report,) = reports
        assert latent["samples"].isfinite().all(), name
        assert report.calls == sum(rows), name
        if name in ("dpm_fast", "dpm_adaptive"):
            assert sum(rows) == full and graphs.equal(latent["samples"], plain)
            assert "computing every step" in report.line()
            continue
        assert sum(rows) < full and not graphs.equal(latent["samples"], plain), name
        assert not report.doubts and set(report.computed) == set(computed), (name, report.line())


@pytest.mark.parametrize("name", ["ddim", "uni_pc", "uni_pc_bh2"])
@pytest.mark.parametrize("rule", RULES)
def test_samplers_that_are_in_the_nodes_list_only_are_plain_at_full_budget(graphs, tiny_wan, wan, name, rule):
    plain = ksampler(tiny_wan, wan, steps=6, sampler_name=name)["samples"]
    model = graphs.scheduled(wan, graphs.EVERY, rule)
    assert graphs.equal(ksampler(tiny_wan, model, steps=6, sampler_name=name)["samples"], plain)


def sampler_nodes(model) -> dict:
    """Every sampler node of ComfyUI that needs no model of its own kind, with settings off their defaults."""
    from comfy_extras import nodes_advanced_samplers as advanced
    from comfy_extras import nodes_custom_sampler as custom

    return {
        "DPMPP_3M_SDE": custom.SamplerDPMPP_3M_SDE.execute(0.8, 1.0, "cpu"),
        "DPMPP_2M_SDE": custom.SamplerDPMPP_2M_SDE.execute("heun", 0.8, 1.0, "cpu"),
        "DPMPP_SDE": custom.SamplerDPMPP_SDE.execute(0.8, 1.0, 0.4, "gpu"),
        "DPMPP_2S_Ancestral": custom.SamplerDPMPP_2S_Ancestral.execute(0.8, 1.0),
        "EulerAncestral": custom.SamplerEulerAncestral.execute(0.8, 1.0),
        "EulerAncestralCFGPP": custom.SamplerEulerAncestralCFGPP.execute(0.8, 1.0),
        "LMS": custom.SamplerLMS.execute(3),
        "ER_SDE": custom.SamplerER_SDE.execute("ER-SDE", 3, 1.0, 1.0),
        "SASolver": custom.SamplerSASolver.execute(model, 0.8, 0.2, 0.8, 1.0, 3, 4, True, False),
        "SEEDS2": custom.SamplerSEEDS2.execute("phi_1", 0.8, 1.0, 0.6),
        "LCM": advanced.SamplerLCM.execute(1.0, 0.5, 0.0),
        "EulerCFGpp": advanced.SamplerEulerCFGpp.execute("alternative"),
        "EulerCFGpp regular": advanced.SamplerEulerCFGpp.execute("regular"),
    }


def test_every_sampler_node_is_plain_at_full_budget_and_follows_a_schedule_below_it(graphs, tiny_wan, wan):
    import comfy.samplers
    import torch
    from comfy_extras.nodes_custom_sampler import CFGGuider

    latent = {"samples": torch.zeros(tiny_wan.LATENT_SHAPE)}

    def sample(model, sampler):
        (guider,) = CFGGuider.execute(model, tiny_wan.conditioning(11), tiny_wan.conditioning(12), 4.0).args
        return graphs.sample_with(guider, graphs.sigmas_of(wan, 5), latent, sampler)

    samplers = {name: output.args[0] for name, output in sampler_nodes(wan).items()}
    samplers["heun with churn"] = comfy.samplers.ksampler("heun", {"s_churn": 1.0})
    for name, sampler in samplers.items():
        plain = sample(wan, sampler)
        assert graphs.equal(sample(graphs.scheduled(wan, graphs.EVERY), sampler), plain), name
        reports = []
        with graphs.rows_through(wan) as rows:
            got = sample(graphs.scheduled(wan, (0, 1, 3), reports=reports), sampler)
        assert not graphs.equal(got, plain) and got.isfinite().all(), name
        assert reports[0].calls == sum(rows) and not reports[0].doubts, (name, reports[0].line())
        assert set(reports[0].computed) == {0, 1, 3}, name


def test_a_sampler_that_calls_the_model_off_its_sigmas(graphs, tiny_wan, wan):
    """As detail and "lying sigma" nodes do: no call's sigma is one of ``sample_sigmas``."""
    import comfy.samplers

    def lying(model, x, sigmas, **options):
        def told_less(x, sigma, **extra):
            return model(x, sigma * 0.95, **extra)

        told_less.inner_model = model.inner_model
        return comfy.samplers.ksampler("euler").sampler_function(told_less, x, sigmas, **options)

    sampler = comfy.samplers.KSAMPLER(lying)
    assert not graphs.equal(tiny_wan.sample(wan, sampler=sampler), tiny_wan.sample(wan))
    graphs.check_graph(wan, lambda model: tiny_wan.sample(model, steps=graphs.STEPS, sampler=sampler))


@pytest.mark.parametrize("rule", RULES)
def test_sample_sigmas_that_say_nothing_are_not_read(graphs, tiny_wan, wan, rule):
    """Other nodes may put what they like into the transformer options."""
    import comfy.patcher_extension
    import torch

    def spoil(executor, guider, sigmas, extra_args, *args):
        extra_args["model_options"]["transformer_options"]["sample_sigmas"] = torch.zeros(2)
        return executor(guider, sigmas, extra_args, *args)

    model = graphs.scheduled(wan, rule=rule)
    expected = tiny_wan.sample(model)
    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE, "spoil", spoil)
    assert graphs.equal(tiny_wan.sample(model), expected)


@pytest.mark.parametrize("rule", RULES)
def test_image_to_image(graphs, tiny_wan, wan, rule):
    latent, reports = filled(tiny_wan.LATENT_SHAPE), []
    plain = ksampler(tiny_wan, wan, latent, denoise=0.5)["samples"]
    full = graphs.scheduled(wan, graphs.EVERY, rule)
    assert graphs.equal(ksampler(tiny_wan, full, latent, denoise=0.5)["samples"], plain)
    with graphs.rows_through(wan) as rows:
        ksampler(tiny_wan, graphs.scheduled(wan, (0, 3), rule, reports), latent, denoise=0.5)
    assert sum(rows) == 2 * 2 and reports[0].computed == (0, 3) and reports[0].steps == 8
    assert graphs.equal(ksampler(tiny_wan, full, latent, denoise=0.0)["samples"], latent["samples"])


@pytest.mark.parametrize("rule", RULES)
def test_a_high_and_a_low_noise_expert(graphs, tiny_wan, wan, rule):
    """Two KSampler (Advanced) nodes, two models, each under a schedule of its own: nothing crosses over."""
    import torch

    low, empty = tiny_wan.make_wan(seed=8), {"samples": torch.zeros(tiny_wan.LATENT_SHAPE)}

    def pair(first, second):
        half = advanced(tiny_wan, first, empty, 0, 4, first=True)
        return half, advanced(tiny_wan, second, half, 4, 10000, last=True)

    _, plain = pair(wan, low)
    full = [graphs.scheduled(model, graphs.EVERY, rule) for model in (wan, low)]
    assert graphs.equal(pair(*full)[1]["samples"], plain["samples"])
    reports = []
    models = [graphs.scheduled(model, (0, 2), rule, reports) for model in (wan, low)]
    half, whole = pair(*models)
    assert [(r.steps, r.computed) for r in reports] == [(4, (0, 2)), (6, (0, 2))]
    alone = advanced(tiny_wan, graphs.scheduled(low, (0, 2), rule), half, 4, 10000, last=True)
    assert graphs.equal(whole["samples"], alone["samples"])
    assert not any(report.doubts for report in reports)


@pytest.mark.parametrize("rule", RULES)
def test_a_second_pass_at_another_size_and_another_batch(graphs, tiny_wan, wan, rule):
    """Hires fix and more: one model through several samplers, each as if it were the only one."""
    import torch

    import nodes

    model = graphs.scheduled(wan, (0, 2, 5), rule)
    small = ksampler(tiny_wan, model)
    larger = {"samples": torch.nn.functional.interpolate(small["samples"], scale_factor=(1, 2, 1.5))}
    second = ksampler(tiny_wan, model, larger, denoise=0.5, seed=2)
    (three,) = nodes.RepeatLatentBatch().repeat(small, 3)
    batch = ksampler(tiny_wan, model, three, denoise=0.7, seed=3)
    assert second["samples"].shape == (1, 16, 2, 8, 6) and batch["samples"].shape[0] == 3
    for latent, got, settings in ((larger, second, {"denoise": 0.5, "seed": 2}), (three, batch, {"denoise": 0.7, "seed": 3})):
        fresh = graphs.scheduled(wan, (0, 2, 5), rule)
        assert graphs.equal(ksampler(tiny_wan, fresh, latent, **settings)["samples"], got["samples"])
        full = graphs.scheduled(wan, graphs.EVERY, rule)
        plain = ksampler(tiny_wan, wan, latent, **settings)["samples"]
        assert graphs.equal(ksampler(tiny_wan, full, latent, **settings)["samples"], plain)
    assert graphs.equal(ksampler(tiny_wan, model)["samples"], small["samples"])


def test_tiles_of_an_upscaler_are_runs_of_their_own(graphs, tiny_wan, wan):
    """One model, one short run for each tile, tiles at the border smaller."""
    reports = []
    model = graphs.scheduled(wan, (0, 2), "residual hold", reports)
    shapes = [(1, 16, 1, 4, 4), (1, 16, 1, 4, 4), (1, 16, 1, 4, 2), (1, 16, 1, 2, 2)]
    tiles = [ksampler(tiny_wan, model, filled(shape), steps=4, denoise=0.4)["samples"] for shape in shapes]
    assert len(reports) == 4 and all(report.computed == (0, 2) and not report.doubts for report in reports)
    for shape, tile in zip(shapes, tiles):
        fresh = graphs.scheduled(wan, (0, 2), "residual hold")
        assert graphs.equal(ksampler(tiny_wan, fresh, filled(shape), steps=4, denoise=0.4)["samples"], tile)


@pytest.mark.parametrize("rule", RULES)
def test_a_batch_is_its_samples(graphs, tiny_wan, wan, rule):
    shape = (3, *tiny_wan.LATENT_SHAPE[1:])
    graphs.check_graph(wan, lambda model: tiny_wan.sample(model, steps=graphs.STEPS, shape=shape), [rule])


@pytest.mark.parametrize("noise", [False, True])
def test_context_windows_that_stay_where_they_are_follow_the_schedule(graphs, tiny_wan, wan, noise):
    shape = (1, 16, 7, 4, 4)
    windowed = windows(wan, "standard_static", noise)
    plain = tiny_wan.sample(windowed, steps=graphs.STEPS, shape=shape)
    assert not graphs.equal(plain, tiny_wan.sample(wan, steps=graphs.STEPS, shape=shape))
    graphs.check_graph(windowed, lambda model: tiny_wan.sample(model, steps=graphs.STEPS, shape=shape))


def windows(model, schedule: str, freenoise: bool = False):
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    return ContextWindowsManualNode.execute(
        model, 3, 1, schedule, 1, False, "pyramid", 2, freenoise, "", False, "", True
    ).args[0]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("schedule", ["standard_uniform", "looped_uniform", "batched"])
def test_context_windows_that_move_are_computed_wherever_they_are_new(graphs, tiny_wan, wan, rule, schedule):
    shape = (1, 16, 7, 4, 4)
    windowed, reports = windows(wan, schedule), []

    def sample(model):
        return tiny_wan.sample(model, steps=graphs.STEPS, shape=shape)

    with graphs.rows_through(wan) as rows:
        plain = sample(windowed)
        full = sum(rows)
    assert graphs.equal(sample(graphs.scheduled(windowed, graphs.EVERY, rule)), plain)
    with graphs.rows_through(wan) as rows:
        sample(graphs.scheduled(windowed, graphs.COMPUTED, rule, reports))
    (report,) = reports
    assert report.calls == sum(rows) <= full
    if sum(rows) * graphs.STEPS > full * len(graphs.COMPUTED):
        assert "nothing cached fits" in report.line()
    else:
        assert not report.doubts


def test_a_latent_of_video_and_audio(comfy, graphs):
    """LTX-2: two latents in one, packed for the sampler."""
    import tiny_models

    model, reports = tiny_models.make("ltx2"), []
    plain = tiny_models.sample(model, "ltx2", steps=6)
    for rule in RULES:
        assert graphs.equal(tiny_models.sample(graphs.scheduled(model, graphs.EVERY, rule), "ltx2", steps=6), plain)
        got = tiny_models.sample(graphs.scheduled(model, (0, 1, 4), rule, reports), "ltx2", steps=6)
        assert got.isfinite().all() and not graphs.equal(got, plain)
        assert reports[-1].computed == (0, 1, 4) and not reports[-1].doubts


def test_previews_are_shown_at_every_step(graphs, tiny_wan, wan, monkeypatch):
    import comfy.cli_args
    import comfy.utils

    shown = []
    monkeypatch.setattr(comfy.cli_args.args, "preview_method", comfy.cli_args.LatentPreviewMethod.Latent2RGB)
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, preview, **more: shown.append((value, preview)))
    ksampler(tiny_wan, wan, steps=graphs.STEPS)
    plain, shown[:] = list(shown), []
    ksampler(tiny_wan, graphs.scheduled(wan, graphs.EVERY), steps=graphs.STEPS)
    full, shown[:] = list(shown), []
    ksampler(tiny_wan, graphs.scheduled(wan), steps=graphs.STEPS)

    def pictures(previews):
        return [preview[1].tobytes() for _, preview in previews if preview is not None]

    assert len(pictures(plain)) == graphs.STEPS and pictures(full) == pictures(plain)
    assert len(pictures(shown)) == graphs.STEPS and pictures(shown)[:2] == pictures(plain)[:2]


def test_sigmas_split_in_two_and_sigmas_turned_round(graphs, tiny_wan, wan):
    """SplitSigmas, and FlipSigmas as for noise found by unsampling: there is no schedule for sigmas that go up."""
    import torch
    from comfy_extras import nodes_custom_sampler as nodes
    from lemica.cache.identity import identify
    from lemica.cache.wrapper import install
    from lemica.schedules import Library, find_family, select

    library = Library(Path(__file__).resolve().parent.parent / "schedules" / "library")
    match, reports = find_family(identify(wan), library.families()), []

    def choose(setting):
        budget = min(3, len(setting.sigmas) - 1)
        selection = select(library, match, setting.sigmas, budget=budget)
        return selection.schedule, selection.note

    model = install(wan, choose, on_report=reports.append)

    def sample(model, sigmas, latent):
        (guider,) = nodes.CFGGuider.execute(model, tiny_wan.conditioning(11), tiny_wan.conditioning(12), 4.0).args
        return graphs.sample_with(guider, sigmas, latent)

    high, low = nodes.SplitSigmas.execute(graphs.sigmas_of(wan, 12), 5).args
    half = sample(model, high, {"samples": torch.zeros(tiny_wan.LATENT_SHAPE)})
    sample(model, low, {"samples": half})
    assert [(report.steps, len(report.computed)) for report in reports] == [(5, 3), (7, 3)]
    (up,) = nodes.FlipSigmas.execute(graphs.sigmas_of(wan)).args
    latent = filled(tiny_wan.LATENT_SHAPE)
    assert graphs.equal(sample(model, up, latent), sample(wan, up, latent))
    assert len(reports[-1].computed) == reports[-1].steps and "computing every step" in reports[-1].line()


def test_a_model_that_keeps_what_it_computes_is_computed(comfy, graphs, monkeypatch):
    """SamplerARVideo counts the keys that each call leaves in the model; a skipped call would leave none."""
    from dataclasses import replace

    import tiny_models
    from comfy_extras.nodes_ar_video import SamplerARVideo
    from comfy_extras.nodes_custom_sampler import BasicGuider

    causal = replace(tiny_models.MODELS["wan21_t2v"], config="WAN21_CausalAR_T2V", latent=(1, 16, 3, 4, 4))
    monkeypatch.setitem(tiny_models.MODELS, "causal", causal)
    model = tiny_models.make("causal")

    def sample(model):
        (sampler,) = SamplerARVideo.execute(1).args
        latent = {"samples": tiny_models.empty_latent("causal")}
        (guider,) = BasicGuider.execute(model, tiny_models.conditioning("causal", 11)).args
        return graphs.sample_with(guider, graphs.sigmas_of(model, 4), latent, sampler)

    reports = []
    assert graphs.equal(sample(graphs.scheduled(model, (0,), reports=reports)), sample(model))
    assert "the model keeps what it computes for the frames to come" in reports[0].line()
