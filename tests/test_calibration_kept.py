"""What is kept of a calibration, told before it is queued."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest

STEPS = 5
SETUP = {"sampler": "euler", "cfg": 3.0}
EXACT = {"mode": "exact", "tries": 2}


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

    settings = {"metric": "l1", "rules": ["output hold"], "longest": 3, "steps": STEPS}
    fields = {
        "effort": EXACT, "samples": [(4, None), (5, "a cat")], "settings": settings, "setup": SETUP,
    }
    return Wanted(**fields | changed)


class Stop(Exception):
    """Stands for whatever ends a calibration early."""


@pytest.mark.parametrize("changed", [{}, {"mode": "short"}, {"mode": "normal", "budgets": (2,), "safe": False}])
def test_what_is_kept_is_what_need_not_be_computed_again(tiny_wan, tmp_path, changed):
    """However early it stopped, but for the full run of a sample whose replays are not done, or the path that is fitted."""
    from lemica.calibration.kept import Kept, kept_of

    effort = make_job(tiny_wan, tmp_path, **changed).settings.effort
    fitted, asked = "safe" in effort, wanted(effort=effort)
    (budget,) = changed.get("budgets", (3,))
    whole = make_job(tiny_wan, tmp_path / "whole", **changed).run().computed
    told, before, told_of = 0, 0, set()
    for stop in range(1, 200):
        root = tmp_path / str(stop)

        def tell(progress, root=root, stop=stop, told=[]) -> None:  # noqa: B006
            told.append(progress)
            if len(told) == stop:
                raise Stop

        assert kept_of(root, "mine", asked) == Kept()
        try:
            make_job(tiny_wan, root, on_progress=tell, **changed).run()
        except Stop:
            kept = kept_of(root, "mine", asked)
            assert not kept.finished and before <= kept.steps <= whole
            before, told = kept.steps, told + 1
            told_of.add(kept.steps)
            if stop % {"exact": 6, "short": 2, "normal": 20}[effort["mode"]] == 0:
                again = make_job(tiny_wan, root, **changed).run().computed
                if fitted:
                    assert whole - 2 * budget <= kept.steps + again <= whole + 2
                else:
                    assert whole <= kept.steps + again <= whole + 2 * STEPS
                assert kept_of(root, "mine", asked).finished
        else:
            break
    assert told > 6 and kept_of(root, "mine", asked) == Kept(whole, finished=True)
    assert {0, STEPS, 2 * STEPS} <= told_of if fitted else len(told_of) > 10


def test_samples_on_which_only_paths_are_measured_change_nothing_about_what_is_kept(tiny_wan, tmp_path):
    from lemica.calibration.job import Job
    from lemica.calibration.kept import kept_of

    both = make_job(tiny_wan, tmp_path, mode="short")
    first, judge = both._samplings
    Job(tmp_path, "mine", [first], both.settings, judges=[judge]).run()
    effort = both.settings.effort
    assert kept_of(tmp_path, "mine", wanted(effort=effort, samples=[(4, None)])).steps == STEPS + 3
    assert not kept_of(tmp_path, "mine", wanted(effort=effort)).finished


def test_what_is_finished_is_so_for_these_settings_and_samples_only(tiny_wan, tmp_path):
    from lemica.calibration.kept import kept_of

    make_job(tiny_wan, tmp_path).run()

    def finished(**changed) -> bool:
        return kept_of(tmp_path, "mine", wanted(**changed)).finished

    assert finished() and finished(effort={"mode": "exact", "tries": 0}) and finished(settings={}, setup={})
    assert finished(samples=[(4, None), (5, None)])
    assert not finished(effort={"mode": "exact", "tries": 3}) and not finished(effort={"mode": "short", "safe": True})
    for samples in ([(4, None)], [(4, None), (6, None)], [(4, None), (5, "a dog")], [(4, None), (5, None), (6, None)]):
        assert not finished(samples=samples), samples
    assert not kept_of(tmp_path, "yours", wanted()).steps
    make_job(tiny_wan, tmp_path, seeds=(4,)).run()
    assert not finished() and finished(samples=[(4, None)]), "the last one that came to its end counts"


def test_fits_are_finished_for_their_mode_and_start_only(tiny_wan, tmp_path):
    from lemica.calibration.kept import kept_of

    make_job(tiny_wan, tmp_path, mode="short", safe=False).run()
    for mode in ("short", "normal"):
        for safe in (True, False):
            kept = kept_of(tmp_path, "mine", wanted(effort={"mode": mode, "safe": safe}))
            assert kept.finished == (mode == "short" and not safe) and kept.steps == 2 * (STEPS + 3)
    exact = kept_of(tmp_path, "mine", wanted())
    assert not exact.finished and exact.steps == 0, "replays need what a full run holds on the way"


def test_other_settings_are_named(tiny_wan, tmp_path):
    from lemica.calibration.kept import Kept, kept_of

    make_job(tiny_wan, tmp_path).run()
    one = wanted()
    for changed, told in (
        ({"settings": {**one.settings, "steps": 6, "metric": "l2"}}, ("metric", "steps")), ({"setup": {"cfg": 4.0}}, ("cfg",)),
        ({"settings": {"rules": ["output linear"]}}, ("rules",)), ({"setup": {"unknown": 1}}, ("unknown",)),
    ):
        assert kept_of(tmp_path, "mine", replace(one, **changed)) == Kept(different=told)


@pytest.mark.parametrize("mode", ["exact", "short"])
def test_a_folder_that_cannot_be_read_or_leads_elsewhere_keeps_nothing(tiny_wan, tmp_path, mode):
    from lemica.calibration.job_folder import folder_name
    from lemica.calibration.kept import Kept, kept_of

    job = make_job(tiny_wan, tmp_path, mode=mode)
    job.run()
    asked, folder = wanted(effort=job.settings.effort), tmp_path / folder_name("mine")
    for file in ("job.json", "paths.json" if mode == "exact" else "fits.json", "finished.json"):
        content = (folder / file).read_bytes()
        for broken in (b"", b"[]", b"{", b'{"identity": {"sigmas": 3}}', b'{"samples": [1], "mode": "exact"}', b"[" * 99999):
            (folder / file).write_bytes(broken)
            assert not kept_of(tmp_path, "mine", asked).finished, (file, broken)
        (folder / file).write_bytes(content)
    assert kept_of(tmp_path, "mine", asked).finished
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert kept_of(tmp_path, "mine", asked) == Kept()
