"""Calibration: what reused steps cost a model, and which steps to compute because of it."""

from .graph import METRICS, MODES, ErrorGraph
from .sample import Sample
from .segments import GraphError, all_segments
from .solver import OBJECTIVES, Constraints, Edge, InfeasibleError, Path, SolverError, solve, sweep

__all__ = [
    "METRICS",
    "MODES",
    "OBJECTIVES",
    "Constraints",
    "Edge",
    "ErrorGraph",
    "GraphError",
    "InfeasibleError",
    "Path",
    "Sample",
    "SolverError",
    "all_segments",
    "solve",
    "sweep",
]
