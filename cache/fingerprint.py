"""Fingerprints of what an evaluation of the model is given: equal at every step, different wherever it shows."""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum
from functools import partial
from types import FunctionType, MethodType
from uuid import UUID

import numpy as np
import torch
from comfy.conds import CONDRegular
from comfy.context_windows import IndexListContextWindow

KEY = "lemica"
"""Key of this pack's wrappers, and of the SamplingRun in a run's transformer options."""

LEFT_OUT = frozenset({
    KEY, "to_load_options", "sigmas", "sample_sigmas", "uuids", "cond_or_uncond", "multigpu_thread_device",
})
"""Keys of this pack's, and of ComfyUI's for the step, for the device, and for the conds that share an evaluation."""

PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, UUID, torch.dtype, torch.device})

DEEPEST = 16
"""Containers that lie deeper, as in one that holds itself, go by their type."""


def fingerprint(value: object, depth: int = 0) -> Hashable:
    """What can be told of ``value`` without asking its device: plain values as they are, tensors by shape and dtype.

    Nodes build functions and objects anew for every step, so functions go by their code and objects by their type.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if depth > DEEPEST:
        return kind
    depth += 1
    if isinstance(value, dict):
        return frozenset(
            (fingerprint(key, depth), fingerprint(item, depth)) for key, item in value.items() if key not in LEFT_OUT
        )
    if isinstance(value, (list, tuple)):
        return tuple([fingerprint(item, depth) for item in value])
    if isinstance(value, torch.Tensor):
        return torch.Tensor, value.shape, value.dtype
    if kind is FunctionType:
        return value.__code__
    if kind is MethodType:
        return type(value.__self__), fingerprint(value.__func__, depth)
    if isinstance(value, partial):
        return partial, fingerprint((value.func, value.args, value.keywords), depth)
    if isinstance(value, CONDRegular):
        return kind, fingerprint(value.cond, depth)
    if isinstance(value, IndexListContextWindow):
        return kind, tuple(value.index_list)
    if isinstance(value, (set, frozenset)):
        return frozenset([fingerprint(item, depth) for item in value])
    if isinstance(value, (int, float, str, bytes, np.generic, Enum)):
        return value
    return kind
