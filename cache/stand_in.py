"""What a rehearsal gets in place of the user's own: nothing that it could use up before the run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

import comfy.samplers
import numpy as np
import torch

PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, np.generic, Enum)
GRADIENT_MODES = (torch.no_grad, torch.inference_mode, torch.enable_grad)
STATELESS = (*PLAIN, ModuleType, type, BuiltinFunctionType, *GRADIENT_MODES)


NoiseSampler = Callable[..., torch.Tensor]


class UsedUp(ValueError):
    """A rehearsal might change what the sampler is given, so that the run would differ from the plain one."""


def stand_in_options(options: Mapping[str, object], noise: NoiseSampler) -> dict[str, object]:
    """A sampler's options with ``noise`` for a noise sampler, which must draw from no generator.

    Raises:
        UsedUp: an option may have a state of its own, such as an object or a function that holds one.
    """
    return {
        name: noise if name == "noise_sampler" and value is not None else _stand_in(value, noise)
        for name, value in options.items()
    }


def check_stateless(function: object) -> None:
    """UsedUp unless a call of ``function`` leaves nothing changed in what it holds."""
    if not _is_stateless(function, set()):
        raise UsedUp(f"{function!r} may hold a state")


def _stand_in(value: object, noise: NoiseSampler) -> object:
    kind = type(value)
    if kind in (list, tuple, set, frozenset):
        return kind(_stand_in(item, noise) for item in value)
    if kind is dict:
        return {key: _stand_in(item, noise) for key, item in value.items()}
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if kind is comfy.samplers.KSAMPLER:  # one that another sampler is put around
        check_stateless(value.sampler_function)
        return kind(value.sampler_function, stand_in_options(value.extra_options, noise), value.inpaint_options)
    check_stateless(value)
    return value


def _is_stateless(value: object, seen: set[int]) -> bool:
    if isinstance(value, STATELESS) or id(value) in seen:
        return True
    seen.add(id(value))
    if type(value) in (tuple, frozenset):
        held = value
    elif type(value) is comfy.samplers.KSAMPLER:
        held = (value.sampler_function, *value.extra_options.values())
    elif type(value) is FunctionType:
        cells = tuple(cell.cell_contents for cell in value.__closure__ or ())
        held = (*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
    elif type(value) is MethodType:
        held = value.__self__, value.__func__
    elif type(value) is partial:
        held = value.func, *value.args, *value.keywords.values()
    else:
        return False
    return all(_is_stateless(item, seen) for item in held)


class Generators:
    """The state of what is drawn from by default: Python, NumPy, the CPU, and every device of the type of ``device``.

    The state of a device's generator is kept by the host, so this waits for no device.
    """

    def __init__(self, device: torch.device) -> None:
        self._python, self._numpy = random.getstate(), np.random.get_state()
        self._cpu = torch.get_rng_state()
        self._metal = torch.mps.get_rng_state() if device.type == "mps" else None
        self._module = getattr(torch, device.type) if device.type in ("cuda", "xpu") else None
        self._devices = self._module.get_rng_state_all() if self._module is not None else []

    def restore(self) -> None:
        """Put the states back."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._cpu)
        if self._metal is not None:
            torch.mps.set_rng_state(self._metal)
        if self._module is not None:
            self._module.set_rng_state_all(self._devices)


@contextmanager
def restored_generators(device: torch.device) -> Iterator[None]:
    """Restore the default generators at the end."""
    generators = Generators(device)
    try:
        yield
    finally:
        generators.restore()
