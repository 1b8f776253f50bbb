"""The LeMiCa Solve node: a schedule from an error graph, without running the model."""

from __future__ import annotations

import hashlib

from comfy_api.latest import io, ui

from ..calibration import Constraints, GraphError, Path, solve, sweep
from ..calibration.draw import number
from ..calibration.measured import Figures, figures_of
from ..calibration.picture import combined
from ..schedules import FIXED, PRESETS, find_family, preset_budget
from ..schedules.select import SCOPES
from .calibration_summary import SWEEPS, rules_of
from .library import LINKED, calibrations, changing, check_not_reserved, library
from .types import Calibrated, ErrorGraphType, ScheduleType, as_image

CUSTOM = "custom"
BEST = "best per segment"
RULES = [str(rule) for rule in FIXED]


class LeMiCaSolve(io.ComfyNode):
    """Finds the best path of a budget in an error graph."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LeMiCaSolve",
            display_name="LeMiCa Solve",
            category="model/patch/LeMiCa",
            description=(
                "Makes a schedule for any budget from a calibration, in a moment and without the model: the path whose "
                "largest errors are smallest."
            ),
            search_aliases=["schedule", "minimax", "shortest path", "budget"],
            is_output_node=True,
            inputs=[
                ErrorGraphType.Input(
                    "error_graph", optional=True, tooltip="A calibration; without one, the one chosen below is solved."
                ),
                io.Combo.Input(
                    "calibration", options=[LINKED, *calibrations().names()], default=LINKED,
                    tooltip="A saved calibration, used when nothing is connected.",
                ),
                io.Combo.Input(
                    "preset", options=[*PRESETS, CUSTOM], default="medium",
                    tooltip="How many steps compute, by the model's presets.",
                ),
                io.Int.Input(
                    "budget", default=15, min=1, max=10000,
                    tooltip="How many steps compute, when the preset is custom.",
                ),
                io.Combo.Input(
                    "objective", options=list(SWEEPS), default="minimax",
                    tooltip="What is to be small: the largest errors, one after the other, or the sum of all.",
                ),
                io.Combo.Input(
                    "rules", options=[BEST, *RULES], default=BEST,
                    tooltip="How reused steps get their value: what is best for each segment, or one rule for all.",
                ),
                io.Boolean.Input(
                    "compute_last", default=False, tooltip="Compute the last step whatever it costs, as published lists do."
                ),
                io.String.Input(
                    "name", default="",
                    tooltip="What to call the schedule; empty takes calibration, budget and choices.",
                ),
                io.Boolean.Input("save", default=True, tooltip="Save the schedule, so that the LeMiCa node finds it."),
            ],
            outputs=[
                ScheduleType.Output(display_name="schedule", tooltip="The schedule of this budget."),
                io.Image.Output(display_name="picture", tooltip="The error graph with the path, and what budgets cost."),
                io.String.Output(display_name="text", tooltip="The path in words."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: object) -> str:
        """Changes when a calibration is made again under its name."""
        return hashlib.sha256(repr(calibrations().stamps()).encode()).hexdigest()

    @classmethod
    def execute(
        cls, calibration: str, preset: str, budget: int, objective: str, rules: str, compute_last: bool, name: str,
        save: bool, error_graph: Calibrated | None = None,
    ) -> io.NodeOutput:
        calibrated = error_graph or chosen(calibration)
        graph = calibrated.graph
        if preset != CUSTOM:
            budget = preset_budget(find_family(graph.model, library().families()), preset, graph.steps)
        edges = [edge for edge in graph.edges() if rules in (BEST, str(edge.rule))]
        if rules != BEST and not edges:
            measured = ", ".join(map(str, graph.rules))
            raise GraphError(f"The calibration {calibrated.name} has not measured {rules}: choose one of {measured}.")
        constraints = Constraints(tail=not compute_last)
        path = solve(edges, graph.steps, budget, constraints, objective=SWEEPS[objective])
        about = [objective, *[rules] * (rules != BEST), *["last step computed"] * compute_last]
        source = {**graph.provenance(calibrated.name), "objective": objective, "scope": SCOPES[0]}
        name = name.strip() or f"{calibrated.name}/{graph.steps}b{budget} {', '.join(about)}"
        schedule = path.to_schedule(name, graph.family, graph.sigmas, source)
        measured = figures_of(path, calibrated.name, graph, library().own(graph.family), calibrations().root)
        text = in_words(calibrated, path, about, measured)
        if save:
            check_not_reserved(name)
            with changing():
                file = library().save(schedule)
            text += f"\n\nSaved as {name} in {file}."
        sweeps = {
            label: sweep(edges, graph.steps, constraints, objective=kind) for label, kind in SWEEPS.items()
        }
        picture = as_image(combined(graph, [path], sweeps))
        shown = ui.PreviewImage(picture, cls=cls).as_dict() | {"text": (text,)}
        return io.NodeOutput(schedule, picture, text, ui=shown)


def chosen(name: str) -> Calibrated:
    """The saved calibration of this name.

    Raises:
        GraphError: nothing is chosen, or there is none of this name.
    """
    if name == LINKED:
        raise GraphError("There is nothing to solve: connect an error graph, or choose a calibration.")
    return Calibrated(name, calibrations().get(name))


def in_words(calibrated: Calibrated, path: Path, about: list[str], measured: Figures | None) -> str:
    """The path as lines of Markdown: what computes, what is predicted, what was measured."""
    told = "It was not measured as a whole."
    if measured is not None:
        figures = f"mean {number(measured.mean)}, worst {number(measured.worst)}"
        of = f"of another path of this budget, {measured.other}" if measured.other else "of the whole run"
        told = f"Measured error {of}: {figures}."
    return (
        f"**{calibrated.name}**: {path.budget} of {path.steps} steps computed, {', '.join(about)}\n\n"
        f"Computed: {' '.join(map(str, path.computed))}. Rules: {rules_of(path)}. \n\n"
        f"Predicted {calibrated.graph.metric} error of a segment: worst {number(path.worst)}, {number(path.total)} in all. "
        f"{told}"
    )
