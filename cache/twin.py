"""Twins of modules: the same weights and children behind another object, which one call may walk differently."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch


def twin(
    module: torch.nn.Module, children: Mapping[str, Callable] | None = None, cls: type | None = None
) -> torch.nn.Module:
    """A module that is ``module`` in all but its identity, what is given here, and hooks registered on it later.

    Args:
        children: stand-ins for submodules, by their names, which may be dotted.
        cls: the class of the twin, that of ``module`` if None.
    """
    copy = object.__new__(cls or type(module))
    copy.__dict__.update(module.__dict__)
    for hooks in ("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks"):
        copy.__dict__[hooks] = OrderedDict(module.__dict__[hooks])
    copy.__dict__["_modules"] = modules = dict(module._modules)
    deeper: dict[str, dict[str, Callable]] = {}
    for name, child in (children or {}).items():
        first, _, rest = name.partition(".")
        if rest:
            deeper.setdefault(first, {})[rest] = child
        else:
            modules[first] = child
    for first, grandchildren in deeper.items():
        modules[first] = twin(modules[first], grandchildren)
    return copy


def list_twin(blocks: torch.nn.ModuleList, modules: Mapping[str, Callable]) -> torch.nn.ModuleList:
    """A twin of the list ``blocks`` that holds ``modules`` instead of its own."""
    copy = twin(blocks)
    copy.__dict__["_modules"] = dict(modules)
    return copy
