"""Interrupts and memory that runs out, at every model call of a run and a calibration: nothing stays, the next is right."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

RULES = ("output linear", "residual linear")
STEPS, COMPUTED = 6, (0, 1, 3)


def faults() -> dict[str, type[BaseException]]:
    import comfy.model_management
    import torch

    return {
        "interrupt": comfy.model_management.InterruptProcessingException, "memory": MemoryError,
        "device memory": torch.OutOfMemoryError,
    }


@contextmanager
def failing(model, call: int, error: type[BaseException]) -> Iterator[list[int]]:
    """The model fails at this one of its evaluations; in the middle of its blocks."""
    calls: list[int] = []

    def fail(module, args):
        calls.append(1)
        if len(calls) == call + 1:
            raise error("made to fail")

    hook = model.model.diffusion_model.blocks[1].register_forward_pre_hook(fail)
    try:
        yield calls
    finally:
        hook.remove()


@contextmanager
def keeping_account() -> Iterator[Callable[[], int]]:
    """How many of the tensors that runs and recordings kept meanwhile are alive."""
    from lemica.cache.placement import Placement
    from lemica.cache.trajectory import Trajectory

    kept: list[weakref.ref] = []
    put, outputs = Placement.put, Trajectory.put_outputs

    def put_counted(self, value):
        placed = put(self, value)
        kept.append(weakref.ref(placed))
        return placed

    def outputs_counted(self, key, values):
        outputs(self, key, values)
        kept.append(weakref.ref(self))

    def alive() -> int:
        gc.collect()
        return sum(one() is not None for one in kept)

    Placement.put, Trajectory.put_outputs = put_counted, outputs_counted
    try:
        yield alive
        assert kept, "nothing was kept"
    finally:
        Placement.put, Trajectory.put_outputs = put, outputs


@pytest.mark.parametrize("fault", ["interrupt", "device memory"])
@pytest.mark.parametrize("rule", RULES)
def test_a_run_that_fails_at_any_call_leaves_nothing_and_the_next_is_right(graphs, tiny_wan, wan, rule, fault):
    reports, error = [], faults()[fault]
    model = graphs.scheduled(wan, COMPUTED, rule, reports)
    expected = tiny_wan.sample(model, steps=STEPS)
    for call in range(len(COMPUTED)):
        with keeping_account() as alive, failing(wan, call, error) as calls:
            with pytest.raises(error, match="made to fail"):
                tiny_wan.sample(model, steps=STEPS)
            assert len(calls) == call + 1, "it is not tried again"
            assert alive() == 0
            tiny_wan.sample(model, steps=STEPS)
        assert not reports[-2].finished and reports[-1].finished
        assert "lemica" not in model.model_options["transformer_options"]
    assert graphs.equal(tiny_wan.sample(model, steps=STEPS), expected)


def make_job(tiny_wan, model, root: Path):
    import torch
    from lemica.calibration import Sample
    from lemica.calibration.job import Job, Settings
    from lemica.calibration.sampling import AttachedModel, ksampler_sampling
    from lemica.schedules import ModelIdentity, Rule

    sampling = ksampler_sampling(
        AttachedModel(model), tiny_wan.conditioning(11), tiny_wan.conditioning(12),
        {"samples": torch.zeros(tiny_wan.LATENT_SHAPE)}, Sample("noise", 4), 4, 3.0, "euler", "simple",
    )
    settings = Settings(
        family="test", model=ModelIdentity("WAN21", "WanModel"), mode="exact", metric="l1",
        rules=(Rule("output", "hold"), Rule("residual", "hold")), longest=2, budgets=(2,), tries=0,
    )
    return Job(root, "failing", [sampling], settings)


@pytest.mark.parametrize("fault", ["interrupt", "memory"])
def test_a_calibration_that_fails_at_any_call_leaves_nothing_and_goes_on_to_the_same_end(tiny_wan, wan, tmp_path, fault):
    error = faults()[fault]
    with failing(wan, 10**9, error) as calls:
        whole = make_job(tiny_wan, wan, tmp_path / "whole").run()
    evaluations = len(calls)
    assert evaluations > 10
    for call in range(evaluations) if fault == "memory" else range(0, evaluations, 4):
        job = make_job(tiny_wan, wan, tmp_path / f"failed{call}")
        with keeping_account() as alive, failing(wan, call, error) as calls:
            with pytest.raises(error, match="made to fail"):
                job.run()
            assert len(calls) == call + 1, "it is not tried again"
            assert alive() == 0, "though the job itself is still there"
            if call == 0:  # when nothing is kept yet
                make_job(tiny_wan, wan, tmp_path / f"other{call}").run()
        if call % 6 == 0:
            result = make_job(tiny_wan, wan, tmp_path / f"failed{call}").run()
            assert np.array_equal(result.graph.errors, whole.graph.errors)
            assert result.outcomes[2].errors == whole.outcomes[2].errors


def test_a_calibration_that_is_done_keeps_no_recording(tiny_wan, wan, tmp_path):
    with keeping_account() as alive:
        job = make_job(tiny_wan, wan, tmp_path)
        job.run()
        assert alive() == 0


def test_a_run_whose_schedule_was_deleted_before_the_sampler_starts_computes_every_step(graphs, tiny_wan, wan, tmp_path):
    """The name was there when the node ran; in the middle of a run nothing of it is needed any more."""
    from lemica.cache.wrapper import install
    from lemica.schedules import Library, Match, ModelIdentity, Rule, Schedule, select

    library = Library(Path(__file__).resolve().parent.parent / "schedules" / "library", tmp_path)
    match = Match(None, "", ModelIdentity("WAN21", "WanModel"))
    library.save(Schedule("mine", "x", STEPS, COMPUTED, (Rule.parse("output hold"),) * 3, "custom"))
    reports = []

    def choose(setting):
        selection = select(library, match, setting.sigmas, name="mine")
        return selection.schedule, selection.note

    model = install(wan, choose, on_report=reports.append)

    def delete(step, denoised, x, total):
        if step == 1:
            library.delete("mine")

    expected = tiny_wan.sample(model, steps=STEPS)
    assert graphs.equal(tiny_wan.sample(model, steps=STEPS, callback=delete), expected)
    assert reports[-1].finished and reports[-1].computed == COMPUTED
    assert graphs.equal(tiny_wan.sample(model, steps=STEPS), tiny_wan.sample(wan, steps=STEPS))
    assert len(reports) == 3 and "computing every step: There is no schedule 'mine'" in reports[-1].line()
