"""The help pages of the nodes: complete, in every locale, and served where ComfyUI's page looks for them."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "web" / "docs"
WORKFLOWS = {path.stem for path in (ROOT / "example_workflows").glob("*.json")}
NODES = sorted(json.loads((ROOT / "locales/en/nodeDefs.json").read_text(encoding="utf-8")))
TRANSLATIONS = sorted(folder.name for folder in (ROOT / "locales").iterdir() if folder.name != "en")
SECTIONS = {
    "en": ("Inputs", "How to choose", "Example", "Outputs", "Limits"),
    "zh": ("输入", "如何选择", "示例", "输出", "限制"),
}


SHOWN = {"mode": "effort"}
"""Inputs that the node calls otherwise."""


def texts(locale: str, node_id: str) -> dict:
    return json.loads((ROOT / "locales" / locale / "nodeDefs.json").read_text(encoding="utf-8"))[node_id]


def page(locale: str, node_id: str) -> str:
    path = DOCS / f"{node_id}.md" if locale == "en" else DOCS / node_id / f"{locale}.md"
    return path.read_text(encoding="utf-8")


every_page = pytest.mark.parametrize("locale, node_id", [(locale, node) for locale in SECTIONS for node in NODES])


def test_there_is_a_page_for_every_node_and_locale_and_no_other():
    found = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*") if path.is_file()}
    plain = {f"{node}.md" for node in NODES}
    assert found == plain | {f"{node}/{locale}.md" for node in NODES for locale in TRANSLATIONS}
    assert sorted(SECTIONS) == sorted(["en", *TRANSLATIONS])


@every_page
def test_a_page_has_a_title_and_its_sections(locale, node_id):
    text = page(locale, node_id)
    assert text.startswith(f"# {texts(locale, node_id)['display_name']}\n")
    inputs, *middle, outputs, limits = SECTIONS[locale]
    # The output of LeMiCa is a model, of which there is nothing more to say.
    wanted = {inputs, *middle, limits} | ({outputs} if node_id != "LeMiCa" else set())
    heads = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert wanted <= set(heads) and len(heads) == len(set(heads)) and heads[-1] == limits


@every_page
def test_a_page_tells_of_every_input_and_output(locale, node_id):
    text, own = page(locale, node_id), texts(locale, node_id)
    bold = set(re.findall(r"\*\*([^*]+)\*\*", text))
    names = {SHOWN.get(key, key) if locale == "en" else entry["name"] for key, entry in own["inputs"].items()}
    if node_id == "LeMiCa":
        # The strip writes this input; the page tells of the strip.
        names -= {"steps", own["inputs"]["steps"]["name"]}
    else:
        names |= {entry["name"] for entry in own["outputs"].values()}
    assert names <= bold, names - bold


@pytest.mark.parametrize("node_id", NODES)
@pytest.mark.parametrize("locale", TRANSLATIONS)
def test_a_translated_page_has_the_parts_of_the_english_one(locale, node_id):
    english, translated = page("en", node_id), page(locale, node_id)
    for part in (r"^## ", r"^- "):
        assert len(re.findall(part, translated, re.MULTILINE)) == len(re.findall(part, english, re.MULTILINE))
    for quoted in (r"(?<!\*)\*([\w. ]+)\*(?!\*)", r"`([^`]+)`"):
        assert set(re.findall(quoted, translated)) == set(re.findall(quoted, english))


@pytest.mark.parametrize("node_id", NODES)
def test_a_page_names_only_workflows_that_exist(node_id):
    named = set(re.findall(r"(?<!\*)\*([a-z_.\d]+_[a-z_.\d]+)\*(?!\*)", page("en", node_id)))
    assert named <= WORKFLOWS


def test_the_page_of_lemica_names_every_family_that_has_residual_rules(comfy):
    from lemica.cache.families import FAMILIES

    text = page("en", "LeMiCa")
    listed = text[text.index("## Models"):].split("On all others")[0]
    named = {
        "WanModel": "Wan 2.1", "VaceWanModel": "VACE", "CameraWanModel": "Camera", "WanModel_S2V": "S2V",
        "HumoWanModel": "HuMo", "SCAILWanModel": "SCAIL", "SCAIL2WanModel": "SCAIL", "AnimateWanModel": "Animate",
        "WanAnimate2Model": "Animate 2",
        "WanDancerModel": "Dancer", "Flux": "FLUX.2", "Chroma": "Chroma", "ChromaRadiance": "Chroma Radiance",
        "Hunyuan3Dv2": "Hunyuan3D 2", "HunyuanVideo": "HunyuanVideo 1.5", "QwenImageTransformer2DModel": "Qwen-Image",
        "MageFlowTransformer2DModel": "MageFlow", "LensTransformer2DModel": "Lens", "JoyImageTransformer3DModel": "JoyImage",
        "NextDiT": "Z-Image", "NextDiTPixelSpace": "pixel space variant", "OpenAISignatureMMDITWrapper": "SD3.5",
        "MMDiT": "AuraFlow", "LTXVModel": "LTX-Video", "LTXAVModel": "LTX-2", "ErnieImageModel": "ERNIE-Image",
        "CogVideoXTransformer3DModel": "CogVideoX", "HiDreamImageTransformer2DModel": "HiDream-I1",
        "MiniTrainDIT": "Cosmos-Predict2", "Anima": "Anima", "Kandinsky5": "Kandinsky 5", "SingleStreamDiT": "Krea 2",
        "AsymmDiTJoint": "Mochi", "OmniGen2Transformer2DModel": "OmniGen2", "BooguTransformer2DModel": "Boogu",
        "Ideogram4Transformer2DModel": "Ideogram 4", "PixArtMS": "PixArt", "HunYuanDiT": "Hunyuan-DiT",
        "HunYuanDiTPlain": "Hunyuan3D 2 and 2.1", "ACEStepTransformer2DModel": "ACE-Step",
        "AceStepConditionGenerationModel": "ACE-Step 1.5", "AudioDiffusionTransformer": "Stable Audio",
    }
    assert set(named) == set(FAMILIES)
    assert {model: name for model, name in named.items() if name not in listed} == {}


def test_the_server_hands_out_the_pages_where_the_page_asks_for_them(server):
    info = server.object_info()
    for node_id in NODES:
        folder = f"{server.url}/extensions/{info[node_id]['python_module'].split('.')[1]}/docs/"
        for path, locale in [(f"{node_id}.md", "en"), *((f"{node_id}/{one}.md", one) for one in TRANSLATIONS)]:
            with urllib.request.urlopen(folder + path) as answer:
                assert answer.read().decode() == page(locale, node_id)
