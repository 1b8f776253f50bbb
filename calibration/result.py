"""What a calibration comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..schedules import DENOISED, Schedule
from .graph import ErrorGraph
from .outcome import Outcome


@dataclass(frozen=True, slots=True)
class Result:
    """The error graph, per budget the outcome of its best route, and how many steps were computed for them this time.

    ``metric``: what the errors of the outcomes are; those of the graph have a metric of their own. ``noise``: whether the
    sampler draws noise, which weights have to be fitted with.
    """

    graph: ErrorGraph
    outcomes: Mapping[int, Outcome]
    computed: int
    metric: str
    noise: bool = False

    def schedules(self, name: str) -> list[Schedule]:
        """The schedules that were measured best, one a budget, named ``name/NbB``."""
        graph = self.graph
        return [
            Schedule(
                name=f"{name}/{graph.steps}b{budget}",
                family=graph.family,
                steps=graph.steps,
                computed=outcome.route.computed,
                rules=outcome.route.rules,
                weights=outcome.route.weights,
                origin="calibrated",
                sigmas=graph.sigmas,
                source={
                    **graph.provenance(name), "metric": self.metric, "path": outcome.route.found,
                    "measured": outcome.figures, **({"carries": DENOISED} if self.noise and outcome.route.weights else {}),
                },
            )
            for budget, outcome in sorted(self.outcomes.items(), reverse=True)
        ]
