"""Tiny models under a schedule, and a reference for residual rules that uses nothing of the pack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING

import tiny_models
import torch
from lemica.cache.placement import Placement
from lemica.cache.run import SamplingRun
from lemica.cache.trajectory import Trajectory
from lemica.cache.wrapper import attach, full_schedule, install
from lemica.schedules import Rule, Schedule

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from lemica.cache.report import RunReport

STEPS = 3
COMPUTED = (0, 2)


def sample(model: ModelPatcher, name: str, **options) -> torch.Tensor:
    return tiny_models.sample(model, name, STEPS, **options)


def installed(
    model: ModelPatcher, rule: str = "residual hold", computed: tuple[int, ...] = COMPUTED,
    reports: list[RunReport] | None = None,
) -> ModelPatcher:
    """``model`` under one schedule for whatever sigmas come."""
    schedule = Schedule("test", "test", STEPS, computed, (Rule.parse(rule),) * len(computed), "custom")
    reports = [] if reports is None else reports
    return install(model, lambda setting: (schedule, ""), on_report=reports.append)


def recorded(model: ModelPatcher) -> tuple[ModelPatcher, Trajectory]:
    """``model`` computing every step while every residual is measured, and what these are kept in."""
    trajectory = Trajectory(residuals_wanted=True)

    def make_run(setting):
        return SamplingRun(full_schedule(setting.sigmas), setting.sigmas, Placement("auto"), record=trajectory)

    return attach(model, make_run), trajectory


def residuals_of(trajectory: Trajectory) -> list[torch.Tensor]:
    """The residuals of all chunks of all batches."""
    return [residual for batch in trajectory.batches for _, residual in trajectory.residuals(batch).values()]


@contextmanager
def watched(model: ModelPatcher, name: str, tell: Callable[[tuple, dict], None]) -> Iterator[None]:
    """Have ``tell`` called with what the first block is called with."""
    block, method = attrgetter(tiny_models.MODELS[name].block)(model.model.diffusion_model), tiny_models.MODELS[name].method
    if not method:
        hook = block.register_forward_pre_hook(lambda module, args, kwargs: tell(args, kwargs), with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
        return
    called = getattr(block, method)

    def telling(*args, **kwargs) -> torch.Tensor:
        tell(args, kwargs)
        return called(*args, **kwargs)

    setattr(block, method, telling)
    try:
        yield
    finally:
        delattr(block, method)


class Reference:
    """Hooks on a model's real modules: every block runs, then the head gets first input plus kept residual instead."""

    def __init__(self, name: str) -> None:
        self.made = tiny_models.MODELS[name]
        self.entered: list[torch.Tensor] = []
        self.kept: dict[int, torch.Tensor] = {}
        self.step = -1

    def enter(self, args: tuple, kwargs: dict) -> None:
        tokens = kwargs[self.made.tokens] if isinstance(self.made.tokens, str) else args[self.made.tokens]
        self.entered = [stream.clone() for stream in (tokens if len(self.made.head) > 1 else [tokens])]
        self.step += 1

    def replaced(self, stream: int, tokens: torch.Tensor) -> torch.Tensor:
        base = self.made.cut(self.entered[stream], tokens)
        before = tokens[:, :0]
        if base.numel() == tokens.numel():
            base = base.reshape(tokens.shape)
        else:
            before, tokens = tokens.split([tokens.shape[1] - base.shape[1], base.shape[1]], dim=1)
        if self.step in COMPUTED:
            self.kept[stream] = tokens - base
        else:
            tokens = base + self.kept[stream]
        return torch.cat([before, tokens], dim=1)

    def sample(self, model: ModelPatcher, name: str, **options) -> torch.Tensor:
        network = model.model.diffusion_model
        hooks = []
        for stream, head in enumerate(self.made.head):
            hooks.append(attrgetter(head)(network).register_forward_pre_hook(
                lambda module, args, stream=stream: (self.replaced(stream, args[0]), *args[1:])
            ))
        if self.made.last:
            hooks.append(attrgetter(self.made.last)(network).register_forward_hook(
                lambda module, args, tokens: self.replaced(0, tokens)
            ))
        try:
            with watched(model, name, self.enter):
                return sample(model, name, **options)
        finally:
            for hook in hooks:
                hook.remove()


def reference(model: ModelPatcher, name: str, **options) -> torch.Tensor:
    """What residual hold must give."""
    return Reference(name).sample(model, name, **options)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return ((a - b).abs().max() <= 1e-4 * b.abs().max()).item()
