"""Which family a loaded model belongs to, by its class and its config; the rules are data in ``library/``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .schedule import ScheduleError, check_name, check_schema, is_count

PRESETS = ("slow", "medium", "fast", "ultra")

_FIELDS = ("kind", "schema", "key", "title", "order", "match", "files", "defaults", "presets", "steps", "budgets")
_OPTIONAL = ("rule", "sources", "note", "schedules")
_SIZES = ("dim", "hidden_size", "model_type", "num_layers", "depth", "depth_single_blocks", "in_dim", "in_channels")
_MATCH_FIELDS = ("model_class", "diffusion_model", "config")


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Who a loaded model is.

    ``model_class``: the class name in comfy.model_base, like ``WAN21``. ``diffusion_model``: the network's class
    name, like ``WanModel``. ``config``: the scalar entries of its unet_config. ``file``: the name of the file that it
    was loaded from, or None; between families it only breaks ties. ``patches``: a digest of the LoRAs and other patches
    on its weights, empty without any, None where that is not known.
    """

    model_class: str
    diffusion_model: str
    config: Mapping[str, object] = field(default_factory=dict, hash=False)
    file: str | None = None
    patches: str | None = ""

    @property
    def key(self) -> str:
        """A stable family key for a model of no known family: its class and a digest of its whole-number config."""
        fixed = {name: value for name, value in self.config.items() if is_count(value) or isinstance(value, str)}
        shape = sorted(f"{name}={value}" for name, value in fixed.items())
        digest = hashlib.sha256("\n".join((self.diffusion_model, *shape)).encode()).hexdigest()
        return f"{self.model_class.lower()}-{digest[:8]}"

    def describe(self) -> str:
        """The class and the sizes that tell models apart, for a person to read."""
        sizes = [f"{name} {self.config[name]}" for name in _SIZES if name in self.config]
        return f"{self.model_class}: {', '.join(sizes)}" if sizes else self.model_class


ANY_MODEL = ModelIdentity("any", "any")
"""Stands for the model of a run that has not begun: nothing is known of it."""


@dataclass(frozen=True, slots=True)
class Family:
    """Models that share schedules.

    ``model_class``, ``diffusion_model``, ``config``: what an identity has to show; see ``matches``. ``files``:
    patterns (regular expressions, any case) that a file name contains; they only decide between families that match
    alike, which are asked by increasing ``order``. ``defaults``: settings that the lists were made with; a number
    under ``flow_shift`` gives their nominal sigmas. ``presets``: budget by preset name, of ``steps`` steps.
    ``budgets``: published budgets that have no list.
    """

    key: str
    title: str
    order: int
    model_class: tuple[str, ...]
    diffusion_model: tuple[str, ...]
    config: Mapping[str, object] = field(hash=False)
    files: tuple[str, ...]
    defaults: Mapping[str, object] = field(hash=False)
    presets: Mapping[str, int] = field(hash=False)
    steps: int | None
    budgets: Mapping[str, int] = field(hash=False)
    sources: tuple[object, ...] = field(default=(), hash=False)
    note: str = ""

    @classmethod
    def from_json(cls, data: object) -> Family:
        """The family in a file of ``library/``; ScheduleError when a field is missing, unknown or wrong."""
        if not isinstance(data, Mapping) or data.get("kind") != "family":
            raise ScheduleError("This is not a family: give a JSON object whose kind is 'family'.")
        check_schema(data)
        missing = [key for key in _FIELDS if key not in data]
        unknown = sorted(str(key) for key in data.keys() - {*_FIELDS, *_OPTIONAL})
        if missing or unknown:
            raise ScheduleError(f"The family lacks {missing or 'nothing'}; unknown fields: {unknown or 'none'}.")
        check_name(data["key"], "key")
        check_name(data["title"], "title")
        match, presets, steps = data["match"], data["presets"], data["steps"]
        if not isinstance(match, Mapping) or set(match) != set(_MATCH_FIELDS):
            raise ScheduleError(f"match of {data['key']} is {match!r}: give {', '.join(_MATCH_FIELDS)}.")
        if not set(presets) <= set(PRESETS) or not all(is_count(budget) for budget in presets.values()):
            raise ScheduleError(f"presets of {data['key']} is {presets!r}: give a budget for {', '.join(PRESETS)}.")
        if presets and not (is_count(steps) and all(1 <= budget <= steps for budget in presets.values())):
            raise ScheduleError(
                f"presets of {data['key']} is {presets!r} of {steps!r} steps: give budgets up to steps."
            )
        return cls(
            key=data["key"],
            title=data["title"],
            order=data["order"],
            model_class=tuple(match["model_class"]),
            diffusion_model=tuple(match["diffusion_model"]),
            config=dict(match["config"]),
            files=tuple(data["files"]),
            defaults=dict(data["defaults"]),
            presets=dict(presets),
            steps=steps,
            budgets=dict(data["budgets"]),
            sources=tuple(data.get("sources", ())),
            note=data.get("note", ""),
        )

    def matches(self, identity: ModelIdentity) -> bool:
        """Whether class, network and config fit.

        A config value fits the same value, any value of a list, or a number between ``min`` and ``max``; null stands
        for an entry that is absent.
        """
        return (
            identity.model_class in self.model_class
            and identity.diffusion_model in self.diffusion_model
            and all(_fits(identity.config.get(key), wanted) for key, wanted in self.config.items())
        )

    def names_file(self, file: str) -> bool:
        """Whether a pattern of the family is found in the file name."""
        return any(re.search(pattern, file, re.IGNORECASE) for pattern in self.files)


@dataclass(frozen=True, slots=True)
class Match:
    """The family of a model, or None, and a note on how it was found; ``key`` names its schedules either way."""

    family: Family | None
    note: str
    identity: ModelIdentity

    @property
    def key(self) -> str:
        """The family's key, or the identity's own where no family fits."""
        return self.identity.key if self.family is None else self.family.key


def find_family(identity: ModelIdentity, families: Iterable[Family]) -> Match:
    """The family that an identity belongs to.

    Where several fit, the one whose file patterns the file name contains; where that says nothing, the first by
    ``order``. The note says what was detected and, on a tie, what decided.
    """
    fitting = sorted((one for one in families if one.matches(identity)), key=lambda one: (one.order, one.key))
    if not fitting:
        return Match(None, f"no known family for {identity.describe()}", identity)
    named = [one for one in fitting if identity.file is not None and one.names_file(identity.file)]
    family = (named or fitting)[0]
    parts = [f"detected {family.title} ({identity.describe()})"]
    if len(fitting) > 1:
        others = ", ".join(other.title for other in fitting if other is not family)
        if len(named) == 1:
            parts.append(f"the file name {identity.file} decided against {others}")
        else:
            file = "file name is unknown" if identity.file is None else f"file name {identity.file} does not decide"
            parts.append(f"{others} would fit as well and the {file}: took the first")
    if family.note:
        parts.append(family.note)
    return Match(family, "; ".join(parts), identity)


def _fits(value: object, wanted: object) -> bool:
    if isinstance(wanted, list):
        return any(_fits(value, option) for option in wanted)
    if isinstance(wanted, Mapping):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and wanted["min"] <= value <= wanted["max"]
    return isinstance(value, bool) == isinstance(wanted, bool) and value == wanted
