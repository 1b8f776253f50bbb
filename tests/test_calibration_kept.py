"""What is kept of a calibration, told before it is queued."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest

STEPS = 5
SETUP = {"sampler": "euler", "cfg": 3.0}


@pytest.fixture
def tiny_wan(comfy: ModuleType) -> ModuleType:
    import tiny_wan

    return tiny_wan


def make_job(tiny_wan, root, seeds=(4, 5), on_progress=lambda progress: None, **changed):
    import torch
    from lemica.calibration import Sample
    from lemica.calibration.job import Job, Settings
    from lemica.calibration.sampling import AttachedModel, ksampler_sampling
    from lemica.schedules import ModelIdentity, Rule

    attached = AttachedModel(tiny_wan.make_wan())
    samplings = [
        ksampler_sampling(
            attached, tiny_wan.conditioning(11), tiny_wan.conditioning(12), {"samples": torch.zeros(tiny_wan.LATENT_SHAPE)},
            Sample("a cat", seed), STEPS, 3.0, "euler", "simple",
        )
        for seed in seeds
    ]
    fields = {
        "family": "test", "model": ModelIdentity("WAN21", "WanModel"), "mode": "exact", "metric": "l1",
        "rules": (Rule("output", "hold"),), "longest": 3, "budgets": (3,), "tries": 2, "setup": SETUP,
    }
    return Job(root, "mine", samplings, Settings(**fields | changed), on_progress=on_progress)


def wanted(**changed):
    from lemica.calibration.kept import Wanted
    from lemica.schedules import Rule

    settings = {"metric": "l1", "rules": ["output hold"], "longest": 3, "steps": STEPS}
    fields = {
        "mode": "exact", "rules": (Rule("output", "hold"),), "tries": 2, "samples": [(4, None), (5, "a cat")],
        "settings": settings, "setup": SETUP,
    }
    return Wanted(**fields | changed)


class Stop(Exception):
    """Stands for whatever ends a calibration early."""


def test_what_is_kept_is_what_need_not_be_computed_again(tiny_wan, tmp_path):
    """However early it stopped, but for the full run of a sample that is not done."""
    from lemica.calibration.kept import Kept, kept_of

    whole = make_job(tiny_wan, tmp_path / "whole").run().computed
    told, before = 0, 0
    for stop in range(1, 100):
        root = tmp_path / str(stop)

        def tell(progress, root=root, stop=stop, told=[]) -> None:  # noqa: B006
            told.append(progress)
            if len(told) == stop:
                raise Stop

        assert kept_of(root, "mine", wanted()) == Kept()
        try:
            make_job(tiny_wan, root, on_progress=tell).run()
        except Stop:
            kept = kept_of(root, "mine", wanted())
            assert not kept.finished and before <= kept.steps <= whole
            before, told = kept.steps, told + 1
            if stop % 6 == 0:
                again = make_job(tiny_wan, root).run().computed
                assert whole <= kept.steps + again <= whole + 2 * STEPS
                assert kept_of(root, "mine", wanted()).finished
        else:
            break
    assert told > 10 and kept_of(root, "mine", wanted()) == Kept(whole, finished=True)


def test_what_is_finished_is_so_for_these_settings_and_samples_only(tiny_wan, tmp_path):
    from lemica.calibration.kept import kept_of

    make_job(tiny_wan, tmp_path).run()

    def finished(**changed) -> bool:
        return kept_of(tmp_path, "mine", wanted(**changed)).finished

    assert finished() and finished(tries=0) and finished(settings={}, setup={}) and finished(samples=[(4, None), (5, None)])
    assert not finished(tries=3) and not finished(mode="quick")
    for samples in ([(4, None)], [(4, None), (6, None)], [(4, None), (5, "a dog")], [(4, None), (5, None), (6, None)]):
        assert not finished(samples=samples), samples
    assert not kept_of(tmp_path, "yours", wanted()).steps
    make_job(tiny_wan, tmp_path, seeds=(4,)).run()
    assert not finished() and finished(samples=[(4, None)]), "the last one that came to its end counts"


def test_other_settings_are_named(tiny_wan, tmp_path):
    from lemica.calibration.kept import Kept, kept_of

    make_job(tiny_wan, tmp_path).run()
    one = wanted()
    for changed, told in (
        ({"settings": {**one.settings, "steps": 6, "metric": "l2"}}, ("metric", "steps")), ({"setup": {"cfg": 4.0}}, ("cfg",)),
        ({"settings": {"rules": ["output linear"]}}, ("rules",)), ({"setup": {"unknown": 1}}, ("unknown",)),
    ):
        assert kept_of(tmp_path, "mine", replace(one, **changed)) == Kept(different=told)


def test_a_folder_that_cannot_be_read_or_leads_elsewhere_keeps_nothing(tiny_wan, tmp_path):
    from lemica.calibration.job_folder import folder_name
    from lemica.calibration.kept import Kept, kept_of

    make_job(tiny_wan, tmp_path).run()
    folder = tmp_path / folder_name("mine")
    for file in ("job.json", "paths.json", "finished.json"):
        content = (folder / file).read_bytes()
        for broken in (b"", b"[]", b"{", b'{"identity": {"sigmas": 3}}', b'{"samples": [1], "mode": "exact"}', b"[" * 99999):
            (folder / file).write_bytes(broken)
            assert not kept_of(tmp_path, "mine", wanted()).finished, (file, broken)
        (folder / file).write_bytes(content)
    assert kept_of(tmp_path, "mine", wanted()).finished
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert kept_of(tmp_path, "mine", wanted()) == Kept()
