"""The points of ComfyUI that the pack hooks into, and whether they are what it knows. Nothing of it runs at import."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from comfy.model_patcher import ModelPatcher


class HostError(RuntimeError):
    """This ComfyUI is not what the pack knows; the message names the point."""


@dataclass(frozen=True, slots=True)
class Point:
    """One name of ComfyUI.

    Args:
        module: that defines it.
        name: within the module; may be dotted.
        wrapped: the parameters, without ``self``, that a function begins with around which the pack puts a wrapper. It
            passes on whatever comes after them.
        called: how many arguments the pack calls a function with.
    """

    module: str
    name: str
    wrapped: tuple[str, ...] = ()
    called: int | None = None

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    def amiss(self) -> str:
        """What is not as the pack knows it; empty if nothing is."""
        try:
            found = attrgetter(self.name)(sys.modules[self.module])  # what makes and samples a model is loaded
        except (AttributeError, KeyError):
            return f"{self} is missing"
        if not self.wrapped and self.called is None:
            return ""
        try:
            signature = inspect.signature(found)
        except (TypeError, ValueError):
            return "" if callable(found) else f"{self} is no function"
        fits = _begins(signature, self.wrapped) if self.wrapped else _takes(signature, self._arguments())
        return "" if fits else f"{self} takes other parameters: {signature}"

    def _arguments(self) -> int:
        return self.called + ("." in self.name)  # and self


def _begins(signature: inspect.Signature, names: tuple[str, ...]) -> bool:
    places = _places(signature)
    found = tuple(p.name for p in places if p.name != "self")[: len(names)]
    takes_any = _takes_any(signature)  # another pack's wrapper
    return found == (names[: len(found)] if takes_any else names)


def _takes(signature: inspect.Signature, arguments: int) -> bool:
    places, others = _places(signature), signature.parameters.values()
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in others):
        return False
    needed = sum(p.default is p.empty for p in places)
    return needed <= arguments and (_takes_any(signature) or arguments <= len(places))


def _places(signature: inspect.Signature) -> list[inspect.Parameter]:
    return [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _takes_any(signature: inspect.Signature) -> bool:
    return any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())


POINTS = (
    *(
        Point("comfy.patcher_extension", f"WrappersMP.{kind}")
        for kind in ("OUTER_SAMPLE", "SAMPLER_SAMPLE", "PREDICT_NOISE", "CALC_COND_BATCH", "APPLY_MODEL")
    ),
    Point("comfy.patcher_extension", "WrapperExecutor", ("original", "class_obj")),
    Point("comfy.samplers", "CFGGuider.outer_sample", ("noise", "latent_image", "sampler", "sigmas")),
    Point("comfy.samplers", "KSAMPLER.sample", ("model_wrap", "sigmas", "extra_args", "callback", "noise")),
    Point("comfy.samplers", "CFGGuider.predict_noise", ("x", "timestep", "model_options", "seed")),
    Point("comfy.samplers", "calc_cond_batch", ("model", "conds", "x_in", "timestep", "model_options")),
    Point(
        "comfy.model_base", "BaseModel.apply_model",
        ("x", "t", "c_concat", "c_crossattn", "control", "transformer_options"),
    ),
    Point("comfy.samplers", "KSAMPLER", ("sampler_function", "extra_options")),
    Point("comfy.model_patcher", "ModelPatcher.clone", called=0),
    Point("comfy.model_patcher", "ModelPatcher.get_model_object", called=1),
    Point("comfy.model_patcher", "ModelPatcher.add_wrapper_with_key", called=3),
    Point("comfy.model_patcher", "ModelPatcher.remove_wrappers_with_key", called=2),
    Point("comfy.model_management", "get_free_memory", called=1),
)
"""What output rules need; without one of them nothing can be reused."""

PARTS = ("model_options", "model.model_config.unet_config", "model.diffusion_model")
"""What a patcher has, beside its methods."""

BLOCK_POINTS = (Point("comfy.model_patcher", "ModelPatcher.add_object_patch", called=2),)
"""What residual rules need as well; without it they run on the output."""


def check(model: ModelPatcher) -> None:
    """HostError unless this ComfyUI, and the patcher ``model`` of it, have all that output rules need."""
    missing = [f"ModelPatcher.{part} is missing" for part in PARTS if not _has(model, part)]
    amiss = _all_amiss(POINTS) + missing
    if amiss:
        raise HostError(
            f"This ComfyUI is not one that LeMiCa knows: {'; '.join(amiss)}. Update LeMiCa, or report this with the "
            "version of ComfyUI."
        )


def blocks_amiss() -> str:
    """Why residual rules cannot work on this ComfyUI; empty if they can."""
    return "; ".join(_all_amiss(BLOCK_POINTS))


def _all_amiss(points: Iterable[Point]) -> list[str]:
    return [amiss for point in points if (amiss := point.amiss())]


def _has(model: ModelPatcher, part: str) -> bool:
    read: Callable[[ModelPatcher], object] = attrgetter(part)
    try:
        read(model)
    except AttributeError:
        return False
    return True
