"""The crew of a calibrate node: what its workers are told, and where they find ComfyUI."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial

import comfy.cli_args
import comfy.model_management
import folder_paths
from comfy_api.latest import io

from ...calibration.cluster import crew
from ...calibration.cluster.crew_job import CrewJob
from ...calibration.sampling import Sampling
from ...calibration.settings import Settings
from .addresses import check_address
from .upstream import facts_of, upstream


def on_ray(
    node: type[io.ComfyNode], samplings: Sequence[Sampling], settings: Settings, address: str, workers: int,
    on_preview: Callable[[bytes], None],
) -> Callable[..., CrewJob]:
    """What makes the job of a node whose runs a crew makes; its workers run the part of the prompt that leads up to it.

    Raises:
        JobError: the owner of the server has not listed the address.
    """
    check_address(address)
    node_id = node.hidden.unique_id
    prompt = upstream(node.hidden.dynprompt, node_id)
    for name in ("ray", "workers"):  # a worker measures on its own machine, whose owner may have listed other addresses
        prompt[node_id]["inputs"].pop(name, None)
    # The worker on this machine needs the memory that text encoders and the model have here.
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()
    calibration = {
        "prompt": prompt, "node": node_id, "class_type": prompt[node_id]["class_type"], "facts": facts_of(prompt),
        "rules": [] if settings.fits else [str(rule) for rule in settings.rules], "metric": settings.metric,
        "longest": settings.longest,
        "seeds": [sampling.sample.seed for sampling in samplings], "sigmas": list(samplings[0].sigmas),
        "preview": comfy.cli_args.args.preview_method.value,
    }
    home = {
        "path": os.path.dirname(os.path.abspath(folder_paths.__file__)), "arguments": sys.argv[1:],
        "host": platform.node(),
    }
    hired = crew.Crew(
        crew.Order(address, workers, sys.executable, home, calibration),
        check=comfy.model_management.throw_exception_if_processing_interrupted, on_preview=on_preview,
    )
    return partial(CrewJob, crew=hired)
