"""The nodes of the pack, for ComfyUI's V3 node API."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io
from server import PromptServer

from .apply import LeMiCa
from .calibrate import LeMiCaCalibrate, LeMiCaCalibrateCustom
from .demo import LeMiCaDemoModel
from .report import LeMiCaReport
from .routes import register
from .solve import LeMiCaSolve


class LeMiCaExtension(ComfyExtension):
    async def on_load(self) -> None:
        register(PromptServer.instance.routes)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LeMiCa, LeMiCaCalibrate, LeMiCaCalibrateCustom, LeMiCaSolve, LeMiCaDemoModel, LeMiCaReport]


async def comfy_entrypoint() -> LeMiCaExtension:
    """ComfyUI's entry point into the pack."""
    return LeMiCaExtension()
