"""Every published list on every step count: the share of computed steps, the first one, and where they are dense."""

import math
from pathlib import Path

import lemica.schedules
import pytest
from lemica.schedules import Library, nominal_sigmas, resample
from lemica.schedules.grid import interpolate, position_of

LIBRARY = Path(lemica.schedules.__file__).parent / "library"
PUBLISHED = [schedule for schedule in Library(LIBRARY).schedules() if schedule.origin == "published"]


def beta_like(steps):
    """Sigmas dense at both ends, as ComfyUI's beta scheduler has them."""
    return tuple(0.5 + 0.5 * math.cos(math.pi * k / steps) for k in range(steps + 1))


def karras(steps, low=0.02, rho=7.0):
    ramp = [k / max(steps - 1, 1) for k in range(steps)]
    return (*((1 + share * (low ** (1 / rho) - 1)) ** rho for share in ramp), 0.0)


FORMULAS = {
    "simple": lambda steps: nominal_sigmas(1.0, steps),
    "shifted flow": lambda steps: nominal_sigmas(5.0, steps),
    "beta": beta_like,
    "karras": karras,
}


def off_and_allowed(original, result):
    """How far the counts of computed steps up to each new step lie from those wanted, and how far they may.

    Wanted is the original's count up to the same sigma, in proportion. They may lie off by what one computed step of the
    original stands for, and where more are wanted than there are steps, by those that find no room.
    """
    marks = [*original.computed, original.steps]
    old = original.sigmas or [original.steps - k for k in range(original.steps + 1)]
    grid = result.sigmas if original.sigmas else [original.steps * (1 - k / result.steps) for k in range(result.steps + 1)]
    positions = [position_of(sigma, old) for sigma in grid]
    first, last = positions[0], positions[-1]
    count = [interpolate(position, marks, range(len(marks))) for position in (first, *positions, last)]
    scale = result.budget / (count[-1] - count[0])
    wanted = [scale * (value - count[0]) for value in count[1:-1]]
    found = [sum(step < k for step in result.computed) for k in range(result.steps + 1)]
    off = max(abs(one - other) for one, other in zip(wanted, found, strict=True))
    lowest, crowded = 0.0, 0.0
    for k, value in enumerate(wanted):
        lowest = min(lowest, value - k)
        crowded = max(crowded, value - k - lowest)
    return off, crowded + max(scale, 1.0)


@pytest.mark.parametrize("grid", FORMULAS)
@pytest.mark.parametrize("schedule", PUBLISHED, ids=lambda schedule: schedule.name)
def test_every_published_list_serves_any_step_count(schedule, grid):
    for steps in range(4, 101, 1 if grid == "shifted flow" else 7):
        sigmas = FORMULAS[grid](steps)
        result = resample(schedule, sigmas)
        again = resample(result, sigmas)
        assert (result.steps, result.computed[0]) == (steps, 0)
        if sigmas[-1] == 0 and sigmas[0] >= (schedule.sigmas or sigmas)[0]:
            assert abs(result.budget - schedule.budget * steps / schedule.steps) <= 1
        off, allowed = off_and_allowed(schedule, result)
        assert off <= 1 + allowed, (steps, off, allowed)
        assert again is result


@pytest.mark.parametrize("schedule", PUBLISHED, ids=lambda schedule: schedule.name)
def test_a_published_list_on_its_own_grid_is_taken_as_it_is(schedule):
    sigmas = schedule.sigmas or nominal_sigmas(3.0, schedule.steps)
    assert resample(schedule, sigmas).computed == schedule.computed


@pytest.mark.parametrize("scheduler", ["simple", "beta", "karras", "normal"])
def test_the_grids_of_comfyui_are_served(comfy, scheduler):
    import comfy.model_sampling
    import comfy.samplers

    class Flow(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    sampling = Flow()
    sampling.set_parameters(shift=5.0)
    for steps in range(4, 101, 8):
        sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, steps).tolist()
        for schedule in PUBLISHED[::8]:
            result = resample(schedule, sigmas)
            assert result.steps == len(sigmas) - 1 and result.computed[0] == 0
            off, allowed = off_and_allowed(schedule, result)
            assert off <= 1 + allowed, (schedule.name, steps, off, allowed)
            assert resample(result, sigmas) is result
