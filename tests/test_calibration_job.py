"""A calibration of a real Wan model on the CPU: replays, jobs that go on, outcomes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lemica.schedules import Rule

STEPS = 8
RESIDUAL = (Rule("residual", "hold"),)


def make_sampling(tiny_wan, model, seed=4, steps=STEPS, sampler="euler", scheduler="simple", cfg=3.0, denoise=1.0):
    import torch
    from lemica.calibration import Sample
    from lemica.calibration.sampling import AttachedModel, ksampler_sampling

    latent = {"samples": torch.zeros(tiny_wan.LATENT_SHAPE)}
    return ksampler_sampling(
        model if isinstance(model, AttachedModel) else AttachedModel(model), tiny_wan.conditioning(11),
        tiny_wan.conditioning(12), latent, Sample("noise", seed), steps, cfg, sampler,
        scheduler, denoise,
    )


def make_samplings(tiny_wan, model, seeds=(4, 5)):
    from lemica.calibration.sampling import AttachedModel

    attached = AttachedModel(model)
    return [make_sampling(tiny_wan, attached, seed) for seed in seeds]


def make_settings(**changed):
    from lemica.calibration.job import Settings
    from lemica.schedules import ModelIdentity

    settings = Settings(
        family="test", model=ModelIdentity("WAN21", "WanModel"), mode="exact", metric="l1",
        rules=(Rule("output", "hold"), Rule("output", "linear")), longest=3, budgets=(4, 3), tries=4,
    )
    return replace(settings, **changed)


def make_job(tmp_path, samplings, name="mine", on_progress=lambda progress: None, **changed):
    from lemica.calibration.job import Job

    return Job(tmp_path, name, samplings, make_settings(**changed), on_progress=on_progress)


def plain_run(sampling, computed, rules, steps=STEPS):
    """Final latent and x_0 .. x_N-1 of a run by a schedule, watched through the sampler's callback."""
    from lemica.cache.placement import Placement
    from lemica.cache.run import SamplingRun
    from lemica.schedules import Schedule

    schedule = Schedule("path", "test", steps, tuple(computed), tuple(rules), "custom")
    latents = []
    final = sampling.run(
        lambda sigmas: SamplingRun(schedule, sigmas, Placement("auto")),
        lambda step, denoised, x, total: latents.append(x.flatten().clone()),
    )
    return final, latents


def test_a_sampling_gives_what_the_ksampler_node_gives(comfy, tiny_wan, wan):
    import torch

    from nodes import common_ksampler

    latent = {"samples": torch.zeros(tiny_wan.LATENT_SHAPE)}
    for sampler, scheduler, denoise in (("euler", "simple", 1.0), ("dpmpp_2m", "karras", 0.6), ("uni_pc", "normal", 1.0)):
        (plain,) = common_ksampler(
            wan, 4, STEPS, 3.0, sampler, scheduler, tiny_wan.conditioning(11), tiny_wan.conditioning(12), latent,
            denoise=denoise,
        )
        sampling = make_sampling(tiny_wan, wan, sampler=sampler, scheduler=scheduler, denoise=denoise)
        final, _ = plain_run(sampling, range(len(sampling.sigmas) - 1), [rule_of("output hold")] * STEPS)
        assert torch.equal(sampling.latents(final), plain["samples"])


def rule_of(text):
    return Rule.parse(text)


@pytest.mark.parametrize("rule", ["output hold", "output linear", "residual hold", "residual linear"])
def test_replays_are_what_whole_runs_show(comfy, tiny_wan, wan, rule):
    from lemica.calibration.latents import l1
    from lemica.calibration.replay import Replays

    rule = rule_of(rule)
    sampling = make_sampling(tiny_wan, wan)
    replays = Replays(sampling, sampling.segments(), l1, [rule])
    full, _ = plain_run(sampling, range(STEPS), [rule] * STEPS)
    assert (replays.full().final == full).all()
    for before, start, ends in ((0, 1, (4, 5, 8)), (1, 2, (5, 6)), (-1, 0, (2, 3))):
        for end in ends:
            computed = sorted({0, max(before, 0), start, *range(end, STEPS)})
            final, _ = plain_run(sampling, computed, [rule] * len(computed))
            assert replays.replay(before, start, end, rule) == l1(final, full) > 0


def test_a_replay_computes_from_the_end_of_its_segment_on(comfy, tiny_wan, wan):
    from lemica.calibration.latents import l1
    from lemica.calibration.replay import Replays

    counting, batches = tiny_wan.counted(wan)
    sampling = make_sampling(tiny_wan, counting)
    replays = Replays(sampling, sampling.segments(), l1, [rule_of("output linear")])
    replays.full()
    assert len(batches) == STEPS, "neither the response of the sampler nor the record of the run evaluates the model"
    replays.replay(1, 3, 6, rule_of("output linear"))
    assert len(batches) == STEPS + (STEPS - 6)


def test_an_exact_graph_holds_what_replays_give_and_the_cost_is_what_was_said(comfy, tiny_wan, wan, tmp_path):
    from lemica.calibration.latents import l1
    from lemica.calibration.replay import Replays

    counting, batches = tiny_wan.counted(wan)
    job = make_job(tmp_path, [make_sampling(tiny_wan, counting)], budgets=())
    cost = job.cost()
    graph = job.run().graph
    assert len(batches) == cost.references + cost.replays and cost.paths == {}
    sampling = make_sampling(tiny_wan, wan)
    replays = Replays(sampling, sampling.segments(), l1, graph.rules)
    for (before, start, end, kind), error in zip(graph.segments.tolist(), graph.errors[0].tolist()):
        if before in (-1, max(start - (end - start), 0)):
            assert error == replays.replay(before, start, end, graph.rules[kind])
    assert np.isfinite(graph.errors).all()


@pytest.mark.parametrize("mode", ["short", "normal"])
def test_the_shorter_modes_rank_segments_like_the_exact_one(comfy, tiny_wan, wan, tmp_path, mode):
    from scipy.stats import spearmanr

    exact = make_job(tmp_path, [make_sampling(tiny_wan, wan)], "exact", budgets=()).run().graph
    counting, batches = tiny_wan.counted(wan)
    short = make_job(tmp_path, [make_sampling(tiny_wan, counting)], mode, mode=mode, budgets=()).run().graph
    assert len(batches) == STEPS, "the errors of all segments follow from the full run"
    assert short.mode == mode and short.metric == "l2"
    assert spearmanr(exact.errors[0], short.errors[0]).statistic > 0.9


class Stopped(Exception):
    """Stands for whatever ends a calibration early."""


@pytest.mark.parametrize("mode, stop_at", [("exact", 1), ("exact", 2), ("exact", 7), ("exact", 20), ("exact", 33),
                                           ("exact", 41), ("short", 1), ("short", 3), ("short", 6), ("normal", 30)])
def test_a_job_goes_on_after_a_stop_and_gives_the_same(comfy, tiny_wan, wan, tmp_path, mode, stop_at):
    samplings = make_samplings(tiny_wan, wan)
    whole = make_job(tmp_path, samplings, "whole", mode=mode).run()
    told = []

    def stop(progress):
        told.append(progress)
        if len(told) == stop_at:
            raise Stopped

    with pytest.raises(Stopped):
        make_job(tmp_path, samplings, "resumed", on_progress=stop, mode=mode).run()
    counting, batches = tiny_wan.counted(wan)
    resumed = make_job(tmp_path, make_samplings(tiny_wan, counting), "resumed", mode=mode).run()
    assert np.array_equal(whole.graph.errors, resumed.graph.errors)
    assert {b: o.errors for b, o in whole.outcomes.items()} == {b: o.errors for b, o in resumed.outcomes.items()}
    done = len(batches)
    make_job(tmp_path, make_samplings(tiny_wan, counting), "resumed", mode=mode).run()
    assert len(batches) == done, "a finished calibration asks nothing of the model"


def test_more_samples_later_add_to_what_was_measured(comfy, tiny_wan, wan, tmp_path):
    first = make_job(tmp_path, [make_sampling(tiny_wan, wan, 4)], budgets=()).run().graph
    both = make_job(tmp_path, [make_sampling(tiny_wan, wan, 5)], budgets=()).run().graph
    assert [sample.seed for sample in both.samples] == [4, 5]
    assert np.array_equal(both.errors[0], first.errors[0])


def test_the_outcome_is_measured_and_never_worse_than_uniform_spacing(comfy, tiny_wan, wan, tmp_path):
    from lemica.calibration.latents import l1
    from lemica.calibration.outcome import score, uniform
    from lemica.calibration.replay import Replays

    samplings = make_samplings(tiny_wan, wan)
    result = make_job(tmp_path, samplings).run()
    replays = [Replays(sampling, None, l1) for sampling in samplings]
    for budget, outcome in result.outcomes.items():
        schedule = outcome.route.schedule(STEPS)
        assert schedule.budget == budget
        assert outcome.errors == tuple(one.path(schedule) for one in replays)
        for rule in result.graph.rules:
            even = replace(schedule, computed=uniform(STEPS, budget), rules=(rule,) * budget)
            assert outcome.score <= score([one.path(even) for one in replays]) + 1e-9
    for schedule in result.schedules("mine"):
        assert schedule.origin == "calibrated" and schedule.source["measured"]["worst"] > 0
        assert schedule.sigmas == samplings[0].sigmas


def test_every_sampler_of_ksampler_is_measured_or_refused_with_its_reason(comfy, tiny_wan, wan, tmp_path):
    import comfy.samplers
    from lemica.calibration.job_error import JobError
    from lemica.calibration.replay import ReplayError

    refused, draws = [], {"euler": False, "dpmpp_2m": False, "uni_pc": False, "euler_ancestral": True, "dpmpp_2m_sde": True}
    for sampler in comfy.samplers.KSampler.SAMPLERS:
        sampling = make_sampling(tiny_wan, wan, steps=5, sampler=sampler)
        try:
            result = make_job(tmp_path, [sampling], sampler, mode="short", budgets=(3,)).run()
        except JobError as error:
            assert "take another one" in str(error)
            with pytest.raises(ReplayError, match="another sampler"):
                make_job(tmp_path, [sampling], sampler, budgets=()).run()
            refused.append(sampler)
            continue
        assert np.isfinite(result.graph.errors).all() and (result.graph.errors > 0).any(), sampler
        (schedule,) = result.schedules("mine")
        assert schedule.budget == 3 and any(schedule.weights) and schedule.source["measured"]["worst"] > 0
        if sampler in draws:
            assert ("carries" in schedule.source) == draws.pop(sampler), sampler
    assert not draws
    assert refused == ["dpm_fast", "dpm_adaptive"]


def test_every_scheduler_of_ksampler_is_measured(comfy, tiny_wan, wan, tmp_path):
    import comfy.samplers

    for scheduler in comfy.samplers.KSampler.SCHEDULERS:
        sampling = make_sampling(tiny_wan, wan, steps=6, scheduler=scheduler)
        graph = make_job(tmp_path, [sampling], scheduler, mode="short", budgets=()).run().graph
        assert np.isfinite(graph.errors).all() and graph.steps == len(sampling.sigmas) - 1


def test_a_model_that_gives_nan_is_named_and_what_was_measured_stays(comfy, tiny_wan, wan, tmp_path):
    import comfy.patcher_extension
    from lemica.calibration.replay import ReplayError

    make_job(tmp_path, [make_sampling(tiny_wan, wan, 4)], budgets=()).run()
    broken = wan.clone()
    broken.add_wrapper_with_key(
        comfy.patcher_extension.WrappersMP.APPLY_MODEL, "broken", lambda executor, *args: executor(*args) * float("nan")
    )
    with pytest.raises(ReplayError, match="not finite.*seed 5"):
        make_job(tmp_path, [make_sampling(tiny_wan, broken, 5)], budgets=()).run()
    assert len(make_job(tmp_path, [make_sampling(tiny_wan, wan, 4)], budgets=()).run().graph.samples) == 1


def test_another_model_under_the_same_name_is_noticed_when_a_half_measured_sample_goes_on(comfy, tiny_wan, wan, tmp_path):
    from lemica.calibration.job_error import JobError

    told = []

    def stop(progress):
        told.append(progress)
        if len(told) == 6:
            raise Stopped

    with pytest.raises(Stopped):
        make_job(tmp_path, [make_sampling(tiny_wan, wan)], on_progress=stop).run()
    with pytest.raises(JobError, match="another picture"):
        make_job(tmp_path, [make_sampling(tiny_wan, tiny_wan.make_wan(seed=9))]).run()
    make_job(tmp_path, [make_sampling(tiny_wan, wan)]).run()


@pytest.mark.parametrize("stop_at", [2, 5])
def test_another_model_under_the_same_name_is_noticed_when_fits_go_on(comfy, tiny_wan, wan, tmp_path, stop_at):
    from lemica.calibration.job_error import JobError

    told = []

    def stop(progress):
        told.append(progress)
        if len(told) == stop_at:
            raise Stopped

    with pytest.raises(Stopped):
        make_job(tmp_path, [make_sampling(tiny_wan, wan)], on_progress=stop, mode="short").run()
    with pytest.raises(JobError, match="another picture"):
        make_job(tmp_path, [make_sampling(tiny_wan, tiny_wan.make_wan(seed=9))], mode="short").run()


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"longest": STEPS + 1}, "longest segment is 9"),
        ({"longest": 1}, "longest segment is 1"),
        ({"budgets": (0,)}, "Budget 0"),
        ({"budgets": (STEPS + 1,)}, "Budget 9"),
        ({"mode": "fast"}, "'fast'.*short"),
        ({"mode": "quick"}, "'quick'.*short"),
        ({"mode": "short", "rules": RESIDUAL}, "effort short does not make: set effort to exact"),
        ({"mode": "normal", "rules": RESIDUAL}, "effort normal does not make: set effort to exact"),
        ({"metric": "fid"}, "'fid'.*l1"),
        ({"rules": ()}, "no rules"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_runs(comfy, tiny_wan, wan, tmp_path, changed, told):
    from lemica.calibration.job_error import JobError

    with pytest.raises(JobError, match=told):
        make_job(tmp_path, [make_sampling(tiny_wan, wan)], **changed)
    assert list(tmp_path.iterdir()) == []


def test_no_samples_one_step_and_mixed_grids_are_refused(comfy, tiny_wan, wan, tmp_path):
    from lemica.calibration.job_error import JobError

    with pytest.raises(JobError, match="one prompt or more"):
        make_job(tmp_path, [])
    with pytest.raises(JobError, match="1 step"):
        make_job(tmp_path, [make_sampling(tiny_wan, wan, steps=1)])
    with pytest.raises(JobError, match="one grid at a time"):
        make_job(tmp_path, [make_sampling(tiny_wan, wan), make_sampling(tiny_wan, wan, scheduler="karras")])


def test_a_mode_gives_the_same_graph_when_a_fuller_one_was_measured_before(comfy, tiny_wan, wan, tmp_path):
    alone = make_job(tmp_path, [make_sampling(tiny_wan, wan)], "alone", mode="short", budgets=()).run().graph
    exact = make_job(tmp_path, [make_sampling(tiny_wan, wan)], "both", budgets=()).run().graph
    after = make_job(tmp_path, [make_sampling(tiny_wan, wan)], "both", mode="short", budgets=()).run().graph
    assert np.array_equal(alone.errors, after.errors) and not np.array_equal(exact.errors, after.errors)


def test_judges_measure_whole_paths_and_nothing_else(comfy, tiny_wan, wan, tmp_path):
    from lemica.calibration.job import Job

    one, two = make_samplings(tiny_wan, wan)
    job = Job(tmp_path, "judged", [one], make_settings(), judges=[two])
    result = job.run()
    assert len(result.graph.samples) == 1
    assert all(len(outcome.errors) == 2 for outcome in result.outcomes.values())
    assert len(list(job.folder.path.glob("run-*"))) == len(list(job.folder.path.glob("replays-*"))) == 1
    assert result.computed <= job.cost().computed


def test_what_an_older_version_measured_is_kept_and_claims_no_patches(comfy, tiny_wan, wan, tmp_path):
    """The first version did not write down with which LoRAs it measured."""
    import json

    from lemica.schedules import ModelIdentity

    counting, batches = tiny_wan.counted(wan)
    first = make_job(tmp_path, make_samplings(tiny_wan, counting)).run()
    assert first.graph.model.patches == "" and first.schedules("mine")[0].source["patches"] == ""
    (file,) = tmp_path.glob("*/job.json")
    about = json.loads(file.read_text())
    del about["identity"]["patches"]
    file.write_text(json.dumps(about))
    batches.clear()
    for patches in ("", "0123456789abcdef"):
        again = make_job(
            tmp_path, make_samplings(tiny_wan, counting), model=ModelIdentity("WAN21", "WanModel", patches=patches)
        ).run()
        assert not batches and np.array_equal(again.graph.errors, first.graph.errors)
        assert again.graph.model.patches is None and again.schedules("mine")[0].source["patches"] is None
    assert json.loads(file.read_text()) == about
