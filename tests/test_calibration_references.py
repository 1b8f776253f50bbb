"""What follows from full runs: the response of samplers, errors of segments, weights that are fitted in closed loop."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lemica.schedules import FIXED, OUTPUT_FITTED, Schedule, nominal_sigmas
from test_calibration_job import make_job, make_sampling, make_settings

STEPS = 6


NO_PLAN = {"dpm_fast", "dpm_adaptive"}
OUTPUT_RULES = tuple(rule for rule in FIXED if rule.target == "output")
SOME = ["euler", "heun", "dpmpp_2m", "uni_pc", "dpmpp_sde", "euler_cfg_pp", "res_multistep"]


def samplers() -> list[str]:
    import comfy.samplers

    return [name for name in comfy.samplers.KSampler.SAMPLERS if name not in NO_PLAN]


@pytest.fixture(scope="module")
def unet(comfy):
    import tiny_unet

    return tiny_unet.make_unet()


def sampling_of(model, sampler, steps=STEPS, scheduler="simple", denoise=1.0, latent=None, seed=4):
    """A sampling of the tiny Wan, or of the tiny UNet, which predicts eps."""
    import tiny_unet
    import tiny_wan
    from lemica.calibration import Sample
    from lemica.calibration.sampling import AttachedModel, ksampler_sampling

    flow = hasattr(model.model.model_sampling, "shift")
    tiny = tiny_wan if flow else tiny_unet
    latent = latent or {"samples": 0.3 * torch.ones(tiny.LATENT_SHAPE)}
    return ksampler_sampling(
        AttachedModel(model), tiny.conditioning(11), tiny.conditioning(12), latent, Sample("noise", seed), steps, 3.0,
        sampler, scheduler, denoise,
    )


# Samplers


class Answers:
    """Stands for a model that gives what is listed, call by call, and notes the latents that it was asked at."""

    def __init__(self, guider, answers: torch.Tensor) -> None:
        self.inner_model, self.latents, self._answers = guider, [], answers

    def __call__(self, x, sigma, model_options=None, **_):
        guided, uncond = self._answers[:, len(self.latents)]
        self.latents.append(x.clone())
        for function in (model_options or {}).get("sampler_post_cfg_function", []):
            guided = function({
                "denoised": guided, "cond_denoised": guided, "uncond_denoised": uncond, "cond": None, "uncond": None,
                "cond_scale": 1.0, "model": self.inner_model, "sigma": sigma, "input": x, "model_options": model_options,
            })
        return guided


def latents_of(sampling, answers: torch.Tensor, seed: int) -> torch.Tensor:
    """Of every call and the final one, [C + 1, elements], in double precision; the sampler draws its own noise."""
    guider = copy.copy(sampling._guider)
    guider.inner_model = SimpleNamespace(model_sampling=sampling._attached.patcher.get_model_object("model_sampling"))
    model = Answers(guider, answers)
    start = sampling.sigmas[0] * torch.randn(answers.shape[2:], generator=torch.Generator().manual_seed(3))
    torch.manual_seed(seed)
    final = sampling._sampler.sampler_function(
        model, start, torch.tensor(sampling.sigmas), disable=True, callback=None,
        extra_args={"model_options": {}, "seed": seed, "denoise_mask": None}, **sampling._sampler.extra_options,
    )
    return torch.stack([*model.latents, final]).double().flatten(1)


@pytest.mark.parametrize("kind", ["flow", "eps"])
@pytest.mark.parametrize("denoise", [1.0, 0.6])
def test_the_latents_of_every_sampler_move_with_the_answers_as_its_response_says(comfy, wan, unet, kind, denoise):
    for name in samplers():
        sampling = sampling_of(wan if kind == "flow" else unet, name, denoise=denoise)
        response = sampling.segments().response
        calls = len(response.calls)
        draw = torch.Generator().manual_seed(7)
        one, other = torch.randn(2, 2, calls, 1, 4, 4, 4, generator=draw)
        found = latents_of(sampling, other, 5) - latents_of(sampling, one, 5)
        moved = (other - one).double().flatten(3)[:, :, 0]
        expected = torch.einsum("kjc,kcn->jn", torch.from_numpy(response.moves), moved[: len(response.moves)])
        assert len(found) == calls + 1
        assert torch.allclose(found, expected, atol=2e-3 * float(expected.abs().max())), name
        assert len(response.moves) == (2 if "cfg_pp" in name else 1), name


@pytest.mark.parametrize("name", sorted(NO_PLAN))
def test_a_sampler_that_chooses_its_own_steps_has_no_response(comfy, wan, name):
    from lemica.calibration.references.response import NoResponseError

    with pytest.raises(NoResponseError, match="cannot be told to its steps"):
        sampling_of(wan, name).segments()


def squared(x, denoised):
    return x + 0.1 * denoised * denoised


def normalised(x, denoised):
    return x + 0.1 * denoised / (1e-3 + denoised.abs().mean(dim=(1, 2, 3), keepdim=True))


def neighbouring(x, denoised):
    return x + 0.1 * denoised.roll(1, -1)


def weighing_elements(x, denoised):
    return x + 0.1 * denoised * torch.linspace(0, 1, denoised.shape[-1])


@pytest.mark.parametrize("step", [squared, normalised, neighbouring, weighing_elements])
def test_a_sampler_that_is_not_affine_with_one_number_a_pair_has_no_response(comfy, wan, step):
    import comfy.samplers
    from lemica.calibration.references.response import NoResponseError

    def foreign(model, x, sigmas, extra_args=None, callback=None, disable=None):
        for k in range(len(sigmas) - 1):
            denoised = model(x, sigmas[k] * x.new_ones([x.shape[0]]), **extra_args)
            callback and callback({"x": x, "i": k, "sigma": sigmas[k], "sigma_hat": sigmas[k], "denoised": denoised})
            x = step(x, denoised)
        return x

    sampling = sampling_of(wan, "euler")
    sampling._sampler = comfy.samplers.KSAMPLER(foreign)
    with pytest.raises(NoResponseError, match="no affine function"):
        sampling.segments()


@given(st.floats(0.5, 12), st.integers(2, 20))
@settings(max_examples=20, deadline=None)
def test_eulers_response_is_known(shift, steps):
    from lemica.calibration.references.arrival import euler_response

    sigmas = nominal_sigmas(shift, steps)
    response = euler_response(sigmas)
    answers = np.random.default_rng(steps).standard_normal(steps)
    x = 0.0
    for call, (sigma, after) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        assert x == pytest.approx(float(response.moves[0, call] @ answers), abs=1e-9)
        x += (after - sigma) * (x - answers[call]) / sigma
    assert x == pytest.approx(float(response.moves[0, steps] @ answers), abs=1e-9)


# Errors of segments


class Runs:
    """The full run of a sampling, and others of it whose latents are watched."""

    def __init__(self, sampling) -> None:
        from lemica.cache.trajectory import Trajectory
        from lemica.calibration.references.reference import Recorder
        from lemica.calibration.replay import full_schedule

        self.sampling, self.segments = sampling, sampling.segments()
        self.steps = len(sampling.sigmas) - 1
        self.recorder = Recorder(self.segments.response, sampling.mask)
        self.trajectory = Trajectory()
        self.latents = self.run(
            full_schedule(self.steps), record=self.trajectory, answered=self.recorder.answered
        )

    def run(self, schedule: Schedule, actions=None, **named) -> dict[int, torch.Tensor]:
        """The latent at the start of every step, flat."""
        from lemica.cache.placement import Placement
        from lemica.cache.run import SamplingRun

        latents: dict[int, torch.Tensor] = {}

        def observe(call, x):
            if call.stage == 0:
                latents[call.step] = torch.cat([part.flatten() for part in (x.unbind() if x.is_nested else [x])]).clone()

        self.sampling.run(
            lambda sigmas: SamplingRun(schedule, sigmas, Placement("auto"), actions, observe=observe, **named)
        )
        return latents

    def reference(self):
        from lemica.calibration.references.reference import Reference

        return Reference(self.segments, self.recorder.derivatives(), self.sampling.mask)

    def replayed(self, before: int, start: int, end: int, rule) -> float:
        """By how much the latent at the end of a segment is off, in the root mean square over what is free."""
        from lemica.cache.steps import segment_actions
        from lemica.calibration.replay import segment_schedule

        schedule = segment_schedule(self.steps, before, start, self.steps, rule)
        found = self.run(schedule, segment_actions(self.steps, start, self.steps), recall=self.trajectory)
        off = (found[end] - self.latents[end]).double()
        mask = self.sampling.mask
        return float((off if mask is None else off[mask >= 1.0]).square().mean().sqrt())


def check_errors(runs: Runs, some: int, except_start: bool = False) -> None:
    """Errors from the Gram matrix equal measured ones at the end of segments, for so many of them."""
    from lemica.calibration import all_segments
    from lemica.calibration.references.arrival import Segments
    from lemica.calibration.references.reference import gram
    from lemica.calibration.references.segment_errors import segment_errors

    class AtTheEnd(Segments):
        """Counts the next computed step alone, which a run shows."""

        def moments(self, end: int) -> list[int]:
            return [self.moment(end)]

    segments = AtTheEnd(runs.segments.response, runs.steps)
    rows = all_segments(runs.steps, 4, OUTPUT_RULES)
    rows = rows[(rows[:, 2] < runs.steps) & ~((rows[:, 1] == 0) & except_start) & ~((rows[:, 0] == 0) & except_start)]
    rows = rows[np.random.default_rng(len(rows)).permutation(len(rows))[:some]]
    (errors,) = segment_errors(segments, [gram(runs.reference().derivatives)], rows, OUTPUT_RULES)
    for (before, start, end, rule), error in zip(rows.tolist(), errors.tolist(), strict=True):
        measured = runs.replayed(before, start, end, OUTPUT_RULES[rule])
        assert error == pytest.approx(measured, rel=1e-3, abs=1e-6), (before, start, end, OUTPUT_RULES[rule])


def test_errors_from_full_runs_are_what_replays_show_with_every_sampler(comfy, wan):
    for name in samplers():
        # The second evaluation of a step of sa_solver_pece does not exist at step 0.
        check_errors(Runs(sampling_of(wan, name)), 8, except_start=name == "sa_solver_pece")


@pytest.mark.parametrize("name", SOME)
def test_errors_from_full_runs_are_what_replays_show_on_eps_models_and_parts_of_a_run(comfy, wan, unet, name):
    check_errors(Runs(sampling_of(unet, name, scheduler="karras")), 6)
    check_errors(Runs(sampling_of(wan, name, denoise=0.6)), 6)


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "heun"])
def test_what_a_noise_mask_keeps_does_not_count(comfy, tiny_wan, wan, name):
    from lemica.calibration.references.reference import sketch_places

    mask = torch.zeros(1, 1, 2, 4, 4)
    mask[..., 1:3] = 1.0
    sampling = sampling_of(wan, name, latent={"samples": 0.3 * torch.ones(tiny_wan.LATENT_SHAPE), "noise_mask": mask})
    free = torch.nonzero(sampling.mask >= 1.0).flatten()
    assert 0 < len(free) < len(sampling.mask) and torch.equal(sketch_places(len(sampling.mask), sampling.mask), free)
    runs = Runs(sampling)
    assert runs.recorder.derivatives().shape[-1] == len(free)
    check_errors(runs, 8)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_latent_of_which_nothing_is_sampled_freely_has_no_response(comfy, tiny_wan, wan, value):
    from lemica.calibration.references.response import NoResponseError

    latent = {"samples": torch.zeros(tiny_wan.LATENT_SHAPE), "noise_mask": torch.full((1, 1, 2, 4, 4), value)}
    with pytest.raises(NoResponseError, match="noise mask"):
        sampling_of(wan, "euler", latent=latent).segments()


@given(st.integers(1, 400_000), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_a_sketch_has_one_element_of_every_part_and_is_the_same_in_every_run(elements, kept):
    from lemica.calibration.references.reference import SKETCHED, sketch_places

    mask = None if kept == 0 else (torch.arange(elements) % 10 >= kept).float()
    places = sketch_places(elements, mask)
    free = elements if mask is None else int(mask.sum())
    assert len(places) == min(free, SKETCHED) and torch.equal(places, sketch_places(elements, mask))
    assert len(places) < 2 or bool((places[1:] >= places[:-1]).all())
    assert len(places.unique()) >= 0.6 * len(places)
    assert mask is None or bool((mask[places] == 1).all())
    if mask is None and len(places):
        part = elements / len(places)
        assert float((places - part * torch.arange(len(places), dtype=torch.float64)).abs().max()) <= part + 1


def test_a_sketched_latent_gives_the_errors_of_the_whole_one_to_two_percent(comfy, tiny_wan, wan, monkeypatch):
    from lemica.cache.placement import Placement
    from lemica.cache.run import SamplingRun
    from lemica.calibration import all_segments
    from lemica.calibration.references import reference
    from lemica.calibration.references.reference import Recorder, gram
    from lemica.calibration.references.segment_errors import segment_errors
    from lemica.calibration.replay import full_schedule

    draw = torch.Generator().manual_seed(2)
    smooth = torch.nn.functional.interpolate(torch.randn(1, 16, 2, 8, 8, generator=draw), (2, 64, 64), mode="trilinear")
    sampling = sampling_of(wan, "dpmpp_2m", steps=5, denoise=0.7, latent={"samples": smooth})
    segments = sampling.segments()
    steps = len(sampling.sigmas) - 1
    sketch = Recorder(segments.response)
    with monkeypatch.context() as patch:
        whole = Recorder(segments.response)

        def answered(call, x, given):
            sketch.answered(call, x, given)
            with monkeypatch.context() as inner:
                inner.setattr(reference, "SKETCHED", 1 << 40)
                whole.answered(call, x, given)

        patch.setattr(reference, "SKETCHED", 1 << 14)
        sampling.run(
            lambda sigmas: SamplingRun(full_schedule(steps), sigmas, Placement("auto"), answered=answered)
        )
    assert sketch.derivatives().shape[-1] == 1 << 14 and whole.derivatives().shape[-1] == smooth.numel()
    rows = all_segments(steps, 4, OUTPUT_RULES)
    one, other = (
        segment_errors(segments, [gram(recorder.derivatives())], rows, OUTPUT_RULES)
        for recorder in (sketch, whole)
    )
    assert np.allclose(one, other, rtol=0.02)


def test_errors_of_fitted_segments_are_never_above_those_of_a_fixed_rule(comfy, wan):
    """Over all samples together; the half and the whole slope are weights as well."""
    from lemica.calibration import all_segments
    from lemica.calibration.references.reference import gram
    from lemica.calibration.references.segment_errors import segment_errors

    grams = [Runs(sampling_of(wan, "dpmpp_2m", seed=seed)) for seed in (4, 5)]
    segments = grams[0].segments
    kinds = (*OUTPUT_RULES, OUTPUT_FITTED)
    rows = all_segments(STEPS, 4, kinds)
    errors = np.square(segment_errors(segments, [gram(one.reference().derivatives) for one in grams], rows, kinds)).mean(0)
    found = {tuple(row): error for row, error in zip(rows.tolist(), errors.tolist(), strict=True)}
    for before, start, end, kind in rows.tolist():
        fitted = found.get((before, start, end, 3), found.get((-1, start, end, 3)))
        if fitted is not None:
            assert fitted <= found[before, start, end, kind] * (1 + 1e-6) + 1e-12


# Closed loop


@pytest.mark.parametrize("name", SOME)
def test_what_a_segment_tells_is_what_a_run_with_its_weights_shows(comfy, wan, monkeypatch, name):
    """Before the fit: the products foretell by how much the latent at its end will be off with any weights."""
    from lemica.calibration.references import closed_loop
    from lemica.calibration.references.arrival import Segments
    from lemica.calibration.references.walk import Walk, walked

    monkeypatch.setattr(closed_loop, "OVER", 1.0)
    monkeypatch.setattr(Segments, "moments", lambda self, end: [self.moment(end)])
    runs, computed, steps = Runs(sampling_of(wan, name, steps=9)), (0, 1, 3, 6), 9
    walk = Walk(runs.sampling, runs.reference(), computed)
    draw = np.random.default_rng(1)
    weights: list[tuple[float, ...]] = [()]
    for place, (start, end) in enumerate(zip(computed, (*computed[1:], steps), strict=True)):
        if end - start == 1 or end == steps:
            continue
        products = walk.products(place, weights)
        weights.append(tuple((np.eye(place + 1)[0] + 0.2 * draw.standard_normal(place + 1)).tolist()))
        own = np.array(weights[place])
        foretold = own @ products.normal @ own + 2 * own @ products.right + products.square
        found = runs.run(walked(steps, computed, weights))
        shown = float((found[end] - runs.latents[end]).double().square().mean())
        assert foretold == pytest.approx(shown, rel=2e-3), place


def test_a_fit_is_least_squares_drawn_to_the_half_slope():
    from lemica.calibration.references.closed_loop import RIDGE, Products, fit

    draw = np.random.default_rng(0)
    effects, target = draw.standard_normal((3, 40)), draw.standard_normal(40)
    products = Products(effects @ effects.T, effects @ target, float(target @ target))
    prior = (1.4, -0.4, 0.0)
    penalty = np.sqrt(RIDGE * np.diag(products.normal))
    expected, *_ = np.linalg.lstsq(
        np.vstack([effects.T, np.diag(penalty)]), np.concatenate([-target, penalty * prior]), rcond=None
    )
    assert np.allclose(fit(products, prior), expected)


def test_the_half_slope_over_a_segment_is_that_of_the_half_rule_in_the_mean():
    from lemica.calibration.references.closed_loop import half_slope
    from lemica.schedules import Rule

    sigmas = nominal_sigmas(3.0, 12)
    for computed, end in (((4, 2, 0), 7), ((1, 0), 3), ((10, 6, 3, 0), 12)):
        known = [sigmas[step] for step in computed]
        rule = [Rule("output", "half").weights(sigmas[step], known) for step in range(computed[0] + 1, end)]
        assert np.allclose(half_slope(sigmas, computed, end), [*np.mean(rule, axis=0), *[0.0] * (len(computed) - 2)])
    assert half_slope(sigmas, (0,), 4) == (1.0,)


def test_with_as_many_weights_as_elements_one_sample_ends_where_the_full_run_did(monkeypatch):
    """A model of a few numbers, by hand: every segment that has outputs enough arrives exactly."""
    from lemica.calibration.references import closed_loop
    from lemica.calibration.references.arrival import Segments, euler_response
    from lemica.calibration.references.closed_loop import Deviations, fit, half_slope

    monkeypatch.setattr(closed_loop, "RIDGE", 1e-13)
    monkeypatch.setattr(closed_loop, "OVER", 1.0)
    sigmas, computed = nominal_sigmas(3.0, 14), (0, 1, 2, 3, 5, 8, 11)
    steps = len(sigmas) - 1

    def derivative(x: np.ndarray, sigma: float) -> np.ndarray:
        return (x - np.tanh(1.5 * x + np.array([0.3, -0.2, 0.5]) * (1 + sigma))) / sigma

    start = np.array([0.7, -1.1, 0.4])
    full, x = [], start
    for sigma, after in zip(sigmas, sigmas[1:], strict=False):
        full.append(derivative(x, sigma))
        x = x + (after - sigma) * full[-1]
    expected = x
    deviations = Deviations(Segments(euler_response(sigmas), steps), np.array(full, dtype=np.float32)[None])
    x, known = start, []
    for place, (at, end) in enumerate(zip(computed, (*computed[1:], steps), strict=True)):
        known.insert(0, derivative(x, sigmas[at]))
        deviations.answered(known[0][None].astype(np.float32))
        x = x + (sigmas[at + 1] - sigmas[at]) * known[0]
        if end - at > 1:
            back = computed[place::-1][:3]
            weights = fit(deviations.products(back, end), half_slope(sigmas, back, end))
            d = sum(weight * one for weight, one in zip(weights, known, strict=False))
            for step in range(at + 1, end):
                deviations.answered(d[None].astype(np.float32))
                x = x + (sigmas[step + 1] - sigmas[step]) * d
    assert np.allclose(x, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "heun"])
def test_a_fitted_path_is_ahead_of_every_fixed_rule_on_its_samples(comfy, tiny_wan, wan, tmp_path, name):
    from lemica.calibration.latents import l2
    from lemica.calibration.replay import Replays

    sampling = make_sampling(tiny_wan, wan, steps=10, sampler=name)
    outcomes = make_job(tmp_path, [sampling], name, mode="short", budgets=(5, 4), metric="l2").run().outcomes
    replays = Replays(sampling, None, l2)
    for outcome in outcomes.values():
        computed, fitted = outcome.route.computed, replays.path(outcome.route.schedule(10))
        fixed = [
            replays.path(Schedule("path", "any", 10, computed, (rule,) * len(computed), "custom")) for rule in OUTPUT_RULES
        ]
        assert fitted < min(fixed), (computed, fitted, fixed)


# The job


@pytest.mark.parametrize(
    "changed, steps, samples, judges",
    [
        ({"mode": "short", "budgets": (5, 4, 3)}, 8, 2, 0), ({"mode": "short", "budgets": (8, 3)}, 8, 1, 2),
        ({"mode": "normal", "budgets": (9, 6), "longest": 8}, 24, 5, 0),
        ({"mode": "normal", "budgets": (8, 5), "longest": 10, "safe": False}, 24, 2, 2),
        ({"mode": "exact", "budgets": (4,), "tries": 0}, 8, 1, 0),
    ],
)
def test_the_estimate_is_what_is_spent(comfy, tiny_wan, wan, tmp_path, changed, steps, samples, judges):
    from lemica.calibration.job import Job
    from lemica.calibration.sampling import AttachedModel

    attached, told = AttachedModel(wan), []
    every = [make_sampling(tiny_wan, attached, seed, steps=steps) for seed in range(samples + judges)]
    job = Job(
        tmp_path, "spent", every[:samples], make_settings(**changed), judges=every[samples:], on_progress=told.append
    )
    spent = job.run().computed
    assert spent == pytest.approx(job.cost().computed, rel=0.2)
    assert changed["mode"] != "short" or spent == job.cost().computed
    done = [progress.done for progress in told]
    assert done == sorted(done)


def test_a_budget_that_segments_are_too_short_for_gets_uniform_spacing_and_the_figures_say_in_what(
    comfy, tiny_wan, wan, tmp_path
):
    job = make_job(tmp_path, [make_sampling(tiny_wan, wan)], "short", mode="short", budgets=(4, 2), longest=2, metric="l1")
    many, few = job.run().schedules("short")
    assert (many.computed, few.computed) == ((0, 2, 4, 6), (0, 4)) and few.source["path"] == "uniform, fitted"
    assert many.source["metric"] == few.source["metric"] == "l1" and all(map(len, few.weights))


@pytest.mark.parametrize("stop_at", [1, 4, 9, 13, 18])
def test_a_fit_that_is_killed_goes_on_and_makes_one_step_of_a_sample_twice_at_most(comfy, tiny_wan, wan, tmp_path, stop_at):
    """Wherever the process ends: right before what a computed step gave is written, when the most is lost."""
    from lemica.calibration.fit_folder import FitFolder

    class Killed(BaseException):
        pass

    def job(name, model):
        return make_job(tmp_path, [make_sampling(tiny_wan, model, seed) for seed in (4, 5)], name, mode="short")

    whole = job("whole", wan).run()
    counting, batches = tiny_wan.counted(wan)
    original, saved = FitFolder.save_walk, 0

    def save_walk(*given):
        nonlocal saved
        saved += 1
        if saved == stop_at:
            raise Killed
        original(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FitFolder, "save_walk", save_walk)
        try:
            job("killed", counting).run()
        except Killed:
            pass
        else:
            pytest.skip("it computes fewer steps")
    resumed = job("killed", counting).run()
    needed = 2 * (8 + 4 + 3)
    assert needed < len(batches) <= needed + 2, "the step that was lost, and no more than one of every sample"
    for budget, outcome in whole.outcomes.items():
        assert resumed.outcomes[budget].route == outcome.route
        assert resumed.outcomes[budget].errors == pytest.approx(outcome.errors, rel=1e-5)
    assert not list(tmp_path.glob("killed*/walk-*"))


def test_recording_touches_at_most_three_percent_of_what_a_run_does(comfy, tiny_wan, wan):
    """In elements that operations give, which needs no quiet machine; this model is far smaller than any real one."""
    from counted_elements import Counting
    from lemica.cache.placement import Placement
    from lemica.cache.run import SamplingRun
    from lemica.calibration.references.reference import Recorder
    from lemica.calibration.replay import full_schedule

    sampling = sampling_of(wan, "euler", steps=4, latent={"samples": torch.zeros(1, 16, 2, 32, 32)})
    segments = sampling.segments()

    def counted(answered) -> int:
        with Counting() as counting:
            sampling.run(
                lambda sigmas: SamplingRun(full_schedule(4), sigmas, Placement("auto"), answered=answered)
            )
        return counting.elements

    counted(None)
    plain, recorded = counted(None), counted(Recorder(segments.response).answered)
    assert plain < recorded <= 1.03 * plain
