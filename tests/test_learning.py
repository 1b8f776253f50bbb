"""Learning from full runs that users make: through the chooser of the LeMiCa node, on a real model class and real samplers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from learning_pictures import STEPS, read_description, spoiled


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "heun", "dpmpp_2m_sde", "euler_cfg_pp", "uni_pc"])
def test_three_full_runs_teach_and_the_fourth_is_fast(pictures, records, sampler):
    import torch

    for count in (1, 2, 3):
        latent, report = pictures.make(count, sampler=sampler)
        assert torch.equal(latent, pictures.plain(seed=count, sampler=sampler)), "bit for bit the plain run"
        assert (report.origin, len(report.computed)) == ("learning", STEPS)
        assert report.note.endswith(f"a full run, to learn from: {count} of 3") and not report.doubts
        assert len(records.all()) == count
    report = pictures.learned(4, sampler=sampler)[0]
    assert (report.origin, len(report.computed)) == ("learned", 3)
    assert "solved from 3 of your pictures for 3 of 8 steps" in report.note
    assert len(records.all()) == 3, "a fast run is not learned from"


def test_what_is_learned_is_what_a_calibration_measures(pictures, records, tiny_wan, wan, tmp_path):
    """The same samples in a calibration of effort short: the errors of all segments agree."""
    from test_calibration_job import STEPS as ITS_STEPS
    from test_calibration_job import make_job, make_samplings

    seeds = (4, 5, 6)
    pictures.learned(*seeds, steps=ITS_STEPS, cfg=3.0)
    (_, newest), *_ = records.all()
    (learned,) = records.learned(newest.kind)
    graph = learned.graph
    result = make_job(
        tmp_path / "jobs", make_samplings(tiny_wan, wan, seeds), mode="short", metric="l2", rules=graph.rules
    ).run()
    theirs = dict(zip(map(tuple, result.graph.segments.tolist()), result.graph.mean(), strict=True))
    ours = dict(zip(map(tuple, graph.segments.tolist()), graph.mean(), strict=True))
    common = sorted(theirs.keys() & ours.keys())
    assert len(common) > 20
    assert [ours[row] for row in common] == pytest.approx([theirs[row] for row in common], rel=1e-6)


def test_what_differs_is_not_mixed(pictures, records):
    from test_cache_identity import PARTS
    from tiny_models import lora, with_lora

    pictures.learned(1, 2, 3)
    patched = with_lora(pictures._model, lora(pictures._model, PARTS, 5))
    other = replace(pictures.identity, file="other.safetensors")
    from lemica.cache.identity import patches_digest

    same = {"cfg": 3.6}, {"shape": (2, *pictures.plain().shape[1:])}
    for setting in same:
        assert pictures.make(9, **setting)[1].origin == "learned", setting
    strange = (
        {"cfg": 6.0}, {"sampler": "dpmpp_2m"}, {"identity": other},
        {"model": patched, "identity": replace(pictures.identity, patches=patches_digest(patched))},
        {"shape": (*pictures.plain().shape[:-1], 2 * pictures.plain().shape[-1])},
    )
    for setting in strange:
        report = pictures.make(9, **setting)[1]
        assert (report.origin, report.note.rsplit(": ", 1)[1]) == ("learning", "1 of 3"), setting


def test_other_steps_take_the_learned_graph_interpolated(pictures):
    pictures.learned(1, 2, 3)
    report = pictures.make(4, steps=12, budget=5)[1]
    assert (report.origin, len(report.computed)) == ("resampled", 5)
    assert "error graph of 3 of your pictures (8 steps), interpolated to 12 steps" in report.note


def test_off_estimates_and_choices_of_the_users_own_are_kept(pictures, records):
    from lemica.schedules import Rule

    assert pictures.make(1, learn="off")[1].origin == "estimated"
    assert pictures.make(1, computed=(0, 3, 5))[1].computed == (0, 3, 5)
    assert len(pictures.make(1, rule=Rule("output", "hold"))[1].computed) == 3
    assert not records.all()
    pictures.learned(1, 2, 3)
    assert pictures.make(4, learn="off")[1].origin == "estimated"


def test_every_run_goes_on_learning_and_the_newest_are_kept(pictures, records, monkeypatch):
    from lemica.calibration.learning import records as module

    monkeypatch.setattr(module, "KEPT", 4)
    pictures.learned(1, 2, 3)
    reports = pictures.learned(4, 5, 6, learn="every run")
    assert [len(report.computed) for report in reports] == [STEPS] * 3
    assert reports[0].note.endswith("after 3 others")
    assert sorted(record.seed for _, record in records.all()) == [3, 4, 5, 6]
    assert "4 of your pictures" in pictures.learned(7)[0].note


def test_the_same_picture_again_teaches_nothing_new(pictures, records):
    pictures.learned(1, 1, 1)
    assert len(records.all()) == 1
    assert pictures.learned(2)[0].note.endswith("2 of 3")


def test_a_file_that_was_copied_counts_once(pictures, records):
    pictures.learned(1, 2)
    name, _ = records.all()[0]
    (records.root / "copy.safetensors").write_bytes((records.root / name).read_bytes())
    assert len(records.all()) == 3
    assert pictures.learned(3)[0].note.endswith("3 of 3")
    assert pictures.learned(4)[0].origin == "learned"


def test_numbers_that_no_run_has_take_no_run_away(pictures, records):
    """Finite ones, whose errors are not."""
    pictures.learned(1, 2, 3)
    for name, record in records.all():
        response = replace(record.response, moves=record.response.moves * 1e200)
        (records.root / name).write_bytes(replace(record, response=response).content())
    report = pictures.learned(4)[0]
    assert report.origin == "estimated" and report.finished


def test_a_run_of_one_step_is_not_learned_from(pictures, records):
    report = pictures.learned(1, steps=1, learn="every run")[0]
    assert "nothing is learned: a run of one step has nothing to reuse" in report.note and not records.all()


def test_a_run_that_does_not_end_teaches_nothing(pictures, records):
    class Stop(Exception):
        pass

    def stop(step, *_):
        if step == 4:
            raise Stop

    with pytest.raises(Stop):
        pictures.make(1, callback=stop)
    assert not records.all() and not list(records.root.glob("*"))


def test_nothing_is_mixed_where_model_or_sampler_cannot_be_told(pictures, records):
    for identity in (replace(pictures.identity, file=None), replace(pictures.identity, patches=None)):
        report = pictures.make(1, identity=identity)[1]
        assert report.origin == "estimated" and "nothing is learned: it cannot be told which" in report.note
    report = pictures.make(1, sampler="dpm_adaptive")[1]
    assert "nothing is learned under this sampler" in report.note
    assert not records.all()


def test_broken_and_foreign_records_are_left_out_and_named(pictures, records):
    pictures.learned(1, 2, 3)
    name, record = records.all()[0]
    content = (records.root / name).read_bytes()
    infinite = replace(record, gram=record.gram.copy())
    infinite.gram[0, 0] = np.inf
    broken = {
        "short": content[: len(content) // 2], "empty": b"", "newer": spoiled(content, schema=99),
        "steps": spoiled(content, sigmas=[2.0, 1.0, 0.0]), "infinite": infinite.content(),
        "when": spoiled(content, made="yesterday"), "kind": spoiled(content, kind={"family": "x"}),
        "seed": spoiled(content, seed=-1), "calls": spoiled(content, calls=[[0, 0, 1.0]]), "not": spoiled(content, kind=None),
    }
    for what, bytes_ in broken.items():
        (records.root / f"{what}.safetensors").write_bytes(bytes_)
    assert len(records.all()) == 3
    assert sorted(problem.split(".")[0] for problem in records.problems()) == sorted(broken)
    assert "update the node pack" in next(one for one in records.problems() if one.startswith("newer"))
    assert pictures.learned(4)[0].origin == "learned"


def test_a_record_holds_no_prompt_and_is_small(pictures, records):
    pictures.learned(1, steps=50)
    (file,) = records.root.iterdir()
    assert file.stat().st_size < 1 << 20
    assert set(json.loads(read_description(file.read_bytes()))) == {
        "schema", "kind", "sigmas", "conds", "seed", "made", "calls", "noise",
    }


def test_a_record_that_is_left_out_teaches_nothing_until_it_counts_again(pictures, records):
    from lemica.calibration.learning.records import UnknownRecordError
    from lemica.schedules import ScheduleError

    pictures.learned(1, 2, 3)
    name, before = records.all()[0]
    records.change(name, left_out=True, title="the owl")
    _, left = records.all()[0]
    assert (left.left_out, left.title) == (True, "the owl") and np.array_equal(left.gram, before.gram)
    assert pictures.learned(3)[0].note.endswith("3 of 3"), "its picture again is a full run"
    assert [(record.left_out, record.title) for _, record in records.all()].count((True, "the owl")) == 1
    assert pictures.learned(4)[0].note.endswith("3 of 3")
    assert "from 3 of your pictures" in pictures.learned(5)[0].note
    again = next(name for name, record in records.all() if record.left_out)
    records.change(again, left_out=False)
    assert "from 4 of your pictures" in pictures.learned(5)[0].note
    with pytest.raises(UnknownRecordError):
        records.change("none.safetensors", left_out=True)
    with pytest.raises(ScheduleError):
        records.change(again, title="x" * 999)


def test_a_full_disk_costs_the_record_alone(pictures, records, monkeypatch):
    from lemica.calibration.learning import records as module

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_atomically", full)
    assert pictures.learned(1)[0].finished
    assert not records.all()


def test_a_masked_run_learns_from_what_is_sampled_freely(pictures, records, tiny_wan):
    import comfy.sample
    import comfy.samplers
    import torch
    from lemica.cache.wrapper import install
    from lemica.nodes.apply import chooser

    shape = pictures.plain().shape
    mask = torch.zeros(shape[-2:])
    mask[:, : shape[-1] // 2] = 1.0
    model = install(pictures._model, chooser(pictures.identity, None, 3, None, None, learn="on"))
    latent = torch.zeros(shape)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS)
    comfy.sample.sample_custom(
        model, comfy.sample.prepare_noise(latent, 1), 3.0, comfy.samplers.sampler_object("euler"), sigmas,
        tiny_wan.conditioning(11), tiny_wan.conditioning(12), latent, noise_mask=mask[None, None], disable_pbar=True, seed=1,
    )
    ((_, record),) = records.all()
    assert record.kind.masked
    assert pictures.make(2)[1].note.endswith("1 of 3"), "a run without a mask is of another kind"


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "uni_pc", "dpm_2", "lms", "euler_cfg_pp"])
@pytest.mark.parametrize("computed", [(0, 2, 5), (0, 1, 3, 6), (0, 3)])
def test_the_simulated_end_of_a_path_is_that_of_a_model_which_is_deaf(comfy, tiny_wan, wan, sampler, computed):
    """A model whose derivative at a call is the same at whatever latent it is asked, under the cache's own engine."""
    import torch
    from lemica.cache.placement import Placement
    from lemica.cache.run import SamplingRun
    from lemica.calibration.references.whole_path import final_deviation
    from lemica.calibration.replay import full_schedule
    from lemica.calibration.sampling import AttachedModel
    from lemica.schedules import Rule, Schedule
    from test_calibration_job import make_sampling

    call = -1

    def asked(*_):
        nonlocal call
        call += 1

    def deafened(apply_model, given):
        x = given["input"]
        return x - given["timestep"].reshape(-1, *[1] * (x.ndim - 1)) * derivatives[call].expand_as(x)

    model = wan.clone()
    model.set_model_unet_function_wrapper(deafened)
    sampling = make_sampling(tiny_wan, AttachedModel(model), steps=STEPS, sampler=sampler)
    segments = sampling.segments()
    derivatives = torch.randn(segments.calls, 1, *tiny_wan.LATENT_SHAPE[1:], generator=torch.Generator().manual_seed(3))

    def end(schedule):
        nonlocal call
        call = -1
        return sampling.run(lambda sigmas: SamplingRun(schedule, sigmas, Placement("auto"), observe=asked)).double()

    rules = tuple(Rule("output", order) for order in ("hold", "half", "linear", "half")[: len(computed)])
    path = Schedule("path", "test", STEPS, computed, rules, "custom")
    found = end(path) - end(full_schedule(STEPS))
    weights = torch.from_numpy(final_deviation(segments, path)).reshape(segments.kinds, -1).sum(0)
    moved = (weights @ derivatives.double().flatten(1)).reshape(derivatives[:1, 0].shape)
    shown = model.model.latent_format.process_out
    expected = (shown(moved) - shown(torch.zeros_like(moved))).flatten()
    assert float(expected.abs().max()) > 1e-2
    assert torch.allclose(found, expected, atol=2e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("budget", [2, 3, 4, 5])
def test_no_other_path_that_is_tried_ends_nearer_in_the_simulation(pictures, records, budget):
    from lemica.calibration.choose import solved
    from lemica.calibration.references.whole_path import final_error

    pictures.learned(1, 2, 3)
    (learned,) = records.learned(records.all()[0][1].kind)
    chosen, minimax = learned.schedule(budget), solved("learned", learned.graph, budget)
    assert (chosen.budget, chosen.origin, chosen.name) == (budget, "learned", f"learned/{STEPS}b{budget}")
    segments, grams = learned.records[0].segments, [record.gram for record in learned.records]
    assert final_error(segments, grams, chosen) <= final_error(segments, grams, minimax)
    if 3 * budget < STEPS:
        assert chosen.computed == minimax.computed
