"""ComfyUI-LeMiCa: diffusion sampling with fewer model calls, by schedules measured in advance."""

from .nodes import comfy_entrypoint

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
