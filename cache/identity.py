"""Who a loaded model is, in the words that schedules are matched by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

import torch

from ..schedules import ModelIdentity

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

SAMPLED_KEYS = 16
"""Of how many patched weights values are read: a LoRA has thousands."""

SAMPLED_VALUES = 4
"""How many values are read along each axis of a tensor."""


class UnreadableError(Exception):
    """A tensor is not at hand without waiting for a device."""


def identify(model: ModelPatcher) -> ModelIdentity:
    """The model's class, its network's class, the plain entries of its config, the file it came from, and its patches."""
    base = model.model
    config = {
        key: value
        for key, value in base.model_config.unet_config.items()
        if isinstance(value, (bool, int, float, str))
    }
    return ModelIdentity(
        model_class=type(base).__name__,
        diffusion_model=type(model.get_model_object("diffusion_model")).__name__,
        config=config,
        file=_source_file(model),
        patches=patches_digest(model),
    )


def patches_digest(model: ModelPatcher) -> str | None:
    """A digest of the patches on a model's weights, the same in every process; empty without any.

    It covers which weights are patched, how strongly and by what shapes, and some values of some of them. None where
    that is not known: a tensor of those is not in main memory, for nothing waits for a GPU, or modules are replaced
    while the model runs, as by a LoRA in bypass mode.
    """
    if model.injections:
        return None
    digests = []
    for patches in filter(None, [model.patches, *model.hook_patches.values()]):
        digest = hashlib.sha256()
        keys = sorted(patches)
        sampled = set(keys[:: -(-len(keys) // SAMPLED_KEYS)])
        try:
            for key in keys:
                digest.update("\n".join((key, *_described(patches[key], key in sampled))).encode())
        except UnreadableError:
            return None
        digests.append(digest.hexdigest())
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()[:16] if digests else ""


def _described(value: object, read: bool) -> Iterator[str]:
    """A patch in words: numbers, texts, shapes, and with ``read`` some values of its tensors."""
    if isinstance(value, torch.Tensor):
        yield f"{tuple(value.shape)} {value.dtype}"
        if read:
            yield _some_values(value)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield str(key)
            yield from _described(value[key], read)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield str(len(value))
        for one in value:
            yield from _described(one, read)
    elif value is None or isinstance(value, bool | int | float | str):
        yield repr(value)
    else:
        yield type(value).__qualname__
        yield from _described(getattr(value, "weights", None), read)  # of an adapter, such as a LoRA's two matrices


def _some_values(tensor: torch.Tensor) -> str:
    if tensor.device.type != "cpu" or type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise UnreadableError
    some = tensor.detach()[tuple(slice(None, None, max(1, -(-size // SAMPLED_VALUES))) for size in tensor.shape)]
    return some.float().contiguous().numpy().tobytes().hex()


def _source_file(model: ModelPatcher) -> str | None:
    """The name of the file that a core loader read the patcher from."""
    if model.cached_patcher_init is None:
        return None
    paths = (argument for argument in model.cached_patcher_init[1] if isinstance(argument, str))
    return next((PurePath(path).name for path in paths), None)
