"""The cache against ComfyUI's real guider, samplers and Wan model, on the CPU."""

from __future__ import annotations

import gc
import itertools

import pytest

STEPS = 10
COMPUTED = (0, 1, 2, 4, 7)
RULES = ["output hold", "output half", "output linear", "residual hold", "residual linear"]


@pytest.fixture(scope="module")
def install(comfy):
    from lemica.cache.wrapper import install
    from lemica.schedules import Rule, Schedule

    def with_schedule(
        model, computed, rule="output hold", on_report=lambda report: None, device="auto", origin="custom", **parts
    ):
        """``model`` with one schedule for whatever sigmas come, as long as the steps fit."""

        def choose(setting):
            steps = len(setting.sigmas) - 1
            kept = tuple(step for step in computed if step < steps)
            rules = (Rule.parse(rule),) * len(kept)
            return Schedule("test", "test", steps, kept, rules, origin, **parts), "note"

        return install(model, choose, device, on_report)

    return with_schedule


def equal(a, b) -> bool:
    import torch

    return torch.equal(a, b)


def test_every_step_computed_is_the_plain_run_bit_for_bit_with_every_sampler(comfy, tiny_wan, wan, install):
    import comfy.samplers

    everything = range(STEPS)
    for name, rule in zip(comfy.samplers.KSAMPLER_NAMES, itertools.cycle(RULES)):
        plain = tiny_wan.sample(wan, sampler=name, steps=STEPS)
        cached = tiny_wan.sample(install(wan, everything, rule), sampler=name, steps=STEPS)
        assert equal(plain, cached), (name, rule)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("cfg, batched", [(4.0, True), (4.0, False), (1.0, True)])
def test_the_model_runs_at_the_computed_steps_and_nowhere_else(tiny_wan, wan, install, rule, cfg, batched, monkeypatch):
    reports = []
    if not batched:
        monkeypatch.setattr(type(wan), "get_free_memory", lambda self, device: 0)
    blocks_run = []
    hook = wan.model.diffusion_model.blocks[1].register_forward_hook(lambda *args: blocks_run.append(len(args[1][0])))
    try:
        tiny_wan.sample(install(wan, COMPUTED, rule, reports.append), cfg=cfg)
    finally:
        hook.remove()
    conds = 1 if cfg == 1.0 else 2
    assert sum(blocks_run) == conds * len(COMPUTED)
    assert len(blocks_run) == len(COMPUTED) * (1 if batched else conds)
    (report,) = reports
    assert report.computed == COMPUTED
    assert (report.calls, report.full_calls) == (conds * len(COMPUTED), conds * STEPS)
    assert report.finished and report.speedup > 0 and not report.doubts


def test_output_rules_skip_the_whole_model(tiny_wan, wan, install):
    model, batches = tiny_wan.counted(wan)
    tiny_wan.sample(install(model, COMPUTED))
    assert batches == [2] * len(COMPUTED)


@pytest.mark.parametrize("order, slope", [("hold", 0.0), ("half", 0.5), ("linear", 1.0)])
def test_output_rules_equal_a_sampler_that_reuses_by_itself(comfy, tiny_wan, wan, install, order, slope):
    """The reference is a sampler written here that keeps dx/dsigma of the guided output on its own."""
    import comfy.samplers

    def reusing_euler(model, x, sigmas, extra_args=None, callback=None, disable=None):
        known = []
        for k in range(len(sigmas) - 1):
            if k in COMPUTED:
                d = (x - model(x, sigmas[k] * x.new_ones([x.shape[0]]), **extra_args)) / sigmas[k]
                known.append((sigmas[k], d))
            else:
                (s0, d0), (s1, d1) = known[-2:] if len(known) > 1 else known * 2
                d = d1 + (slope * (sigmas[k] - s1) / (s1 - s0) * (d1 - d0) if s1 != s0 else 0)
            x = x + d * (sigmas[k + 1] - sigmas[k])
        return x

    expected = tiny_wan.sample(wan, sampler=comfy.samplers.KSAMPLER(reusing_euler))
    got = tiny_wan.sample(install(wan, COMPUTED, f"output {order}"))
    assert (got - expected).abs().max() < 1e-4 * expected.abs().max()
    assert not equal(got, tiny_wan.sample(wan))


FITTED = "output fitted"


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "euler_ancestral", "euler_cfg_pp"])
def test_a_fit_that_holds_is_hold_bit_for_bit(tiny_wan, wan, install, sampler):
    weights = ((), (), (1.0,), (1.0,), (1.0,))
    held = tiny_wan.sample(install(wan, COMPUTED), sampler=sampler)
    source = {"carries": "denoised"} if sampler == "euler_ancestral" else {}
    fitted = install(wan, COMPUTED, FITTED, weights=weights, source=source)
    assert equal(tiny_wan.sample(fitted, sampler=sampler), held)


@pytest.mark.parametrize("sampler, source, instead, why", [
    ("euler_ancestral", {}, "output hold", "fitted without noise, and this sampler draws some"),
    ("euler", {"carries": "denoised"}, "output half", "fitted with drawn noise, and this sampler draws none"),
    ("dpm_adaptive", {}, "output hold", "cannot be rehearsed"),
])
def test_weights_are_not_used_under_a_sampler_of_another_kind(tiny_wan, wan, install, sampler, source, instead, why):
    reports = []
    weights = ((), (), (1.0,), (1.0,), (1.0,))
    fitted = install(wan, COMPUTED, FITTED, reports.append, weights=weights, source=source, origin="calibrated")
    fixed = install(wan, COMPUTED, instead)
    assert equal(tiny_wan.sample(fitted, sampler=sampler), tiny_wan.sample(fixed, sampler=sampler))
    assert any(why in doubt and instead in doubt for doubt in reports[0].doubts)
    assert reports[0].origin == "custom", "nothing was measured of what it did"


@pytest.mark.parametrize("order, slope", [("hold", 0.0), ("half", 0.5), ("linear", 1.0)])
def test_under_drawn_noise_output_rules_carry_the_denoised_latent(comfy, tiny_wan, wan, install, order, slope):
    """The reference is an ancestral sampler written here that keeps the guided denoised latent on its own."""
    import comfy.samplers
    import torch

    def ancestral(model, x, sigmas, extra_args=None, callback=None, disable=None, reuse=False):
        draw, known = torch.Generator().manual_seed(extra_args["seed"]), []
        for k in range(len(sigmas) - 1):
            if k in COMPUTED or not reuse:
                denoised = model(x, sigmas[k] * x.new_ones([x.shape[0]]), **extra_args)
                known.append((sigmas[k], denoised))
            else:
                (s0, d0), (s1, d1) = known[-2:] if len(known) > 1 else known * 2
                denoised = d1 + (slope * (sigmas[k] - s1) / (s1 - s0) * (d1 - d0) if s1 != s0 else 0)
            callback and callback({"i": k, "denoised": denoised, "x": x})
            noise = torch.randn(x.shape, generator=draw)
            x = (1 - sigmas[k + 1]) * denoised + sigmas[k + 1] * (0.6 * (x - denoised) / sigmas[k] + 0.8 * noise)
        return x

    def reusing(*given, **named):
        return ancestral(*given, reuse=True, **named)

    expected = tiny_wan.sample(wan, sampler=comfy.samplers.KSAMPLER(reusing))
    sampler = comfy.samplers.KSAMPLER(ancestral)
    got = tiny_wan.sample(install(wan, COMPUTED, f"output {order}"), sampler=sampler)
    assert (got - expected).abs().max() < 1e-4 * expected.abs().max()
    assert not equal(got, tiny_wan.sample(wan, sampler=sampler))


def test_an_estimated_slope_does_not_follow_the_noise_of_a_sampler(tiny_wan, wan, install):
    def run(sampler, rule="output half", **parts):
        reports = []
        return tiny_wan.sample(install(wan, COMPUTED, rule, reports.append, **parts), sampler=sampler), reports[0].doubts

    held, _ = run("euler_ancestral", "output hold")
    found, doubts = run("euler_ancestral", origin="estimated")
    assert equal(found, held) and any("output hold stands in for an estimated slope" in doubt for doubt in doubts)
    chosen, doubts = run("euler_ancestral", origin="estimated", source={"rules_replaced_by": "output half"})
    assert not equal(chosen, held) and not doubts
    assert equal(run("euler", origin="estimated")[0], run("euler")[0])


def test_weights_that_an_earlier_version_fitted_under_noise_give_way(tiny_wan, wan, install):
    weights = ((), (), (1.0,), (1.0,), (1.0,))
    held = install(wan, COMPUTED, "output hold")
    for sampler in ("euler", "euler_ancestral"):
        reports = []
        former = install(wan, COMPUTED, FITTED, reports.append, weights=weights, source={"noise": True}, origin="calibrated")
        assert equal(tiny_wan.sample(former, sampler=sampler), tiny_wan.sample(held, sampler=sampler))
        assert "of an earlier version" in reports[0].note and reports[0].origin == "custom"


@pytest.mark.parametrize("weights", [
    ((), (), (1.2, -0.2), (1.3, -0.3), (1.6, -0.6)),
    ((), (), (1.2, -0.4, 0.2), (1.3, -0.5, 0.1, 0.1), (1.6, -0.8, 0.3, -0.2, 0.1)),
])
def test_fitted_rules_equal_a_sampler_that_weighs_by_itself(comfy, tiny_wan, wan, install, weights):
    """The reference is a sampler written here that keeps dx/dsigma of the guided output on its own."""
    import comfy.samplers

    def weighing_euler(model, x, sigmas, extra_args=None, callback=None, disable=None):
        known = []
        for k in range(len(sigmas) - 1):
            if k in COMPUTED:
                known.insert(0, (x - model(x, sigmas[k] * x.new_ones([x.shape[0]]), **extra_args)) / sigmas[k])
                d = known[0]
            else:
                d = sum(weight * one for weight, one in zip(weights[len(known) - 1], known, strict=False))
            x = x + d * (sigmas[k + 1] - sigmas[k])
        return x

    expected = tiny_wan.sample(wan, sampler=comfy.samplers.KSAMPLER(weighing_euler))
    got = tiny_wan.sample(install(wan, COMPUTED, FITTED, weights=weights))
    assert (got - expected).abs().max() < 1e-4 * expected.abs().max()
    assert not equal(got, tiny_wan.sample(install(wan, COMPUTED)))


def test_a_fit_keeps_no_more_latents_of_a_cond_than_it_weighs(tiny_wan, wan, install, monkeypatch):
    from lemica.cache.slots import Slots

    most = 0

    def put(slots, key, step, sigma, value):
        nonlocal most
        original(slots, key, step, sigma, value)
        for _, history in slots._histories.values():
            held = [kept.value for kept in history._kept] + ([] if history._blend is None else [history._blend])
            most = max(most, len({tensor.data_ptr() for tensor in held}))

    original = Slots.put
    monkeypatch.setattr(Slots, "put", put)
    weights = ((), (), (1.2, -0.2), (1.3, -0.2, -0.1), (1.6, -0.5, -0.1))
    tiny_wan.sample(install(wan, COMPUTED, FITTED, weights=weights))
    assert most == 3


@pytest.mark.parametrize("cfg", [4.0, 1.0])
def test_fitted_steps_cost_at_most_twice_as_much_as_held_ones(tiny_wan, wan, install, cfg):
    """In elements that operations give, from the callback of one step to that of the next: no machine is quiet enough."""
    from counted_elements import Counting

    computed, steps = (0, 1, 2, 3, 4, 7, 10), 14

    def costs(rule, weights=()):
        marks = []
        with Counting() as counting:
            tiny_wan.sample(
                install(wan, computed, rule, weights=weights), cfg=cfg, steps=steps,
                callback=lambda *_: marks.append(counting.elements),
            )
        each = [after - before for before, after in zip(marks, marks[1:], strict=False)]
        return {step: cost for step, cost in enumerate(each, 1) if step not in computed}

    five = (1.4, -0.5, 0.1, -0.1, 0.1)
    held, fitted = costs("output hold"), costs(FITTED, ((),) * 4 + (five,) * 3)
    later = [step for step in held if step - 1 not in computed]
    assert sum(fitted.values()) <= 2 * sum(held.values()), (held, fitted)
    assert later and all(fitted[step] <= held[step] for step in later), "what is weighed stays the same through a segment"


@pytest.mark.parametrize("order, slope", [("hold", 0.0), ("linear", 1.0)])
def test_residual_rules_equal_blocks_whose_result_is_replaced(tiny_wan, wan, install, order, slope):
    """The reference runs every block and then puts first input plus kept residual in place of the last output."""
    blocks = wan.model.diffusion_model.blocks
    sigmas = None
    entered, known = [], []

    def enter(module, args):
        entered.append(args[0])

    def leave(module, args, output):
        step = len(entered) - 1
        if step in COMPUTED:
            known.append((sigmas[step], output - entered[-1]))
            return output
        (s0, r0), (s1, r1) = known[-2:]
        return entered[-1] + r1 + slope * (sigmas[step] - s1) / (s1 - s0) * (r1 - r0)

    import comfy.samplers

    sigmas = comfy.samplers.calculate_sigmas(wan.get_model_object("model_sampling"), "simple", STEPS)
    hooks = [blocks[0].register_forward_pre_hook(enter), blocks[-1].register_forward_hook(leave)]
    try:
        expected = tiny_wan.sample(wan)
    finally:
        for hook in hooks:
            hook.remove()
    got = tiny_wan.sample(install(wan, COMPUTED, f"residual {order}"))
    assert (got - expected).abs().max() < 1e-4 * expected.abs().max()
    assert not equal(got, tiny_wan.sample(wan))


@pytest.mark.parametrize("rule", RULES)
def test_the_same_seed_gives_the_same_latent_whatever_ran_before(comfy, tiny_wan, wan, install, rule):
    plain = tiny_wan.sample(wan)
    model = install(wan, COMPUTED, rule)
    first = tiny_wan.sample(model)
    assert equal(first, tiny_wan.sample(model))
    assert equal(first, tiny_wan.sample(model))
    tiny_wan.sample(install(wan, (0, 5), rule), seed=9)
    assert equal(first, tiny_wan.sample(model))
    for stop in (0, 3, 6):
        interrupt(comfy, tiny_wan, model, stop)
        assert equal(first, tiny_wan.sample(model))
    assert equal(plain, tiny_wan.sample(wan)), "the plain model after the cached one"
    assert equal(first, tiny_wan.sample(model)), "after the node was bypassed once"
    tiny_wan.sample(model, shape=(2, 16, 1, 6, 8))
    assert equal(first, tiny_wan.sample(model)), "after a run of another size"


def interrupt(comfy, tiny_wan, model, stop: int) -> None:
    import comfy.model_management

    def at_step(step, denoised, x, total):
        if step == stop:
            raise comfy.model_management.InterruptProcessingException

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        tiny_wan.sample(model, callback=at_step)


@pytest.mark.parametrize("rule", ["output linear", "residual hold"])
def test_nothing_is_left_after_a_run(comfy, tiny_wan, wan, install, rule):
    import torch
    from lemica.cache.rules import History
    from lemica.cache.run import SamplingRun

    def state(model):
        return sorted(vars(model.model)), sorted(vars(model.model.diffusion_model)), str(model.model_options)

    tiny_wan.sample(wan)
    before, keys = state(wan), list(wan.model.state_dict())
    model = install(wan, COMPUTED, rule)
    options = str(model.model_options)
    tiny_wan.sample(model)
    interrupt(comfy, tiny_wan, model, 4)
    assert str(model.model_options) == options
    assert list(wan.model.state_dict()) == keys
    gc.collect()
    assert not [o for o in gc.get_objects() if isinstance(o, (History, SamplingRun))]
    tiny_wan.sample(wan)
    assert state(wan) == before
    assert type(wan.model.diffusion_model.blocks) is torch.nn.ModuleList
    assert "__iter__" not in vars(wan.model.diffusion_model.blocks)


def test_the_node_twice_in_a_row_is_the_last_one(tiny_wan, wan, install):
    twice, batches = tiny_wan.counted(install(install(wan, (0, 5)), COMPUTED))
    assert equal(tiny_wan.sample(twice), tiny_wan.sample(install(wan, COMPUTED)))
    assert len(batches) == len(COMPUTED)


def test_two_clones_of_one_model_keep_apart(tiny_wan, wan, install):
    one, two = install(wan, COMPUTED), install(wan, (0, 3), "residual hold")
    alone = tiny_wan.sample(one), tiny_wan.sample(two)
    assert equal(alone[0], tiny_wan.sample(one)) and equal(alone[1], tiny_wan.sample(two))
    assert not equal(*alone)


@pytest.mark.parametrize("rule", ["output hold", "residual hold"])
@pytest.mark.parametrize("sampler, calls_per_step", [("heun", 2), ("dpm_2", 2), ("dpmpp_2s_ancestral", 2), ("dpmpp_2m", 1)])
def test_each_stage_of_a_step_is_reused_from_its_own(tiny_wan, wan, install, rule, sampler, calls_per_step):
    reports = []
    model, _ = tiny_wan.counted(wan)
    latent = tiny_wan.sample(install(model, COMPUTED, rule, reports.append), sampler=sampler)
    (report,) = reports
    assert latent.isfinite().all()
    assert report.calls == 2 * calls_per_step * len(COMPUTED)
    assert set(report.computed) == set(COMPUTED) and not report.doubts


def test_a_sampler_that_chooses_its_own_steps_computes_every_call(tiny_wan, wan, install):
    reports = []
    plain = tiny_wan.sample(wan, sampler="dpm_adaptive")
    cached = tiny_wan.sample(install(wan, (0,), "output hold", reports.append), sampler="dpm_adaptive")
    assert equal(plain, cached)
    assert "computing every step" in reports[0].line()
    assert reports[0].computed == tuple(range(STEPS))


def test_a_foreign_sampler_is_followed_by_its_sigmas(comfy, tiny_wan, wan, install):
    import comfy.samplers

    class Wrapped(comfy.samplers.Sampler):
        def sample(self, *args, **kwargs):
            return comfy.samplers.sampler_object("euler").sample(*args, **kwargs)

    class TwoStage(comfy.samplers.Sampler):
        def sample(self, *args, **kwargs):
            return comfy.samplers.sampler_object("heun").sample(*args, **kwargs)

    model = install(wan, COMPUTED)
    assert equal(tiny_wan.sample(model, sampler=Wrapped()), tiny_wan.sample(model))
    reports = []
    cautious = install(wan, COMPUTED, "output hold", reports.append)
    assert equal(tiny_wan.sample(cautious, sampler=TwoStage()), tiny_wan.sample(wan, sampler="heun"))
    assert "do not follow its sigmas" in reports[0].line()


def test_a_sampler_that_leaves_its_rehearsal_computes_the_rest(comfy, tiny_wan, wan, install):
    """A stand-in for samplers whose course depends on what the model says."""
    import comfy.k_diffusion.sampling
    import comfy.samplers

    def stubborn(model, x, sigmas, extra_args=None, callback=None, disable=None):
        real = x.numel() > 64
        for k in range(len(sigmas) - 1):
            sigma = sigmas[k] * (0.97 if real and k == 4 else 1.0)
            denoised = model(x, sigma * x.new_ones([x.shape[0]]), **extra_args)
            callback({"i": k, "denoised": denoised, "x": x})
            x = x + (x - denoised) / sigma * (sigmas[k + 1] - sigmas[k])
        return x

    reports = []
    model, batches = tiny_wan.counted(wan)
    tiny_wan.sample(install(model, (0, 2), "output hold", reports.append), sampler=comfy.samplers.KSAMPLER(stubborn))
    assert len(batches) == 2 + 6
    assert "leaves the sigmas of its rehearsal" in reports[0].line()


def test_conds_that_begin_in_mid_run_are_computed_before_they_are_reused(tiny_wan, wan, install):
    early, late = tiny_wan.conditioning(1)[0], tiny_wan.conditioning(2)[0]
    positive = [[early[0], {"start_percent": 0.0, "end_percent": 0.5}], [late[0], {"start_percent": 0.5, "end_percent": 1.0}]]
    for rule in ("output hold", "residual hold"):
        reports = []
        tiny_wan.sample(install(wan, (0,), rule, reports.append), positive=positive)
        (report,) = reports
        assert len(report.computed) == 2 and report.computed[0] == 0
        assert "nothing cached fits" in report.line()


def test_a_slot_that_lacks_one_of_the_outputs_of_a_fit_computes(tiny_wan, wan, install):
    """The late cond has one output where two are to be weighed, and another one than the weights are for."""
    early, late = tiny_wan.conditioning(1)[0], tiny_wan.conditioning(2)[0]
    positive = [[early[0], {"start_percent": 0.0, "end_percent": 0.5}], [late[0], {"start_percent": 0.5, "end_percent": 1.0}]]

    def computed(steps, rule, weights=()):
        reports = []
        tiny_wan.sample(install(wan, steps, rule, reports.append, weights=weights), positive=positive)
        assert "nothing cached fits" in reports[0].line()
        return reports[0].computed

    _, begins = computed((0,), "output hold")
    steps = (0, 1, begins + 1)
    assert 1 < begins < STEPS - 2
    assert computed(steps, FITTED, ((), (1.2, -0.2), (1.0,))) == (0, 1, begins, begins + 1)
    assert computed(steps, FITTED, ((), (1.2, -0.2), (1.2, -0.2))) == (0, 1, *range(begins, STEPS))


def test_sigmas_that_cannot_carry_a_schedule_compute_every_step(comfy, tiny_wan, wan):
    import torch
    from lemica.cache.wrapper import install
    from lemica.schedules import GridError

    def choose(setting):
        raise GridError("sigmas go up")

    reports = []
    model = install(wan, choose, on_report=reports.append)
    sigmas = torch.tensor([1.0, 0.5, 0.7, 0.2, 0.0])
    assert equal(tiny_wan.sample(model, sigmas=sigmas), tiny_wan.sample(wan, sigmas=sigmas))
    assert "computing every step: sigmas go up" in reports[0].line()
    for few in ([], [0.5], [1.0, 0.0]):
        sigmas = torch.tensor(few)
        assert equal(tiny_wan.sample(model, sigmas=sigmas), tiny_wan.sample(wan, sigmas=sigmas))


def test_beside_easycache_every_step_is_computed(comfy, tiny_wan, wan, install):
    from comfy_extras.nodes_easycache import EasyCacheNode

    (other,) = EasyCacheNode.execute(wan, 0.2, 0.15, 0.95, False).args
    reports = []
    assert equal(tiny_wan.sample(install(other, (0,), "output hold", reports.append)), tiny_wan.sample(other))
    assert "EasyCache" in reports[0].line()


def test_residual_rules_on_an_unknown_block_stack_run_on_the_output(tiny_wan, wan, install, monkeypatch):
    from lemica.cache import blocks

    expected = tiny_wan.sample(install(wan, COMPUTED, "output linear"))
    monkeypatch.setattr(blocks, "FAMILIES", {})
    reports = []
    assert equal(tiny_wan.sample(install(wan, COMPUTED, "residual linear", reports.append)), expected)
    assert "rules run on the output" in reports[0].line()


@pytest.mark.parametrize("device", ["auto", "gpu", "cpu"])
def test_where_the_cache_lives_does_not_change_the_result(tiny_wan, wan, install, device):
    assert equal(tiny_wan.sample(install(wan, COMPUTED, device=device)), tiny_wan.sample(install(wan, COMPUTED)))


def test_an_unknown_cache_device_is_refused(wan, install):
    with pytest.raises(ValueError, match="'disk'.*auto"):
        install(wan, COMPUTED, device="disk")
