"""The texts of the nodes: English as in the schemas, the other locales with the same keys and texts of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCALES = sorted(folder.name for folder in (ROOT / "locales").iterdir())
TRANSLATIONS = [locale for locale in LOCALES if locale != "en"]
KEPT = {"zh": {"Latent", "CFG"}}
"""Names that ComfyUI's own translation leaves in Latin letters."""
OWN_SCRIPT = {"zh": "[\u4e00-\u9fff]"}


def read(locale: str) -> dict[str, Any]:
    return json.loads((ROOT / "locales" / locale / "nodeDefs.json").read_text(encoding="utf-8"))


def flat(texts: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in texts.items():
        if isinstance(value, dict):
            yield from flat(value, (*path, key))
        else:
            yield (*path, key), value


@pytest.fixture(scope="module")
def schemas(server) -> dict[str, Any]:
    """What the server says of our nodes, by node id."""
    return {name: info for name, info in server.object_info().items() if name.startswith("LeMiCa")}


def test_english_has_the_texts_of_every_node(schemas):
    texts = read("en")
    assert set(texts) == set(schemas) and len(schemas) >= 6
    for node_id, info in schemas.items():
        own = texts[node_id]
        assert (own["display_name"], own["description"]) == (info["display_name"], info["description"])
        assert set(own) == {"display_name", "description", "inputs", "outputs"}


def test_english_has_the_name_and_the_tooltip_of_every_input(schemas):
    for node_id, info in schemas.items():
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        texts = read("en")[node_id]["inputs"]
        assert {key: spec[1]["tooltip"] for key, spec in inputs.items()} == {
            key: text["tooltip"] for key, text in texts.items()
        }
        for key, text in texts.items():
            name, shown = text["name"].lower().replace(" ", "_"), inputs[key][1].get("display_name", key)
            assert shown.startswith(name) or name.startswith(shown), (node_id, key)


def test_english_has_the_name_and_the_tooltip_of_every_output(schemas):
    for node_id, info in schemas.items():
        assert read("en")[node_id]["outputs"] == {
            str(place): {"name": name, "tooltip": tooltip}
            for place, (name, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"], strict=True))
        }


@pytest.mark.parametrize("locale", TRANSLATIONS)
def test_a_translation_has_the_keys_of_the_english(locale):
    assert [path for path, _ in flat(read(locale))] == [path for path, _ in flat(read("en"))]
    names = {path.name for path in (ROOT / "locales" / locale).iterdir()}
    assert names == {path.name for path in (ROOT / "locales" / "en").iterdir()}


@pytest.mark.parametrize("locale", TRANSLATIONS)
def test_every_text_is_translated(locale):
    english = dict(flat(read("en")))
    for path, text in flat(read(locale)):
        if text not in KEPT[locale]:
            assert text.strip().lower() != english[path].lower(), path
            assert re.search(OWN_SCRIPT[locale], text), (path, text)


@pytest.mark.parametrize("locale", TRANSLATIONS)
def test_what_the_user_chooses_is_called_in_a_translation_as_on_the_node(locale):
    # The page shows the options of a combo untranslated.
    options = {"auto", "custom", "exact", "slow", "ultra", "lpips"}
    english = dict(flat(read("en")))
    for path, text in flat(read(locale)):
        if path[-1] == "tooltip":
            named = options & set(re.findall("[a-z]+", english[path].lower()))
            assert all(option in text.lower() for option in named), path


@pytest.mark.parametrize("locale", LOCALES)
def test_no_text_has_a_sign_that_the_page_would_read_as_a_placeholder(locale):
    for path, text in flat(read(locale)):
        assert text == text.strip() and not set(text) & set("{}@|"), path


def test_the_server_hands_out_every_locale(server):
    handed_out = server.process.get("/i18n")
    for locale in LOCALES:
        texts = handed_out[locale]["nodeDefs"]
        assert {node_id: texts[node_id] for node_id in read(locale)} == read(locale)
