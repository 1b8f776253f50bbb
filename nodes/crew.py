"""The crew of a calibrate node: what its workers are told, and where they find ComfyUI."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import comfy.cli_args
import comfy.model_management
import folder_paths
from comfy_api.latest import io

from ..calibration.cluster import crew
from ..calibration.sampling import Sampling
from ..calibration.settings import Settings
from .upstream import facts_of, upstream

if TYPE_CHECKING:
    from .calibration_run import Order


def hire(
    node: type[io.ComfyNode], samplings: Sequence[Sampling], settings: Settings, order: Order,
    on_preview: Callable[[bytes], None],
) -> crew.Crew:
    """The crew that measures for a node; its workers run the part of the prompt that leads up to it."""
    node_id = node.hidden.unique_id
    prompt = upstream(node.hidden.dynprompt, node_id)
    # The worker on this machine needs the memory that text encoders and the model have here.
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()
    calibration = {
        "prompt": prompt, "node": node_id, "class_type": prompt[node_id]["class_type"], "facts": facts_of(prompt),
        "rules": [str(rule) for rule in settings.rules], "metric": settings.metric, "longest": settings.longest,
        "seeds": [sampling.sample.seed for sampling in samplings], "sigmas": list(samplings[0].sigmas),
        "preview": comfy.cli_args.args.preview_method.value,
    }
    home = {
        "path": os.path.dirname(os.path.abspath(folder_paths.__file__)), "arguments": sys.argv[1:],
        "host": platform.node(),
    }
    return crew.Crew(
        crew.Order(order.ray.strip(), order.workers, sys.executable, home, calibration),
        check=comfy.model_management.throw_exception_if_processing_interrupted, on_preview=on_preview,
    )
