"""The LeMiCa node: a model that samples by a cache schedule."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from comfy_api.latest import io
from server import PromptServer

from ..cache.identity import identify
from ..cache.placement import CACHE_DEVICES
from ..cache.report import RunReport
from ..cache.wrapper import Choose, install
from ..calibration.choose import choose
from ..schedules import PRESETS, SLOPES, TARGETS, ModelIdentity, Rule, Schedule, find_family
from .library import calibrations, library

CUSTOM = "custom"
AUTO = "auto"
AS_SCHEDULED = "as scheduled"
RULES = [str(Rule(target, order)) for target in TARGETS for order in SLOPES]


def reporter(node_id: str) -> Callable[[RunReport], None]:
    """Sends the account of every run to the browser, for the node with this id."""

    def report(run: RunReport) -> None:
        PromptServer.instance.send_sync("lemica.run", {"node": node_id, **run.to_json()})

    return report


def chooser(
    identity: ModelIdentity, preset: str | None, budget: int | None, name: str | None, rule: Rule | None
) -> Choose:
    """Finds the schedule for this model once the sigmas of a run are known.

    Raises:
        ScheduleError: there is no schedule or calibration of that name.
    """
    match = find_family(identity, library().families())
    if name is not None and name not in calibrations().names():
        library().get(name)

    def chosen(sigmas: Sequence[float]) -> tuple[Schedule, str]:
        selection = choose(
            library(), calibrations(), match, sigmas, preset=preset, budget=budget, name=name, rule=rule
        )
        return selection.schedule, f"{match.note}: {selection.note}"

    return chosen


def choices() -> list[str]:
    """What the schedule input offers: auto, every calibration, every schedule."""
    return list(dict.fromkeys([AUTO, *calibrations().names(), *(s.name for s in library().schedules())]))


class LeMiCa(io.ComfyNode):
    """Patches a model with the cache; the schedule is settled when the sampler starts and its sigmas are known."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LeMiCa",
            display_name="LeMiCa",
            category="model/patch/LeMiCa",
            description=(
                "Samples faster: some steps run the model, the others reuse its cached result, by a schedule measured "
                "in advance. Put it between the model loader and the sampler."
            ),
            search_aliases=["cache", "speed up", "teacache", "easycache", "magcache"],
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with, after LoRAs and other patches."),
                io.Combo.Input(
                    "preset", options=[*PRESETS, CUSTOM], default="medium",
                    tooltip="How many steps compute: slow stays closest to the full run, ultra is fastest.",
                ),
                io.Int.Input(
                    "budget", default=15, min=1, max=10000,
                    tooltip="How many steps compute, when the preset is custom.",
                ),
                io.Combo.Input(
                    "schedule", options=choices(), default=AUTO, advanced=True,
                    tooltip="Auto finds the schedule for the loaded model; or choose a schedule or calibration by name.",
                ),
                io.Combo.Input(
                    "rule", options=[AS_SCHEDULED, *RULES], default=AS_SCHEDULED, advanced=True,
                    tooltip="How a reused step gets its value: from the model's output or its transformer blocks, "
                    "held, or following the last two computed steps.",
                ),
                io.Combo.Input(
                    "cache_device", options=list(CACHE_DEVICES), default="auto", advanced=True,
                    tooltip="Where cached tensors are kept; auto leaves the GPU when its memory runs short.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model with the cache.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: object) -> str:
        """Changes when the library does, so that a new calibration is used from the next run on."""
        schedules = [str(schedule.to_json()) for schedule in library().own()]
        graphs = [f"{name} {graph.errors.tobytes()!r}" for name, graph in calibrations().all()]
        return hashlib.sha256("\n".join([*schedules, *graphs]).encode()).hexdigest()

    @classmethod
    def execute(
        cls, model, preset: str, budget: int, schedule: str, rule: str, cache_device: str
    ) -> io.NodeOutput:
        choose = chooser(
            identity=identify(model),
            preset=None if preset == CUSTOM else preset,
            budget=budget if preset == CUSTOM else None,
            name=None if schedule == AUTO else schedule,
            rule=None if rule == AS_SCHEDULED else Rule.parse(rule),
        )
        return io.NodeOutput(install(model, choose, cache_device, reporter(cls.hidden.unique_id)))
