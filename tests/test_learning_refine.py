"""The run that follows a learning one from the same noise: unseen, and the weights of its path follow from it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from learning_pictures import STEPS, read_description, spoiled

SAMPLERS = ["euler", "dpmpp_2m", "heun", "dpmpp_2m_sde", "euler_ancestral", "euler_cfg_pp", "uni_pc", "lms"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_learning_run_is_refined_and_the_fourth_follows_weights(pictures, records, sampler):
    import torch

    for seed in (1, 2, 3):
        latent, report = pictures.make(seed, learn="refine", sampler=sampler)
        assert torch.equal(latent, pictures.plain(seed=seed, sampler=sampler)), "bit for bit the plain run"
        assert (report.origin, len(report.computed), report.doubts) == ("learning", STEPS, ())
        assert report.note.endswith(f"learn from: {seed} of 3; then one with 3 steps, to refine")
        refined = records.all()[0][1].refined
        assert [len(one.computed) for one in refined] == [3] and refined[0].error > 0
    assert len({record.refined[0].computed for _, record in records.all()}) == 1, "one path"
    report = pictures.make(4, learn="refine", sampler=sampler)[1]
    assert (report.origin, len(report.computed), report.doubts) == ("learned", 3, ())
    assert "fitted to 3 of your pictures for 3 of 8 steps" in report.note
    newest = records.all()[0][1]
    (learned,) = records.learned(newest.kind)
    assert report.computed == newest.refined[0].computed and any(learned.schedule(3).weights)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "heun", "dpmpp_2m_sde", "euler_cfg_pp"])
def test_one_picture_gives_the_weights_of_a_calibration_on_it(pictures, records, tiny_wan, wan, sampler):
    """What goes on along with a run is what walks in lockstep find that stop and recall."""
    from lemica.cache.placement import Placement
    from lemica.cache.run import SamplingRun
    from lemica.calibration.learning.learned import learned_from
    from lemica.calibration.references.closed_loop import PAST, fit, half_slope
    from lemica.calibration.references.reference import Recorder, Reference
    from lemica.calibration.references.walk import Walk
    from lemica.calibration.replay import full_schedule
    from test_calibration_job import make_sampling

    pictures.make(1, learn="refine", sampler=sampler)
    ((_, record),) = records.all()
    schedule = learned_from((record,)).schedule(3)
    sampling = make_sampling(tiny_wan, wan, seed=1, steps=STEPS, sampler=sampler)
    segments = sampling.segments()
    recorder = Recorder(segments.response)
    sampling.run(
        lambda sigmas: SamplingRun(full_schedule(STEPS), sigmas, Placement("auto"), answered=recorder.answered)
    )
    reference = Reference(segments, recorder.derivatives())
    walk, weights, computed = Walk(sampling, reference, schedule.computed), [], schedule.computed
    for place, (start, end) in enumerate(schedule.segments()):
        prior = half_slope(sampling.sigmas, computed[place::-1][:PAST], end) if end - start > 1 else ()
        weights.append(fit(walk.products(place, tuple(weights)), prior) if prior else ())
    assert [len(one) for one in weights] == [len(one) for one in schedule.weights]
    assert np.concatenate(weights) == pytest.approx(np.concatenate(schedule.weights), rel=2e-3, abs=2e-3)


def test_what_refining_measured_is_the_deviation_of_the_fast_run(pictures, records, wan):
    """On the last picture, whose weights are those of the schedule, when it is made again by it."""
    from lemica.cache.wrapper import install
    from lemica.calibration.learning.learned import learned_from

    pictures.make(1, learn="refine")
    ((_, record),) = records.all()
    schedule = learned_from((record,)).schedule(3)
    fast = pictures._tiny_wan.sample(
        install(wan, lambda setting: (schedule, "")), seed=1, steps=STEPS, cfg=3.0
    )
    shown = wan.model.latent_format.process_in
    off = shown(fast) - shown(pictures.plain(seed=1))
    assert float(off.square().mean().sqrt()) == pytest.approx(record.refined[0].error, rel=1e-3)
    assert schedule.source["measured"] == {"mean": record.refined[0].error, "worst": record.refined[0].error}


def test_another_budget_is_refined_in_one_more_full_run(pictures, records):
    pictures.learned(1, 2, 3, learn="refine")
    report = pictures.make(4, learn="refine", budget=4)[1]
    assert (report.origin, len(report.computed)) == ("learning", STEPS)
    assert report.note.endswith("after 3 others; then one with 4 steps, to refine")
    report = pictures.make(5, learn="refine", budget=4)[1]
    assert (report.origin, len(report.computed)) == ("learned", 4) and "fitted to 1 of your pictures" in report.note
    assert "fitted to 3 of your pictures" in pictures.make(5, learn="refine")[1].note
    assert pictures.make(6, learn="on", budget=5)[1].origin == "learned", "on makes no further full run"


def test_a_budget_that_cannot_be_refined_does_not_keep_runs_full_for_ever(pictures, records, monkeypatch):
    from lemica.calibration.references import refining
    from lemica.nodes import learn

    monkeypatch.setattr(learn, "KEPT", 5)
    monkeypatch.setattr(refining, "same", lambda given, known: False)
    origins = [report.origin for report in pictures.learned(1, 2, 3, 4, 5, 6, learn="refine")]
    assert origins == ["learning"] * 5 + ["learned"]
    assert not any(record.refined for _, record in records.all())


def test_the_same_picture_at_another_budget_keeps_what_the_first_told(pictures, records):
    pictures.learned(1, 2, 3, learn="refine")
    pictures.make(3, learn="refine", budget=4)
    assert sorted(len(one.computed) for one in records.all()[0][1].refined) == [3, 4]
    assert len(records.all()) == 3


def test_a_budget_of_all_steps_has_nothing_to_refine(pictures, records):
    report = pictures.make(1, learn="refine", budget=STEPS)[1]
    assert "refine" not in report.note and not records.all()[0][1].refined


def test_an_interrupted_second_run_leaves_the_record_and_nothing_else(pictures, records, monkeypatch):
    import comfy.utils

    class Stop(Exception):
        pass

    def hook(value, total, preview, **_):
        raise Stop

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    with pytest.raises(Stop):
        pictures.make(1, learn="refine")
    ((_, record),) = records.all()
    assert not record.refined
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", None)
    pictures.make(1, learn="refine")
    assert records.all()[0][1].refined, "the same picture goes on from there"


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral"])
def test_nothing_of_the_second_run_shows(pictures, records, tiny_wan, wan, sampler):
    """Neither in the callback, nor in what is drawn later, nor on guider and model."""
    import comfy.sample
    import comfy.samplers
    import torch
    from lemica.cache.fingerprint import KEY
    from lemica.cache.wrapper import install
    from lemica.nodes.apply import chooser

    def made(model):
        seen = []
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(tiny_wan.conditioning(11), tiny_wan.conditioning(12))
        guider.set_cfg(3.0)
        latent = torch.zeros(tiny_wan.LATENT_SHAPE)
        noise = comfy.sample.prepare_noise(latent, 1)
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS)
        samples = guider.sample(
            noise, latent, comfy.samplers.sampler_object(sampler), sigmas, disable_pbar=True, seed=1,
            callback=lambda step, denoised, x, steps: seen.append((step, denoised.clone())),
        )
        return samples, seen, torch.rand(3), guider

    plain, refined = made(wan), made(install(wan, chooser(pictures.identity, None, 3, None, None, learn="refine")))
    assert records.all()[0][1].refined
    assert torch.equal(plain[0], refined[0]) and torch.equal(plain[2], refined[2])
    assert [step for step, _ in refined[1]] == list(range(STEPS))
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(plain[1], refined[1], strict=True))
    assert vars(plain[3]).keys() == vars(refined[3]).keys()
    assert KEY not in refined[3].model_options["transformer_options"]


def test_memory_that_runs_out_in_the_second_run_costs_no_picture(pictures, records, monkeypatch):
    import comfy.model_management
    import torch
    from lemica.cache import again

    def out(*_):
        raise comfy.model_management.OOM_EXCEPTION("no memory left")

    monkeypatch.setattr(again.comfy.utils, "ProgressBar", lambda total: type("Bar", (), {"update_absolute": out})())
    latent, report = pictures.make(1, learn="refine")
    assert report.finished and torch.equal(latent, pictures.plain(seed=1))
    assert not records.all()[0][1].refined


def test_areas_and_masks_are_sampled_the_same_way_again(pictures, records, tiny_wan, wan):
    import comfy.sample
    import comfy.samplers
    import torch
    from lemica.cache.wrapper import install
    from lemica.nodes.apply import chooser

    positive = [
        [tiny_wan.conditioning(11)[0][0], {"area": ("percentage", 1.0, 0.5, 1.0, 0.0, 0.0, 0.0), "strength": 0.8}],
        *tiny_wan.conditioning(12),
    ]
    mask = torch.zeros(tiny_wan.LATENT_SHAPE[-2:])
    mask[:, :2] = 1.0
    latent = torch.ones(tiny_wan.LATENT_SHAPE)

    def made(model):
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS)
        return comfy.sample.sample_custom(
            model, comfy.sample.prepare_noise(latent, 1), 3.0, comfy.samplers.sampler_object("euler"), sigmas, positive,
            tiny_wan.conditioning(12), latent, noise_mask=mask[None, None], disable_pbar=True, seed=1,
        )

    found = made(install(wan, chooser(pictures.identity, None, 3, None, None, learn="refine")))
    assert torch.equal(found, made(wan))
    ((_, record),) = records.all()
    assert record.kind.masked and len(record.refined) == 1


def test_a_model_that_gives_no_numbers_costs_nothing_but_what_would_be_learned(pictures, records, wan):
    import torch

    model = wan.clone()
    model.set_model_unet_function_wrapper(lambda apply_model, given: given["input"] * torch.nan)
    report = pictures.make(1, model=model, learn="refine")[1]
    assert report.finished and not records.all()


def test_records_of_paths_are_checked_and_others_stay_readable(pictures, records):
    pictures.learned(1, 2, 3, learn="refine")
    name, record = records.all()[0]
    content = (records.root / name).read_bytes()
    (path,) = record.refined
    known = {"computed": list(path.computed), "error": path.error}
    infinite = [None if one is None else replace(one, square=np.inf) for one in path.told]
    broken = {
        "order": spoiled(content, paths=[known | {"computed": [0, 5, 2]}]),
        "range": spoiled(content, paths=[known | {"computed": [0, 2, 99]}]),
        "first": spoiled(content, paths=[known | {"computed": [1, 2, 3]}]),
        "error": spoiled(content, paths=[known | {"error": -1.0}]),
        "fields": spoiled(content, paths=[known | {"prompt": "a cat"}]),
        "none": spoiled(content, paths=[]),
        "twice": spoiled(content, paths=[known, known]),
        "kind": spoiled(content, paths={"a": 1}),
    }
    for what, bytes_ in broken.items():
        (records.root / f"{what}.safetensors").write_bytes(bytes_)
    assert len(records.all()) == 3
    assert sorted(problem.split(".")[0] for problem in records.problems()) == sorted(broken)
    with pytest.raises(ValueError, match="not all finite"):
        replace(path, told=tuple(infinite))
    pictures.learned(1, learn="on", sampler="heun")
    newest = (records.root / records.all()[0][0]).read_bytes()
    assert json.loads(read_description(newest))["schema"] == 1, "what has no path is read by older versions"


def test_numbers_that_no_run_told_leave_the_fixed_rules(pictures, records):
    """Products of no real vectors, whose weights no schedule may have."""
    pictures.learned(1, 2, 3, learn="refine")
    for name, record in records.all():
        (path,) = record.refined
        told = tuple(one and replace(one, normal=one.normal * 0.0, right=one.right + 1.0) for one in path.told)
        (records.root / name).write_bytes(replace(record, refined=(replace(path, told=told),)).content())
    report = pictures.make(4, learn="on")[1]
    assert report.origin == "learned" and "solved from 3 of your pictures" in report.note
