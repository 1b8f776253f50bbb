"""A node pack for the tests: a model that goes wrong in one worker, the first one that asks."""

from __future__ import annotations

import time
from pathlib import Path

import comfy.patcher_extension
import torch


class LeMiCaTestFault:
    """Passes a model on; in the worker that makes the file ``token``, with a fault."""

    CATEGORY, FUNCTION, RETURN_TYPES = "tests", "apply", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"model": ("MODEL",), "fault": (["slow", "load", "memory"],), "token": ("STRING", {})}}

    def apply(self, model, fault: str, token: str) -> tuple:
        try:
            Path(token).touch(exist_ok=False)
        except FileExistsError:
            return (model,)
        if fault == "load":
            raise RuntimeError("the header of the checkpoint is broken")
        model, calls = model.clone(), []

        def wrapped(executor, *args, **kwargs):
            begin = time.perf_counter()
            result = executor(*args, **kwargs)
            calls.append(1)
            if fault == "slow":
                time.sleep(9 * (time.perf_counter() - begin))
            elif len(calls) == 20:
                raise torch.OutOfMemoryError("Allocation on device")
            return result

        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "fault", wrapped)
        return (model,)


NODE_CLASS_MAPPINGS = {"LeMiCaTestFault": LeMiCaTestFault}
