"""The residual of a transformer's block stack: skip the blocks, add what they added at the last computed step.

The published LeMiCa schedules were made for this reuse: embedders and head run with the present latent and sigma, the
blocks between them do not. A call that takes part runs the model's own forward on a twin of the model: one whose first
block and head are watched or, in a reused step, whose lists of blocks are empty and whose head gets the residual added
to its tokens. No forward is copied, nothing stays on the model, and weights, patches and offloading work on the very
modules that they always do.
"""

from __future__ import annotations

import inspect
from operator import attrgetter
from typing import TYPE_CHECKING

import torch

from .calls import BlockCall
from .families import FAMILIES, StackFamily
from .host import blocks_amiss

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

CALL_KEY = "lemica_block_call"
"""Where a model call's transformer options carry its BlockCall."""


def _twinned(plain: type[torch.nn.Module]) -> type[torch.nn.Module]:
    """The class ``plain`` of a diffusion model, but a call that brings a BlockCall runs on that call's twin."""

    class Twinned(plain):
        plain_class = plain

        def forward(self, *args, **kwargs) -> torch.Tensor:
            call: BlockCall | None = (kwargs.get("transformer_options") or {}).get(CALL_KEY)
            return plain.forward(self if call is None else call.twin_of(self, plain), *args, **kwargs)

    Twinned.__name__, Twinned.__qualname__, Twinned.__module__ = plain.__name__, plain.__qualname__, plain.__module__
    return Twinned


def _plain_class(model: torch.nn.Module) -> type[torch.nn.Module]:
    return getattr(type(model), "plain_class", type(model))


def look_up(model: ModelPatcher) -> tuple[StackFamily | None, str]:
    """The entry for the loaded diffusion model and, where there is one that cannot be used, why not."""
    diffusion_model = model.get_model_object("diffusion_model")
    family = FAMILIES.get(_plain_class(diffusion_model).__name__)
    if family is None:
        return None, ""
    if amiss := _misfit(diffusion_model, family):
        return None, f"this model is not the one that is known: {amiss}"
    if amiss := blocks_amiss():
        return None, f"this ComfyUI is not one that is known: {amiss}"
    return family, ""


def _misfit(diffusion_model: torch.nn.Module, family: StackFamily) -> str:
    blocks: list[torch.nn.Module] = []
    for name in (*family.lists, *family.heads):
        try:
            module = attrgetter(name)(diffusion_model)
        except AttributeError:
            return f"it has no {name}"
        if name in family.lists:
            if type(module) is not torch.nn.ModuleList:
                return f"its {name} are no plain list of blocks"
            blocks.extend(module)
        elif not isinstance(module, torch.nn.Module):
            return f"its {name} is no module"
    if not blocks:
        return "it has no blocks"
    method = getattr(blocks[0], family.method, None)
    if method is None:
        return f"its blocks have no {family.method}"
    parameters = inspect.signature(method).parameters.values()
    if isinstance(family.tokens, str) and family.tokens not in [parameter.name for parameter in parameters]:
        return f"its blocks take no {family.tokens}"
    return ""


def stack_family(model: ModelPatcher) -> StackFamily | None:
    """The entry for the loaded diffusion model, or None where only output rules apply."""
    return look_up(model)[0]


def patch_stack(model: ModelPatcher) -> None:
    """Let the calls of a cloned patcher's model run on twins.

    The patch is no more than a class for the model, so it holds no weights, applies to copies on other devices, and
    leaves with the patcher.
    """
    plain = _plain_class(model.get_model_object("diffusion_model"))
    model.add_object_patch("diffusion_model.__class__", _twinned(plain))
