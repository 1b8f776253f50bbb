"""Who a loaded model is, in the words that schedules are matched by."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from ..schedules import ModelIdentity

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def identify(model: ModelPatcher) -> ModelIdentity:
    """The model's class, its diffusion model's class, the plain entries of its config and the file it came from."""
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
    )


def _source_file(model: ModelPatcher) -> str | None:
    """The name of the file that a core loader read the patcher from."""
    init = getattr(model, "cached_patcher_init", None)  # ComfyUI's own, to load the model once more
    if init is None:
        return None
    paths = (argument for argument in init[1] if isinstance(argument, str))
    return next((PurePath(path).name for path in paths), None)
