"""From the workflow JSON that ComfyUI's page saves to the prompt that its API takes; pure, nothing is fetched here.

Follows the page's own `graphToPrompt`: widget values by position or by name, muted and bypassed nodes, Reroute,
PrimitiveNode, notes, subgraphs (whose inner nodes get ids such as "12:3").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .failure import Failure

Json = dict[str, Any]

MUTED, BYPASSED = 2, 4
NOTES = ("Note", "MarkdownNote")
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
AFTER_GENERATE = ("fixed", "increment", "decrement", "randomize", "increment-wrap")


def to_prompt(workflow: Json, object_info: Json) -> Json:
    """Return the API prompt of a workflow; one that is in API format already comes back as it is."""
    if not isinstance(workflow, dict) or not workflow:
        raise Failure("The file holds no workflow: expected a JSON object saved by ComfyUI (Save or Export (API)).")
    if "nodes" not in workflow:
        if all(isinstance(node, dict) and "class_type" in node for node in workflow.values()):
            _check_known({node["class_type"] for node in workflow.values()}, object_info)
            return workflow
        raise Failure(
            "The file is neither a ComfyUI workflow (an object with `nodes` and `links`) nor an API prompt "
            "(node id -> class_type, inputs). Save it again with ComfyUI's Save or Export (API)."
        )
    definitions = {item["id"]: item for item in workflow.get("definitions", {}).get("subgraphs", [])}
    scope = _Scope.read(workflow, definitions)
    _check_known({node["type"] for _, node in scope.active()}, object_info)
    return {
        inner.id_of(node): {
            "class_type": node["type"],
            "inputs": _inputs(inner, node, object_info[node["type"]]),
            "_meta": {"title": node.get("title") or object_info[node["type"]].get("display_name") or node["type"]},
        }
        for inner, node in scope.active()
    }


def _check_known(types: set[str], object_info: Json) -> None:
    if missing := sorted(types - object_info.keys()):
        raise Failure(
            f"This ComfyUI has no node type {', '.join(missing)}. Install the node packs that the workflow needs "
            "(COMFYUI_PATH names a ComfyUI that has them), or see in the server's log why a pack was not loaded."
        )


@dataclass(frozen=True)
class _Link:
    origin: int
    slot: int
    target: int
    target_slot: int
    type: str


@dataclass(frozen=True)
class _Constant:
    """A value that a link brings from the page itself, not from a node that runs."""

    value: Any


@dataclass
class _Scope:
    """The nodes and links of one graph: the workflow, or one use of a subgraph."""

    nodes: dict[int, Json]
    links: dict[int, _Link]
    definitions: dict[str, Json]
    graph: Json
    prefix: str = ""
    parent: _Scope | None = None
    host: Json = field(default_factory=dict)
    inner: dict[int, _Scope] = field(default_factory=dict)

    @classmethod
    def read(
        cls, graph: Json, definitions: dict[str, Json], parent: _Scope | None = None, host: Json | None = None
    ) -> _Scope:
        links = {}
        for item in graph.get("links", []):
            if isinstance(item, dict):
                names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
                item = [item[name] for name in names]
            links[item[0]] = _Link(*item[1:6])
        nodes = {node["id"]: node for node in graph["nodes"]}
        scope = cls(nodes, links, definitions, graph, parent=parent)
        if parent is not None and host is not None:
            scope.host, scope.prefix = host, f"{parent.id_of(host)}:"
        for node in nodes.values():
            if node["type"] in definitions:
                scope.inner[node["id"]] = cls.read(definitions[node["type"]], definitions, scope, node)
        return scope

    def id_of(self, node: Json) -> str:
        return f"{self.prefix}{node['id']}"

    def active(self) -> Iterator[tuple[_Scope, Json]]:
        """Yield the nodes that run, those of subgraphs included."""
        for node in self.nodes.values():
            if node.get("mode", 0) in (MUTED, BYPASSED) or node["type"] in (*NOTES, "Reroute", "PrimitiveNode"):
                continue
            if node["id"] in self.inner:
                yield from self.inner[node["id"]].active()
            else:
                yield self, node

    def source(self, link_id: int | None) -> list[Any] | _Constant | None:
        """Return what a link brings: [node id, slot], a constant, or None where nothing does."""
        link = self.links.get(link_id) if link_id is not None else None
        if link is None:
            return None
        if self.parent is not None and link.origin == self.graph["inputNode"]["id"]:
            name = self.graph["inputs"][link.slot]["name"]
            entry = next((entry for entry in self.host.get("inputs", []) if entry["name"] == name), {})
            return self.parent.source(entry.get("link"))
        node = self.nodes[link.origin]
        if node.get("mode", 0) == MUTED:
            return None
        if node.get("mode", 0) == BYPASSED:
            return self._through(node, link)
        if node["type"] == "Reroute":
            return self.source(node["inputs"][0].get("link"))
        if node["type"] == "PrimitiveNode":
            return _Constant(node["widgets_values"][0])
        if inner := self.inner.get(link.origin):
            ends = (
                number
                for number, end in inner.links.items()
                if end.target == inner.graph["outputNode"]["id"] and end.target_slot == link.slot
            )
            return inner.source(next(ends, None))
        return [self.id_of(node), link.slot]

    def _through(self, node: Json, link: _Link) -> list[Any] | _Constant | None:
        """Pass a bypassed node: its input at the same place if the type fits, else the first that fits."""
        entries = node.get("inputs") or []
        for entry in entries[link.slot : link.slot + 1] + entries:
            if entry["type"] in (link.type, "*") and entry.get("link") is not None:
                return self.source(entry["link"])
        return None


def _inputs(scope: _Scope, node: Json, info: Json) -> Json:
    values = _widget_values(node, info)
    inputs = {name: {"__value__": value} if isinstance(value, list) else value for name, value in values.items()}
    for entry in node.get("inputs") or []:
        source = scope.source(entry.get("link"))
        if isinstance(source, _Constant):
            inputs[entry["name"]] = source.value
        elif source is not None:
            inputs[entry["name"]] = source
    return inputs


def _widget_values(node: Json, info: Json) -> Json:
    """Return name -> value of a node's widgets, defaults where the file is older than the node."""
    stored = node.get("widgets_values") or []
    entries = {entry["name"]: entry for entry in node.get("inputs") or []}
    by_name = isinstance(stored, dict)
    reader = _NamedValues(stored) if by_name else _PlacedValues(stored)
    return dict(_walk(info["input"], info.get("input_order"), entries, reader, ""))


def _walk(
    inputs: Json, order: Json | None, entries: Json, reader: _NamedValues | _PlacedValues, prefix: str
) -> Iterator[tuple[str, Any]]:
    for group in ("required", "optional"):
        specs = inputs.get(group, {})
        for short in (order or {}).get(group, specs):
            name, (kind, options) = prefix + short, _spec(specs[short])
            if not _is_widget(kind, options, entries.get(name)):
                continue
            value = reader.take(name, _default(kind, options))
            if value is not None:
                yield name, value
            choices = options.get("options", [])
            if kind == "COMFY_DYNAMICCOMBO_V3":
                chosen = next((choice for choice in choices if choice["key"] == value), None)
                if chosen:
                    yield from _walk(chosen["inputs"], None, entries, reader, f"{name}.")
            elif options.get("control_after_generate") or (kind == "INT" and short in ("seed", "noise_seed")):
                reader.skip_control(kind)


def _spec(spec: list[Any]) -> tuple[str, Json]:
    """Return type and options of an input; the older way to write a combo is a list in place of the type."""
    kind, options = spec[0], dict(spec[1]) if len(spec) > 1 and spec[1] else {}
    return ("COMBO", options | {"options": kind}) if isinstance(kind, list) else (kind, options)


def _is_widget(kind: str, options: Json, entry: Json | None) -> bool:
    if options.get("forceInput"):
        return False
    if entry is not None and "widget" in entry:
        return True
    return kind in (*WIDGETS, "COMFY_DYNAMICCOMBO_V3") or bool(options.get("widgetType"))


def _default(kind: str, options: Json) -> Any:
    if "default" in options:
        return options["default"]
    choices = options.get("options") or [None]
    if kind == "COMFY_DYNAMICCOMBO_V3":
        return choices[0]["key"]
    return choices[0] if kind == "COMBO" else None


class _NamedValues:
    def __init__(self, stored: Json) -> None:
        self._stored = stored

    def take(self, name: str, default: Any) -> Any:
        return self._stored.get(name, default)

    def skip_control(self, kind: str) -> None:
        """Nothing to skip: what the page adds has names of its own."""


class _PlacedValues:
    def __init__(self, stored: list[Any]) -> None:
        self._left = list(stored)

    def take(self, name: str, default: Any) -> Any:
        return self._left.pop(0) if self._left else default

    def skip_control(self, kind: str) -> None:
        """Skip what the page adds after a seed: what becomes of it after a run; after a combo also a filter."""
        if self._left and self._left[0] in AFTER_GENERATE:
            self._left.pop(0)
            if kind == "COMBO" and self._left and isinstance(self._left[0], str):
                self._left.pop(0)
