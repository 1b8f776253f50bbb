"""The packaged library, and which family a model belongs to."""

import json
from pathlib import Path

import lemica.schedules
import pytest
from lemica.schedules import PRESETS, Family, Library, Match, ModelIdentity, ScheduleError, find_family, preset_budget

LIBRARY = Library(Path(lemica.schedules.__file__).parent / "library")
LISTS = [schedule for schedule in LIBRARY.schedules() if schedule.origin == "published"]

PUBLISHED = {
    "wan2.1-t2v-1.3b/b17": [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 13, 18, 25, 32, 39, 46, 49],
    "wan2.1-t2v-14b/b14": [0, 1, 2, 3, 4, 5, 7, 10, 17, 24, 31, 38, 45, 49],
    "wan2.1-i2v-14b/b14": [0, 1, 2, 3, 4, 6, 8, 11, 15, 22, 29, 34, 37, 39],
    "qwen-image/b10": [0, 1, 3, 7, 14, 21, 28, 35, 42, 49],
    "qwen-image-2512/b10": [0, 2, 4, 8, 15, 22, 29, 36, 43, 49],
    "flux.1-dev/b15": [0, 1, 2, 3, 4, 5, 7, 10, 15, 20, 27, 34, 41, 47, 49],
    "flux.2-dev/b15": [0, 1, 2, 3, 4, 5, 8, 9, 15, 21, 27, 33, 39, 45, 49],
    "flux.2-klein-base-9b/b10": [0, 1, 4, 5, 9, 17, 25, 33, 41, 49],
    "ernie-image/b17": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 17, 27, 37, 44, 48, 49],
    "hunyuanvideo-1.5/b10": [0, 1, 3, 5, 9, 17, 25, 33, 41, 49],
    "z-image-turbo/b7": [0, 1, 2, 3, 5, 7, 8],
    "z-image-turbo/b6": [0, 1, 2, 4, 6, 8],
    "z-image-turbo/b5": [0, 1, 2, 5, 8],
}
BUDGETS = {
    "wan2.1-t2v-1.3b": (50, [25, 20, 17, 14]),
    "wan2.1-t2v-14b": (50, [25, 20, 17, 14]),
    "wan2.1-i2v-14b": (40, [25, 20, 17, 14]),
    "qwen-image": (50, [25, 17, 10]),
    "qwen-image-2512": (50, [25, 17, 10]),
    "flux.1-dev": (50, [26, 20, 15, 10]),
    "flux.2-dev": (50, [26, 20, 15]),
    "flux.2-klein-base-9b": (50, [26, 20, 15, 10]),
    "ernie-image": (50, [25, 17, 10]),
    "hunyuanvideo-1.5": (50, [25, 20, 15, 10]),
    "z-image-turbo": (9, [7, 6, 5]),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_list(name):
    assert list(LIBRARY.get(name).computed) == PUBLISHED[name]


def test_every_list_of_every_family():
    lists = {}
    for schedule in LISTS:
        lists.setdefault(schedule.family, (schedule.steps, []))[1].append(schedule.budget)
        assert schedule.name == f"{schedule.family}/b{schedule.budget}"
        assert schedule.origin == "published"
        assert {str(rule) for rule in schedule.rules} == {"residual hold"}
        assert schedule.computed[-1] == schedule.steps - 1
        assert len(schedule.source["commit"]) == 40
        assert schedule.source["repo"] and schedule.source["path"]
        assert "LeMiCa authors" in schedule.source["made_by"] and "fork" in schedule.source["read_in"]
    assert lists == BUDGETS
    assert len(LISTS) == 39


def test_what_is_not_published_was_measured_on_the_demo_model_for_its_presets():
    measured = [schedule for schedule in LIBRARY.schedules() if schedule.origin != "published"]
    budgets = {steps: {one.budget for one in measured if one.steps == steps} for steps in (20, 30, 50)}
    demo = next(family for family in LIBRARY.families() if family.key == "lemica-demo")
    match = Match(demo, "", ModelIdentity("WAN21", "WanModel"))
    for steps, found in budgets.items():
        assert {preset_budget(match, preset, steps) for preset in PRESETS} <= found
    for schedule in measured:
        assert (schedule.family, schedule.origin) == ("lemica-demo", "calibrated")
        assert schedule.sigmas is not None and schedule.source["mode"] == ("normal" if schedule.weights else "exact")
        assert 0 < schedule.source["measured"]["mean"] <= schedule.source["measured"]["worst"]


def test_presets_are_the_lists_from_most_to_least():
    for family in LIBRARY.families():
        if family.key in BUDGETS:
            steps, budgets = BUDGETS[family.key]
            assert family.steps == steps
            assert list(zip(("slow", "medium", "fast", "ultra"), budgets, strict=False)) == sorted(
                family.presets.items(), key=lambda item: -item[1]
            )


def test_nominal_sigmas_only_where_the_source_gives_a_shift():
    with_sigmas = {schedule.family for schedule in LISTS if schedule.sigmas is not None}
    assert with_sigmas == {"wan2.1-t2v-1.3b", "wan2.1-t2v-14b", "wan2.1-i2v-14b"}


def test_steps_left_out_of_a_list_are_named():
    source = LIBRARY.get("z-image-turbo/b5").source
    assert (source["published_budget"], source["left_out"]) == (6, [9])


def wan(dim, layers, model_type="t2v", in_dim=16, out_dim=16, **more):
    config = {"image_model": "wan2.1", "dim": dim, "num_layers": layers, "model_type": model_type, "in_dim": in_dim}
    return {"out_dim": out_dim, "qk_norm": True, **config, **more}


def flux(in_channels=16, guidance_embed=True):
    sizes = {"hidden_size": 3072, "depth": 19, "depth_single_blocks": 38}
    return {"image_model": "flux", "in_channels": in_channels, "guidance_embed": guidance_embed, **sizes}


def flux2(hidden_size, single, guidance_embed=False):
    sizes = {"hidden_size": hidden_size, "depth": 8, "depth_single_blocks": single}
    return {"image_model": "flux2", "in_channels": 128, "guidance_embed": guidance_embed, **sizes}


QWEN = ("QwenImage", "QwenImageTransformer2DModel")
QWEN_CONFIG = {"image_model": "qwen_image", "in_channels": 64, "num_layers": 60}
Z = ("Lumina2", "NextDiT")
Z_CONFIG = {"image_model": "lumina2", "dim": 3840, "n_layers": 30, "qk_norm": True, "allow_fp16": True}
HUNYUAN = {"image_model": "hunyuan_video", "in_channels": 65, "guidance_embed": False}

MODELS = [
    (("WAN21", "WanModel"), wan(1536, 30), "wan2.1_t2v_1.3B_fp16.safetensors", "wan2.1-t2v-1.3b"),
    (("WAN21", "WanModel"), wan(5120, 40), "wan2.1_t2v_14B_fp8_scaled.safetensors", "wan2.1-t2v-14b"),
    (("WAN21", "WanModel"), wan(5120, 40), None, "wan2.1-t2v-14b"),
    (("WAN21", "WanModel"), wan(5120, 40), "finetune.safetensors", "wan2.1-t2v-14b"),
    (("WAN21", "WanModel"), wan(5120, 40, "i2v", 36), "Wan2_1-I2V-14B-480p.safetensors", "wan2.1-i2v-14b"),
    (("WAN21", "WanModel"), wan(5120, 40), "wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors", "wan2.2-14b"),
    (("WAN21", "WanModel"), wan(5120, 40), "my_LOW-noise_merge.safetensors", "wan2.2-14b"),
    (("WAN21", "WanModel"), wan(5120, 40, "t2v", 36), "any.safetensors", "wan2.2-14b"),
    (("WAN22", "WanModel"), wan(3072, 30, "t2v", 48, 48), "wan2.2_ti2v_5B_fp16.safetensors", None),
    (("WAN21_Vace", "VaceWanModel"), wan(1536, 30, "vace"), "wan2.1_vace_1.3B_fp16.safetensors", None),
    (QWEN, QWEN_CONFIG, "qwen_image_fp8_e4m3fn.safetensors", "qwen-image"),
    (QWEN, QWEN_CONFIG, "qwen_image_2512_fp8_e4m3fn.safetensors", "qwen-image-2512"),
    (QWEN, QWEN_CONFIG, "qwen_image_edit_2509_fp8_e4m3fn.safetensors", "qwen-image-edit"),
    (QWEN, {**QWEN_CONFIG, "default_ref_method": "index_timestep_zero"}, "x.safetensors", "qwen-image-edit"),
    (QWEN, {**QWEN_CONFIG, "use_additional_t_cond": True}, "qwen_image_layered_bf16.safetensors", None),
    (("Flux", "Flux"), flux(), "flux1-dev-fp8.safetensors", "flux.1-dev"),
    (("Flux", "Flux"), flux(), "flux1-dev-kontext_fp8_scaled.safetensors", "flux.1-kontext-dev"),
    (("Flux", "Flux"), flux(guidance_embed=False), "flux1-schnell.safetensors", None),
    (("Flux", "Flux"), flux(96), "flux1-fill-dev.safetensors", None),
    (("Flux2", "Flux"), flux2(6144, 48, True), "flux2_dev_fp8mixed.safetensors", "flux.2-dev"),
    (("Flux2", "Flux"), flux2(4096, 24), "flux-2-klein-base-9b-fp8.safetensors", "flux.2-klein-base-9b"),
    (("Flux2", "Flux"), flux2(4096, 24), "flux-2-klein-9b-fp8.safetensors", "flux.2-klein-9b"),
    (("Flux2", "Flux"), flux2(3072, 20), "flux-2-klein-base-4b-fp8.safetensors", None),
    (("ErnieImage", "ErnieImageModel"), {"image_model": "ernie"}, "ernie-image.safetensors", "ernie-image"),
    (("ErnieImage", "ErnieImageModel"), {"image_model": "ernie"}, "ernie-image-turbo.safetensors", "ernie-image-turbo"),
    (Z, Z_CONFIG, "z_image_turbo_bf16.safetensors", "z-image-turbo"),
    (Z, Z_CONFIG, "z_image_bf16.safetensors", "z-image"),
    (Z, {**Z_CONFIG, "dim": 2304, "n_layers": 26}, "lumina_2.safetensors", None),
    (("HunyuanVideo15", "HunyuanVideo"), {**HUNYUAN, "vision_in_dim": 1152}, None, "hunyuanvideo-1.5"),
    (("HunyuanVideo", "HunyuanVideo"), {**HUNYUAN, "in_channels": 16}, None, "hunyuanvideo"),
    (("CogVideoX", "CogVideoXTransformer3DModel"), {"image_model": "cogvideox"}, None, "cogvideox"),
    (("WAN21", "WanModel"), wan(128, 8, num_heads=2, text_dim=64), "wan_tiny.safetensors", "lemica-demo"),
    (("SDXL", "UNetModel"), {"model_channels": 320}, "sd_xl_base_1.0.safetensors", None),
]


@pytest.mark.parametrize(("classes", "config", "file", "key"), MODELS)
def test_family_of_a_model(classes, config, file, key):
    match = find_family(ModelIdentity(*classes, config, file), LIBRARY.families())
    assert (match.family.key if match.family else None) == key
    assert classes[0] in match.note
    assert match.key == (key or match.identity.key)


def test_note_says_what_broke_a_tie():
    def note(file):
        return find_family(ModelIdentity(*QWEN, QWEN_CONFIG, file), LIBRARY.families()).note

    assert "qwen_image_2512.safetensors decided against Qwen-Image, Qwen-Image-Edit" in note(
        "qwen_image_2512.safetensors"
    )
    assert "the file name mix.safetensors does not decide: took the first" in note("mix.safetensors")
    assert "the file name is unknown: took the first" in note(None)
    both = ModelIdentity("WAN21", "WanModel", wan(5120, 40), "wan2.1_low_noise.safetensors")
    assert "does not decide: took the first" in find_family(both, LIBRARY.families()).note
    expert = ModelIdentity("WAN21", "WanModel", wan(5120, 40), "wan2.2_t2v_high_noise_14B.safetensors")
    assert "Wan 2.2 expert: no published list" in find_family(expert, LIBRARY.families()).note


def test_key_of_an_unknown_model_tells_sizes_apart():
    def key(**config):
        return ModelIdentity("SDXL", "UNetModel", config, "a.safetensors").key

    assert key(model_channels=320) == key(model_channels=320, allow_fp16=True)
    assert key(model_channels=320) != key(model_channels=640)
    assert key(model_channels=320).startswith("sdxl-")


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "schedule"},
        {"schema": 3},
        {"key": "a\nb"},
        {"match": {"model_class": []}},
        {"presets": {"turbo": 3}},
        {"presets": {"slow": 3.5}},
        {"presets": {"slow": 51}},
        {"presets": {"slow": 3}, "steps": None},
        {"colour": "red"},
    ],
)
def test_wrong_family_file_is_refused(changes):
    path = Path(lemica.schedules.__file__).parent / "library" / "flux.1-dev.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    assert Family.from_json(data).title == "FLUX.1-dev"
    with pytest.raises(ScheduleError):
        Family.from_json({**data, **changes})
