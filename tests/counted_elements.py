"""Counts the work of a run in elements that operations give, which needs no quiet machine."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Counting(TorchDispatchMode):
    """``elements``: of all tensors that operations gave in this context."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            self.elements += one.numel() if isinstance(one, torch.Tensor) else 0
        return found
