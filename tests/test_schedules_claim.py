"""What a run may say of its schedule, and what comes first among those that it could take."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import lemica.schedules
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lemica.schedules import (
    ANY_MODEL,
    Library,
    Match,
    ModelIdentity,
    Rule,
    Schedule,
    claimed,
    nominal_sigmas,
    preset_budget,
    resample,
    select,
)

PACKAGED = Path(lemica.schedules.__file__).parent / "library"
DEMO = ModelIdentity("WAN21", "WanModel", {}, "wan_tiny.safetensors")
FAMILY = next(family for family in Library(PACKAGED).families() if family.key == "lemica-demo")
SIGMAS = {steps: Library(PACKAGED).get(f"lemica-demo/{steps}b{budget}").sigmas for steps, budget in ((20, 9), (30, 13))}
LINEAR = Rule("output", "linear")
FIGURES = {"measured": {"mean": 0.1, "worst": 0.2}, "predicted": {"worst": 0.1, "total": 0.3}}


def made(name: str, steps: int = 30, budget: int = 10, origin: str = "calibrated", sigmas=None, **source) -> Schedule:
    """A schedule of the user's, on the embedded model's sigmas."""
    figures = {"calibrated": "measured", "predicted": "predicted"}.get(origin)
    told = {"file": DEMO.file, "patches": "", "calibration": "mine", **({figures: FIGURES[figures]} if figures else {})}
    return Schedule(
        name, "lemica-demo", steps, tuple(range(budget)), (LINEAR,) * budget, origin, sigmas or SIGMAS[steps],
        {**told, **source},
    )


def selected(folder: Path, *schedules: Schedule, steps: int = 30, identity: ModelIdentity = DEMO, **request):
    library = Library(PACKAGED, folder)
    for one in schedules:
        library.save(one)
    return select(library, Match(FAMILY, "", identity), SIGMAS[steps], **request)


def test_what_was_saved_for_other_steps_does_not_beat_what_was_made_for_these(tmp_path):
    other = made("mine/fast", steps=20, budget=6, origin="predicted", preset="fast", saved=9e9)
    assert selected(tmp_path, other, preset="fast").schedule.name == "lemica-demo fitted/30b10"
    assert selected(tmp_path, preset="fast", steps=20).schedule.name == "mine/fast"


@pytest.mark.parametrize("scope", ["these steps", "all steps", None])
def test_only_what_was_saved_for_all_steps_is_resampled(tmp_path, scope):
    told = {} if scope is None else {"scope": scope}
    saved = made("mine/fast", steps=20, budget=6, origin="predicted", preset="fast", saved=1.0, **told)
    grid = nominal_sigmas(9.0, 25)
    library = Library(PACKAGED, tmp_path)
    library.save(saved)
    found = select(library, Match(FAMILY, "", DEMO), grid, preset="fast").schedule
    assert (found.source["resampled_from"] == "mine/fast") == (scope != "these steps")
    assert select(library, Match(FAMILY, "", DEMO), grid, name="mine/fast").schedule.source["resampled_from"] == "mine/fast"


def kind_of(schedule: Schedule) -> int:
    """The place that the help page gives it, for preset fast in a run of 30 steps of the embedded model."""
    source = schedule.source
    here = schedule.steps == 30 and source["file"] == DEMO.file and source["patches"] == ""
    if here and source.get("preset") == "fast":
        return 0
    if here and schedule.budget == 10:
        return 1 if schedule.origin == "calibrated" else 2
    return 3


@given(st.data())
def test_what_was_made_for_this_very_run_goes_first_whatever_was_saved_last(tmp_path_factory, data):
    """The packaged schedule of 10 of 30 steps is measured, so it stands behind the user's own of that kind."""
    schedules = [
        made(
            f"{number}", data.draw(st.sampled_from([20, 30])), data.draw(st.sampled_from([8, 10, 13])),
            data.draw(st.sampled_from(["calibrated", "predicted"])), saved=data.draw(st.floats(0, 1e10)),
            patches=data.draw(st.sampled_from(["", "", "other"])), file=data.draw(st.sampled_from([DEMO.file] * 2 + ["b"])),
            scope=data.draw(st.sampled_from(["these steps", "all steps"])),
            **({"preset": "fast"} if data.draw(st.booleans()) else {}),
        )
        for number in range(data.draw(st.integers(0, 5)))
    ]
    found = selected(tmp_path_factory.mktemp("user"), *schedules, preset="fast")
    kinds = sorted(map(kind_of, schedules))
    first = kinds[0] if kinds and kinds[0] < 2 else 1
    chosen = found.schedule
    if first == 0:
        newest = max((one for one in schedules if kind_of(one) == 0), key=lambda one: one.source["saved"])
        assert found.saved and chosen.source["saved"] == newest.source["saved"]
    else:
        assert not found.saved and (chosen.budget, chosen.origin) == (10, "calibrated")
        own = [one.name for one in schedules if kind_of(one) == 1]
        assert chosen.name in (own or ["lemica-demo fitted/30b10"])


def test_the_order_of_the_files_does_not_matter(tmp_path):
    schedules = [
        made("saved", origin="predicted", budget=9, preset="fast", saved=5.0),
        made("older", origin="predicted", budget=8, preset="fast", saved=3.0),
        made("measured"), made("solved", origin="predicted"),
    ]
    for number, order in enumerate(permutations(schedules)):
        names = [replace(one, name=f"{place} {one.name}") for place, one in enumerate(order)]
        assert selected(tmp_path / str(number), *names, preset="fast").schedule.name.endswith(" saved")
        assert selected(tmp_path / str(number), budget=10).schedule.name.endswith(" measured")


@pytest.mark.parametrize(
    "made_on, runs_on, told",
    [
        (("a", ""), ("a", ""), None),
        (("a", None), ("a", ""), None),
        (("a", "x"), ("a", "x"), None),
        ((None, ""), (None, ""), None),
        (("a", ""), ("b", ""), "made on a, this model is b"),
        (("a", ""), (None, ""), "this model is of an unknown file"),
        ((None, ""), ("a", ""), "made on an unknown file"),
        (("a", "x"), ("a", ""), "patches that this model does not have"),
        (("a", ""), ("a", "x"), "without the LoRAs"),
        (("a", "y"), ("a", "x"), "other LoRAs"),
        (("a", None), ("a", "x"), "other LoRAs"),
        (("a", ""), ("a", None), "cannot be told"),
        (("a", None), ("a", None), "cannot be told"),
    ],
)
@pytest.mark.parametrize("origin", ["calibrated", "predicted"])
def test_what_was_made_on_another_model_is_borrowed(made_on, runs_on, told, origin):
    schedule = made("mine/30b10", origin=origin, file=made_on[0], patches=made_on[1])
    claim, why = claimed(schedule, replace(DEMO, file=runs_on[0], patches=runs_on[1]))
    if told is None:
        assert (claim, why) == (schedule, "")
        return
    assert claim.origin == "borrowed" and claim.source["borrowed_from"] == "mine"
    assert not {"measured", "predicted"} & set(claim.source) and told in why
    assert (claim.computed, claim.rules) == (schedule.computed, schedule.rules)


def test_weights_that_were_fitted_on_another_model_are_not_borrowed_along():
    plain = made("mine/30b10", file="a", patches="")
    weights = tuple((1.0,) if end - start > 1 else () for start, end in plain.segments())
    fitted = replace(plain, rules=(Rule("output", "fitted"),) * plain.budget, weights=weights)
    assert claimed(fitted, replace(DEMO, file="a", patches="")) == (fitted, "")
    claim, why = claimed(fitted, replace(DEMO, file="b", patches=""))
    assert claim.computed == fitted.computed and not claim.weights and set(map(str, claim.rules)) == {"output half"}
    assert "the half slope stands in for the weights" in why


@pytest.mark.parametrize("origin", ["published", "estimated", "custom", "imported"])
def test_what_claims_no_model_is_what_it_is_on_any(origin):
    schedule = made("one", origin=origin, file="a", patches="x")
    assert claimed(schedule, DEMO) == (schedule, "")


def test_before_a_run_the_claim_names_the_model_that_it_is_of():
    schedule = made("one", patches="x")
    assert claimed(schedule, ANY_MODEL) == (schedule, "made on wan_tiny.safetensors with LoRAs or other patches")


def test_the_embedded_models_schedules_are_borrowed_by_another_file_and_with_a_lora(tmp_path):
    for identity in (replace(DEMO, file="small_wan.safetensors"), replace(DEMO, patches="x")):
        found = selected(tmp_path, preset="fast", identity=identity)
        assert (found.schedule.name, found.schedule.origin) == ("lemica-demo/30b10", "borrowed")
        assert found.note.startswith("lemica-demo/30b10, borrowed from lemica-demo, 10 of 30 steps; it was made ")
        assert selected(tmp_path, budget=11, identity=identity).schedule.origin == "resampled"
    assert selected(tmp_path, preset="fast").schedule.origin == "calibrated"


def test_of_what_was_made_on_another_file_the_nearest_is_borrowed_the_users_or_not(tmp_path):
    other = made("mine/20b6", steps=20, budget=6)
    found = selected(tmp_path, other, preset="fast", identity=replace(DEMO, file="b"))
    assert (found.schedule.name, found.schedule.origin) == ("lemica-demo/30b10", "borrowed")
    nearer = made("mine/30b11", budget=11)
    assert selected(tmp_path, nearer, budget=11, identity=replace(DEMO, file="b")).schedule.name == "mine/30b11"


def test_with_a_lora_what_was_saved_without_it_stands_behind_what_was_measured_with_it(tmp_path):
    saved = made("base/fast", origin="predicted", budget=9, preset="fast", saved=9e9, scope="these steps")
    assert selected(tmp_path, saved, preset="fast", identity=replace(DEMO, patches="x")).schedule.origin == "borrowed"
    with_lora = made("lora/30b10", patches="x")
    found = selected(tmp_path, with_lora, preset="fast", identity=replace(DEMO, patches="x"))
    assert (found.schedule.name, found.schedule.origin) == ("lora/30b10", "calibrated")
    assert selected(tmp_path, preset="fast").schedule.name == "base/fast"


@pytest.mark.parametrize("origin", ["calibrated", "predicted", "published", "imported"])
def test_other_rules_claim_nothing(tmp_path, origin):
    other = Rule("residual", "hold")
    schedule = made("one", origin=origin)
    found = selected(tmp_path, schedule, name="one", rule=other)
    assert found.schedule.origin == "custom" and set(found.schedule.rules) == {other}
    assert not {"measured", "predicted"} & set(found.schedule.source) and "its rules replaced by" in found.note
    assert selected(tmp_path, name="one", rule=LINEAR).schedule == schedule, "those are its rules"


def test_a_measured_path_whose_residual_rules_run_on_the_output_is_no_longer_the_measured_one(comfy):
    from lemica.cache.steps import on_output

    schedule = replace(made("one"), rules=(Rule("residual", "linear"),) * 10)
    assert on_output(schedule).origin == "custom" and "measured" not in on_output(schedule).source
    assert on_output(made("one")) == made("one")


@given(st.integers(2, 60), st.floats(1, 12), st.data())
def test_a_resampled_schedule_has_no_figures(steps, shift, data):
    schedule = made("one", origin=data.draw(st.sampled_from(["calibrated", "predicted"])))
    fitted = resample(schedule, nominal_sigmas(shift, steps), data.draw(st.integers(1, steps)))
    assert fitted == schedule or not {"measured", "predicted"} & set(fitted.source)


def test_every_claim_of_a_selection_is_true(tmp_path):
    """By brute force over what a folder may hold and on what it may run."""
    for number, (file, patches, steps, origin) in enumerate(
        (file, patches, steps, origin)
        for file in (DEMO.file, "b", None) for patches in ("", "x", None) for steps in (20, 30)
        for origin in ("calibrated", "predicted")
    ):
        folder = tmp_path / str(number)
        own = made("own", steps, preset_budget(Match(FAMILY, "", DEMO), "fast", steps), origin, file=file, patches=patches)
        for run in (DEMO, replace(DEMO, patches="x"), replace(DEMO, file="b"), replace(DEMO, file=None, patches=None)):
            found = selected(folder, own, preset="fast", identity=run).schedule
            if found.origin in ("calibrated", "predicted"):
                assert found.source["file"] == run.file
                assert found.source.get("patches") in ((run.patches, None) if run.patches == "" else (run.patches,))
                assert found.sigmas == SIGMAS[30] and run.patches is not None
                assert ("measured" if found.origin == "calibrated" else "predicted") in found.source
