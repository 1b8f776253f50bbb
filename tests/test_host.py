"""Every extension point of ComfyUI that the pack uses, taken away or changed: the node says which, and all is computed."""

from __future__ import annotations

import ast
import functools
import inspect
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from lemica.cache.host import BLOCK_POINTS, PARTS, POINTS, HostError, check

ROOT = Path(__file__).resolve().parent.parent
STEPS = 6
COMPUTED = (0, 1, 3)
WHOLE_MODULES = ("comfy_api.latest", "server")
"""What a node of ComfyUI cannot be made without; names are imported out of nothing else of it."""

HOST = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "server", "folder_paths", "nodes", "execution")
WRAPPED = [point for point in POINTS if point.wrapped]
CALLED = [point for point in (*POINTS, *BLOCK_POINTS) if point.called is not None]


@pytest.fixture(scope="module")
def loaded(wan):
    """The modules of ComfyUI are there once a model is."""
    return wan


@pytest.fixture
def told(loaded, monkeypatch) -> list[tuple[str, dict]]:
    """The events that the page is sent."""
    import server

    events: list[tuple[str, dict]] = []
    monkeypatch.setattr(server, "PromptServer", SimpleNamespace(
        instance=SimpleNamespace(send_sync=lambda kind, data, sid=None: events.append((kind, data)))
    ))
    from lemica.nodes import apply

    monkeypatch.setattr(apply, "PromptServer", server.PromptServer)
    return events


def execute(model, rule: str = "output hold"):
    """What the LeMiCa node gives for a model."""
    from lemica.nodes.apply import LeMiCa

    node = type("Hidden", (LeMiCa,), {"hidden": SimpleNamespace(unique_id="7")})
    steps = ", ".join(map(str, COMPUTED))
    return node.execute(model, "custom", len(COMPUTED), "auto", rule, "auto", steps).args[0]


def owner(point):
    """What holds the point, and its name there."""
    *path, name = point.name.split(".")
    return functools.reduce(getattr, path, sys.modules[point.module]), name


def function_of(point):
    """What holds the function that has the point's parameters, and its name there: a class has those of its making."""
    holder, name = owner(point)
    found = getattr(holder, name)
    return (found, "__init__") if isinstance(found, type) else (holder, name)


def changed(function, wrapped: bool):
    """``function`` with other parameters: another name in front, or one more that is needed."""
    if not wrapped:
        return lambda self, *args, needed: function(self, *args)
    if function.__qualname__.count(".") == 0:
        return lambda renamed, *rest, **more: function(renamed, *rest, **more)
    return lambda self, renamed, *rest, **more: function(self, renamed, *rest, **more)


def check_told(told, caplog, point: str) -> None:
    ((kind, data),) = told
    assert kind == "lemica.host" and data["node"] == "7"
    assert point in data["text"] and "every step" in data["text"]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [data["text"]]


def test_this_comfyui_has_every_point(told, wan, tiny_wan):
    check(wan)
    model = execute(wan)
    assert model is not wan
    tiny_wan.sample(model, steps=STEPS)
    assert {kind for kind, _ in told} == {"lemica.plan", "lemica.step", "lemica.run"}
    assert told[-1][1]["computed"] == list(COMPUTED)


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_without_a_point_every_step_computes_and_the_node_says_which(told, wan, tiny_wan, point, monkeypatch, caplog):
    plain = tiny_wan.sample(wan, steps=STEPS)
    with monkeypatch.context() as away:
        away.delattr(*owner(point))
        model = execute(wan)
    assert model is wan
    check_told(told, caplog, str(point))
    assert tiny_wan.equal(tiny_wan.sample(model, steps=STEPS), plain)


@pytest.mark.parametrize("module", sorted({point.module for point in POINTS}))
def test_without_a_module_every_step_computes_and_the_node_says_which(told, wan, module, monkeypatch, caplog):
    monkeypatch.delitem(sys.modules, module)
    assert execute(wan) is wan
    check_told(told, caplog, module)


@pytest.mark.parametrize("point", WRAPPED, ids=str)
def test_with_other_parameters_every_step_computes(told, wan, tiny_wan, point, monkeypatch, caplog):
    plain = tiny_wan.sample(wan, steps=STEPS)
    holder, name = function_of(point)
    monkeypatch.setattr(holder, name, changed(getattr(holder, name), wrapped=True))
    model = execute(wan)
    assert model is wan
    check_told(told, caplog, f"{point} takes other parameters")
    assert tiny_wan.equal(tiny_wan.sample(model, steps=STEPS), plain), "on the ComfyUI that is so changed"


@pytest.mark.parametrize("point", [point for point in CALLED if point in POINTS], ids=str)
def test_a_function_that_needs_more_than_it_is_given_is_not_called(told, wan, tiny_wan, point, monkeypatch, caplog):
    plain = tiny_wan.sample(wan, steps=STEPS)
    with monkeypatch.context() as other:
        holder, name = function_of(point)
        other.setattr(holder, name, changed(getattr(holder, name), wrapped=False))
        model = execute(wan)
    assert model is wan
    check_told(told, caplog, f"{point} takes other parameters")
    assert tiny_wan.equal(tiny_wan.sample(model, steps=STEPS), plain)


@pytest.mark.parametrize("point", WRAPPED, ids=str)
def test_what_another_pack_puts_around_a_function_is_no_other_function(told, wan, tiny_wan, point, monkeypatch):
    """Around, with whatever arguments; and with one more parameter behind, as ComfyUI adds them."""
    holder, name = function_of(point)
    function = getattr(holder, name)
    monkeypatch.setattr(holder, name, lambda *args, **kwargs: function(*args, **kwargs))
    check(wan)
    names = [*point.wrapped, "newest"] if name == "calc_cond_batch" else ["self", *point.wrapped, "newest"]

    def more(*args, **kwargs) -> None:
        pass

    more.__signature__ = inspect.Signature([inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names])
    monkeypatch.setattr(holder, name, more)
    check(wan)


@pytest.mark.parametrize("part", PARTS)
def test_a_patcher_without_a_part_stays_as_it_is(told, wan, part, caplog):
    *path, name = part.split(".")
    model = wan.clone()
    if path:
        rest = {"model_config": wan.model.model_config, "diffusion_model": wan.model.diffusion_model}
        model.model = SimpleNamespace(**rest | {path[-1]: SimpleNamespace()} if len(path) > 1 else {"model_config": 0})
    else:
        del model.model_options
    assert execute(model) is model
    check_told(told, caplog, part)


@pytest.mark.parametrize("amiss", ["is missing", "takes other parameters"])
def test_blocks_that_cannot_be_patched_leave_output_rules(told, wan, tiny_wan, amiss, monkeypatch, caplog):
    (point,) = BLOCK_POINTS
    expected = tiny_wan.sample(execute(wan, "output hold"), steps=STEPS)
    with monkeypatch.context() as other:
        holder, name = function_of(point)
        if amiss == "is missing":
            other.delattr(holder, name)
        else:
            other.setattr(holder, name, changed(getattr(holder, name), wrapped=False))
        model = execute(wan, "residual hold")
    told.clear()
    assert tiny_wan.equal(tiny_wan.sample(model, steps=STEPS), expected)
    (report,) = (data for kind, data in told if kind == "lemica.run")
    assert report["computed"] == list(COMPUTED)
    assert f"{point} {amiss}" in report["note"]
    (warning,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert str(point) in warning


def test_a_calibration_says_which_point_is_missing(loaded, wan, monkeypatch):
    import comfy.patcher_extension
    from lemica.calibration.sampling import AttachedModel

    monkeypatch.delattr(comfy.patcher_extension.WrappersMP, "PREDICT_NOISE")
    with pytest.raises(HostError, match="WrappersMP.PREDICT_NOISE is missing"):
        AttachedModel(wan)


def test_a_patcher_that_does_not_say_its_file_has_none(loaded, wan):
    from lemica.cache.identity import identify

    silent = SimpleNamespace(model=wan.model, get_model_object=wan.get_model_object)
    assert identify(silent).file is None and identify(silent).config == identify(wan).config


# What no signature shows: wrappers that are never called, options that are not there.


@pytest.mark.parametrize("rule", ["output hold", "residual hold"])
@pytest.mark.parametrize("kind", ["OUTER_SAMPLE", "SAMPLER_SAMPLE", "PREDICT_NOISE", "CALC_COND_BATCH", "APPLY_MODEL"])
def test_a_wrapper_that_is_never_called_costs_the_speed_alone(told, wan, tiny_wan, kind, rule, monkeypatch):
    import comfy.patcher_extension

    model = execute(wan, rule)
    gone = getattr(comfy.patcher_extension.WrappersMP, kind)
    every = comfy.patcher_extension.get_all_wrappers
    monkeypatch.setattr(
        comfy.patcher_extension, "get_all_wrappers",
        lambda wanted, *args, **kwargs: [] if wanted == gone else every(wanted, *args, **kwargs),
    )
    got = tiny_wan.sample(model, steps=STEPS)
    if (kind, rule) != ("APPLY_MODEL", "output hold"):  # which that rule can do without
        assert tiny_wan.equal(got, tiny_wan.sample(wan, steps=STEPS))


def without_options(monkeypatch, *names: str) -> None:
    """Let ComfyUI evaluate the model with these transformer options left out."""
    from comfy.model_base import BaseModel

    apply_model = BaseModel.apply_model

    def apply(self, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options={}, **kwargs):
        options = {key: value for key, value in transformer_options.items() if key not in names}
        return apply_model(self, x, t, c_concat, c_crossattn, control, options, **kwargs)

    monkeypatch.setattr(BaseModel, "apply_model", apply)


def test_without_the_uuids_of_conds_residual_rules_run_on_the_output(told, wan, tiny_wan, monkeypatch, caplog):
    expected = tiny_wan.sample(execute(wan, "output hold"), steps=STEPS)
    without_options(monkeypatch, "uuids")
    assert tiny_wan.equal(tiny_wan.sample(execute(wan, "residual hold"), steps=STEPS), expected)
    assert any("uuids" in doubt for doubt in told[-1][1]["doubts"])
    assert told[-1][1]["computed"] == list(COMPUTED)
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


@pytest.mark.parametrize("rule", ["output hold", "residual hold"])
def test_without_the_sides_of_conds_rules_run_as_ever(told, wan, tiny_wan, rule, monkeypatch):
    expected = tiny_wan.sample(execute(wan, rule), steps=STEPS)
    without_options(monkeypatch, "cond_or_uncond")
    assert tiny_wan.equal(tiny_wan.sample(execute(wan, rule), steps=STEPS), expected)


@pytest.mark.parametrize("rule", ["output hold", "residual hold"])
def test_conds_without_a_uuid_are_computed_at_every_step(told, wan, tiny_wan, rule, monkeypatch):
    import comfy.sampler_helpers
    import comfy.samplers

    plain = tiny_wan.sample(wan, steps=STEPS)
    convert, area = comfy.sampler_helpers.convert_cond, comfy.samplers.get_area_and_mult
    monkeypatch.setattr(
        comfy.sampler_helpers, "convert_cond",
        lambda cond: [{key: value for key, value in one.items() if key != "uuid"} for one in convert(cond)],
    )
    monkeypatch.setattr(
        comfy.samplers, "get_area_and_mult", lambda conds, *args: area({**conds, "uuid": None}, *args)
    )
    assert tiny_wan.equal(tiny_wan.sample(execute(wan, rule), steps=STEPS), plain)
    assert told[-1][1]["computed"] == list(range(STEPS))
    assert any("uuid" in doubt for doubt in told[-1][1]["doubts"])


@pytest.mark.parametrize("path", sorted(
    path for part in ("cache", "calibration", "nodes", "schedules") for path in (ROOT / part).rglob("*.py")
), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_name_of_comfyui_is_needed_to_import_the_pack(path):
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and not node.level and node.module.split(".")[0] in HOST:
            assert node.module in WHOLE_MODULES or node.module == "comfy_execution", ast.unparse(node)
