"""The sigmas that a sampler will get, before it runs: from the nodes that settle them, by ComfyUI's own code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import comfy.model_patcher
import comfy.samplers
import comfy.supported_models
import torch
from comfy_api.latest import io

import nodes

from ..schedules import Family
from ..schedules.schedule import MAX_STEPS, is_count
from .library import calibrations
from .route_answer import RequestError, short

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

MODEL_NODES = frozenset({
    "ModelSamplingSD3", "ModelSamplingAuraFlow", "ModelSamplingFlux", "ModelSamplingDiscrete",
    "ModelSamplingContinuousEDM", "ModelSamplingContinuousV", "ModelSamplingStableCascade", "ModelSamplingLTXV",
    "ModelNoiseScale", "MiniMaxH3SigmaShift",
})
"""Nodes that set a model's sampling and do nothing else that a run without weights could notice."""

SIGMA_NODES = frozenset({
    "BasicScheduler", "KarrasScheduler", "ExponentialScheduler", "PolyexponentialScheduler", "LaplaceScheduler",
    "VPScheduler", "BetaSamplingScheduler", "SDTurboScheduler", "AlignYourStepsScheduler", "GITSScheduler",
    "OptimalStepsScheduler", "Flux2Scheduler", "Ideogram4Scheduler", "LTXVScheduler", "SplitSigmas",
    "SplitSigmasDenoise", "FlipSigmas", "SetFirstSigma", "ExtendIntermediateSigmas",
})
"""Nodes that give the sigmas of custom sampling, or change them."""

SAMPLERS = frozenset({"KSampler", "KSamplerAdvanced"})

MOST_NODES = 32
LINKED = frozenset({"model", "sigmas"})
KSAMPLER_INPUTS = frozenset({
    "steps", "sampler_name", "scheduler", "denoise", "start_at_step", "end_at_step", "return_with_leftover_noise",
})
"""The inputs of the KSampler nodes that their sigmas depend on."""

EMPTY: Mapping[str, Any] = {}
CPU = torch.device("cpu")

Sigmas = tuple[float, ...]


class UnknownSigmasError(Exception):
    """What the sampler will get is known when it starts."""


@dataclass(frozen=True, slots=True)
class NodeSetting:
    """A node with the values of its inputs, None for one that is not known; ``output`` is what the next node takes."""

    type: str
    inputs: Mapping[str, object]
    output: int = 0

    @classmethod
    def from_json(cls, data: object) -> NodeSetting:
        """RequestError unless the data are such a node."""
        if not isinstance(data, dict) or not isinstance(data.get("type"), str) or not isinstance(data.get("inputs"), dict):
            raise RequestError(f"A node of sampling is {short(data)}: give an object with type and inputs.")
        if not all(value is None or isinstance(value, bool | int | float | str) for value in data["inputs"].values()):
            raise RequestError("The inputs of a node of sampling hold lists or objects: give plain values.")
        output = data.get("output", 0)
        if not is_count(output):
            raise RequestError(f"output of a node of sampling is {short(output)}: give a whole number.")
        return cls(data["type"], data["inputs"], output)


@dataclass(frozen=True, slots=True)
class Sampling:
    """What settles the sigmas of a run.

    ``model``: the nodes that set the model's sampling, from the loader on. ``sigmas``: the sampler, or the scheduler of
    custom sampling and the nodes that change what it gives; none where that is not known.
    """

    model: tuple[NodeSetting, ...] = ()
    sigmas: tuple[NodeSetting, ...] = ()

    @classmethod
    def from_json(cls, data: object) -> Sampling:
        """RequestError unless the data are an object with two lists of nodes."""
        if not isinstance(data, dict):
            raise RequestError(f"sampling is {short(data)}: give an object with the lists model and sigmas.")
        for key in ("model", "sigmas"):
            if not isinstance(data.get(key), list) or len(data[key]) > MOST_NODES:
                raise RequestError(f"{key} of sampling is {short(data.get(key))}: give a list of up to {MOST_NODES} nodes.")
        return cls(*(tuple(map(NodeSetting.from_json, data[key])) for key in ("model", "sigmas")))


def expected_sigmas(family: Family, sampling: Sampling) -> Sigmas | None:
    """The N+1 sigmas that a sampler gets for a model of this family, as a run has them; None where that is not known.

    Nothing is known where a node on the way is not one of those above, where one lacks a value or has one that its input
    does not take, where the family's own sampling is needed and not known, and for runs of no step or too many.
    """
    chains = ([asdict(node) for node in chain] for chain in (sampling.model, sampling.sigmas))
    return _sigmas(json.dumps([_config(family), *chains], sort_keys=True))


@lru_cache(maxsize=64)
def _sigmas(known: str) -> Sigmas | None:
    config, *chains = json.loads(known)
    model_nodes, sigma_nodes = ([NodeSetting(**node) for node in chain] for chain in chains)
    try:
        return tuple(_run_all(config, model_nodes, sigma_nodes).tolist())
    except UnknownSigmasError:
        return None


def _run_all(
    config: Mapping[str, object], model_nodes: list[NodeSetting], sigma_nodes: list[NodeSetting]
) -> torch.Tensor:
    model, sigmas = None, torch.zeros(0)
    for node in sigma_nodes:
        inputs = _inputs_of(node, SIGMA_NODES | SAMPLERS)
        if model is None and "model" in _kinds(node.type):
            model = _sampled(_model(config), model_nodes)
        if node.type in SAMPLERS:
            sigmas = _sampler_sigmas(model, **inputs)
        else:
            sigmas = _run(node, inputs, {"model": model, "sigmas": sigmas})
        if not 2 <= len(sigmas) <= MAX_STEPS + 1:
            raise UnknownSigmasError
    if not sigma_nodes:
        raise UnknownSigmasError
    return sigmas


def _config(family: Family) -> dict[str, object]:
    """An example of a config that the family matches, or that of a model of it that was calibrated."""
    own = next((graph.model.config for _, graph in calibrations().of_family(family.key)), {})
    wanted = ((key, _example(value)) for key, value in (family.config or own).items())
    return {key: value for key, value in wanted if value is not None}


def _example(wanted: object) -> object:
    if isinstance(wanted, list):
        return _example(wanted[0])
    return wanted["min"] if isinstance(wanted, Mapping) else wanted


def _model(config: Mapping[str, object]) -> ModelPatcher:
    """A model of this config that has no network, with the sampling that ComfyUI gives it."""
    found = next((kind for kind in comfy.supported_models.models if config and kind.matches(config)), None)
    if found is None:
        raise UnknownSigmasError
    try:
        base = found({**config, "disable_unet_model_creation": True}).get_model({}, "")
    except (KeyError, RuntimeError):  # a kind that takes more from its file than the network
        raise UnknownSigmasError from None
    return comfy.model_patcher.ModelPatcher(base, load_device=CPU, offload_device=CPU)


def _sampled(model: ModelPatcher, model_nodes: list[NodeSetting]) -> ModelPatcher:
    for node in model_nodes:
        model = _run(node, _inputs_of(node, MODEL_NODES), {"model": model})
    return model


def _run(node: NodeSetting, inputs: Mapping[str, object], given: Mapping[str, object]) -> Any:
    """What a node puts out, from its own code."""
    kind = nodes.NODE_CLASS_MAPPINGS[node.type]
    taken = {name: value for name, value in given.items() if name in _kinds(node.type)}
    if not 0 <= node.output < len(kind.RETURN_TYPES):
        raise UnknownSigmasError
    work = kind.execute if issubclass(kind, io.ComfyNode) else getattr(kind(), kind.FUNCTION)
    try:
        return work(**taken, **inputs)[node.output]
    except (ArithmeticError, ValueError, LookupError, AttributeError):  # as in the run: a sigma of 0, a model of another kind
        raise UnknownSigmasError from None


def _sampler_sigmas(
    model: ModelPatcher, steps: int, sampler_name: str, scheduler: str, denoise: float = 1.0,
    start_at_step: int = 0, end_at_step: int = MAX_STEPS, return_with_leftover_noise: str = "enable",
) -> torch.Tensor:
    """What the KSampler nodes sample, as comfy.samplers.KSampler cuts it out of the sigmas that it computes."""
    sigmas = comfy.samplers.KSampler(model, steps, CPU, sampler_name, scheduler, denoise).sigmas
    if end_at_step < len(sigmas) - 1:
        sigmas = sigmas[: end_at_step + 1]
        if return_with_leftover_noise == "disable":
            sigmas[-1] = 0
    return sigmas[start_at_step:] if start_at_step < len(sigmas) - 1 else sigmas[:0]


def _kinds(kind: str) -> dict[str, tuple]:
    """The inputs that a node declares, by name: their type, or what there is to choose from, and their options."""
    declared = nodes.NODE_CLASS_MAPPINGS[kind].INPUT_TYPES()
    return {**declared.get("required", {}), **declared.get("optional", {})}


def _inputs_of(node: NodeSetting, allowed: frozenset[str]) -> dict[str, object]:
    """The values of a node's inputs; UnknownSigmasError unless it may be run, and with these."""
    if node.type not in allowed or node.type not in nodes.NODE_CLASS_MAPPINGS:
        raise UnknownSigmasError
    kinds = _kinds(node.type)
    required = nodes.NODE_CLASS_MAPPINGS[node.type].INPUT_TYPES()["required"].keys() - LINKED
    if node.type in SAMPLERS:
        required &= KSAMPLER_INPUTS
    fits = required <= node.inputs.keys() <= kinds.keys() and all(
        _fits(value, *kinds[name]) for name, value in node.inputs.items()
    )
    if not fits or node.inputs.get("steps", 0) > MAX_STEPS * node.inputs.get("denoise", 1):
        raise UnknownSigmasError
    return dict(node.inputs)


def _fits(value: object, kind: object, options: Mapping[str, Any] = EMPTY) -> bool:
    """Whether an input of this kind takes the value."""
    choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
    if choices is not None:
        return isinstance(value, str) and value in choices
    if kind == "BOOLEAN":
        return isinstance(value, bool)
    number = is_count(value) or kind == "FLOAT" and isinstance(value, float)
    return kind in ("INT", "FLOAT") and number and options["min"] <= value <= options["max"]
