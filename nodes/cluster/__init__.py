"""The part of the calibrate nodes that measures on Ray. It comes with a checkout of the repository, not with the archive."""

from .addresses import ray_inputs
from .crew import on_ray

__all__ = ["on_ray", "ray_inputs"]
