"""Tiny models of the families that make images."""

from __future__ import annotations

import torch
from tiny_spec import DOUBLE, HUNYUAN, IMAGE, SINGLE, Tiny, all_of, full_mask, pooled, references, tensors

FLUX = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 8, "context_in_dim": 12,
    "hidden_size": 32, "mlp_ratio": 2.0, "num_heads": 2, "depth": 2, "depth_single_blocks": 2, "axes_dim": [4, 6, 6],
    "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [],
}
FLUX2 = FLUX | {
    "image_model": "flux2", "in_channels": 128, "out_channels": 128, "vec_in_dim": None, "axes_dim": [4, 4, 4, 4],
    "patch_size": 1, "qkv_bias": False, "global_modulation": True, "mlp_silu_act": True, "ops_bias": False,
    "default_ref_method": "index", "ref_index_scale": 10.0, "txt_ids_dims": [3],
}
QWEN = {
    "image_model": "qwen_image", "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": 12, "axes_dims_rope": (4, 6, 6),
}
LUMINA = {
    "image_model": "lumina2", "in_channels": 16, "dim": 48, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1,
    "multiple_of": 16, "ffn_dim_multiplier": 1.0, "qk_norm": True, "cap_feat_dim": 12, "axes_dims": [8, 8, 8],
    "axes_lens": [64, 64, 64],
}
SD3 = {
    "in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 2, "input_size": None, "adm_in_channels": 8,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 12, "out_features": 128}},
    "num_patches": 64, "pos_embed_max_size": 8, "pos_embed_scaling_factor": None, "qk_norm": "rms",
    "x_block_self_attn_layers": [0],
}
CHROMA = {
    "image_model": "chroma", "in_channels": 64, "out_channels": 64, "context_in_dim": 12, "hidden_size": 32,
    "mlp_ratio": 2.0, "num_heads": 2, "depth": 2, "depth_single_blocks": 2, "axes_dim": [4, 6, 6], "theta": 10000,
    "patch_size": 2, "qkv_bias": True, "in_dim": 64, "out_dim": 32, "hidden_dim": 32, "n_layers": 1,
    "txt_ids_dims": [], "vec_in_dim": None,
}
RADIANCE = CHROMA | {
    "image_model": "chroma_radiance", "in_channels": 3, "out_channels": 3, "patch_size": 4, "nerf_hidden_size": 8,
    "nerf_mlp_ratio": 2, "nerf_depth": 1, "nerf_max_freqs": 2, "nerf_tile_size": 512, "nerf_final_head_type": "conv",
    "nerf_embedder_dtype": torch.float32, "use_x0": False, "use_sequential_txt_ids": False,
}
OMNIGEN = {
    "image_model": "omnigen2", "in_channels": 16, "hidden_size": 48, "num_layers": 2, "num_refiner_layers": 1,
    "num_attention_heads": 2, "num_kv_heads": 1, "multiple_of": 16, "axes_dim_rope": (8, 8, 8),
    "axes_lens": (32, 32, 32), "timestep_scale": 1000.0,
}
COSMOS = {
    "image_model": "cosmos_predict2", "max_img_h": 16, "max_img_w": 16, "max_frames": 8, "in_channels": 16,
    "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1, "model_channels": 32, "num_blocks": 2, "num_heads": 2,
    "crossattn_emb_channels": 12, "pos_emb_cls": "rope3d", "pos_emb_learnable": True, "use_adaln_lora": True,
    "adaln_lora_dim": 8, "mlp_ratio": 2.0,
}
HIDREAM = {
    "image_model": "hidream", "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 2,
    "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2, "caption_channels": [12, 12],
    "text_emb_dim": 8, "num_routed_experts": 2, "num_activated_experts": 1, "axes_dims_rope": (4, 6, 6),
    "llama_layers": [0, 1, 0, 1],
}

Z_IMAGE = LUMINA | {
    "dim": 256, "n_kv_heads": 2, "axes_dims": [32, 48, 48], "multiple_of": 64, "n_refiner_layers": 1,
    "ffn_dim_multiplier": 0.25, "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 8,
}

IMAGES = {
    "flux": Tiny("Flux", FLUX, IMAGE, (3, 12), extras=pooled(8), **DOUBLE),
    "flux_kontext": Tiny("Flux", FLUX, IMAGE, (3, 12), extras=all_of(pooled(8), references((1, 16, 4, 6))), **DOUBLE),
    "flux2": Tiny("Flux2", FLUX2, (1, 128, 2, 4), (3, 12), extras=references((1, 128, 2, 2)), **DOUBLE),
    "chroma": Tiny("Chroma", CHROMA, IMAGE, (3, 12), **DOUBLE),
    "chroma_radiance": Tiny(
        "ChromaRadiance", RADIANCE, (1, 3, 8, 8), (3, 12), head=(), last="single_blocks.1", **DOUBLE
    ),
    "qwen_image": Tiny(
        "QwenImage", QWEN, (1, 16, 1, 4, 4), (3, 12), "transformer_blocks.0", "hidden_states", ("norm_out",)
    ),
    "qwen_image_edit": Tiny(
        "QwenImage", QWEN | {"default_ref_method": "index_timestep_zero"}, (1, 16, 1, 4, 4), (3, 12),
        "transformer_blocks.0", "hidden_states", ("norm_out",), references((1, 16, 1, 4, 2)),
    ),
    "mage_flow": Tiny(
        "MageFlow", QWEN | {"image_model": "mage_flow"}, (1, 128, 2, 4), (3, 12), "transformer_blocks.0",
        "hidden_states", ("norm_out",),
    ),
    "lens": Tiny(
        "Lens",
        {
            "image_model": "lens", "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
            "enc_hidden_dim": 8, "axes_dims_rope": (4, 6, 6), "selected_layer_index": (0, 1),
        },
        (1, 128, 2, 4), (3, 16), "transformer_blocks.0", "hidden_states", ("norm_out",),
    ),
    "joy_image": Tiny(
        "JoyImage",
        {
            "image_model": "joyimage", "hidden_size": 32, "num_attention_heads": 2, "text_dim": 12, "num_layers": 2,
            "mlp_width_ratio": 2.0, "rope_dim_list": [4, 6, 6],
        },
        (1, 16, 1, 4, 4), (3, 12), "double_blocks.0", "hidden_states", ("norm_out",), references((1, 16, 1, 4, 2)),
        cut=lambda tokens, head: tokens[:, : head.shape[1]],
    ),
    "lumina2": Tiny("Lumina2", LUMINA, IMAGE, (3, 12), "layers.0", 0, extras=full_mask(3)),
    "z_image": Tiny(
        "ZImage",
        Z_IMAGE,
        IMAGE, (3, 12), "layers.0", 0, extras=full_mask(3),
    ),
    "z_image_pixel": Tiny(
        "ZImagePixelSpace",
        Z_IMAGE | {
            "image_model": "zimage_pixel", "patch_size": 4, "in_channels": 3, "decoder_in_channels": 48,
            "decoder_hidden_size": 16, "decoder_num_res_blocks": 1, "decoder_max_freqs": 2,
        },
        (1, 3, 8, 8), (3, 12), "layers.0", 0, (), full_mask(3), last="layers.1",
    ),
    "sd3": Tiny("SD3", SD3, IMAGE, (3, 12), "joint_blocks.0", 1, extras=pooled(8)),
    "aura_flow": Tiny(
        "AuraFlow",
        {
            "dim": 32, "n_layers": 4, "n_double_layers": 2, "n_heads": 2, "global_conddim": 32, "cond_seq_dim": 12,
            "max_seq": 64,
        },
        (1, 4, 4, 4), (3, 12), "double_layers.0", 1, (), last="single_layers.1",
    ),
    "ernie_image": Tiny(
        "ErnieImage",
        {
            "image_model": "ernie", "hidden_size": 32, "num_attention_heads": 2, "num_layers": 2, "ffn_hidden_size": 32,
            "text_in_dim": 12, "rope_axes_dim": (4, 6, 6),
        },
        (1, 128, 2, 4), (3, 12), "layers.0", 0, ("final_norm",),
    ),
    "hidream": Tiny(
        "HiDream", HIDREAM, IMAGE, (3, 12), "double_stream_blocks.0", "image_tokens",
        extras=all_of(pooled(8), tensors(conditioning_llama3=(1, 2, 3, 12))),
    ),
    "krea2": Tiny(
        "Krea2",
        {
            "image_model": "krea2", "features": 32, "tdim": 16, "txtdim": 8, "heads": 2, "kvheads": 1, "multiplier": 2,
            "layers": 2, "txtlayers": 2, "txtheads": 2, "txtkvheads": 2, "default_ref_method": "index_timestep_zero",
        },
        (1, 16, 1, 4, 4), (3, 16), head=("last",), extras=references((1, 16, 1, 4, 2)), **SINGLE,
    ),
    "omnigen2": Tiny(
        "Omnigen2", OMNIGEN | {"text_feat_dim": 12}, IMAGE, (3, 12), "layers.0", 0, ("norm_out",),
        all_of(full_mask(3), references((1, 16, 4, 2))),
    ),
    "boogu": Tiny(
        "Boogu", OMNIGEN | {"instruction_feat_dim": 12, "num_double_stream_layers": 2}, IMAGE, (3, 12),
        "double_stream_layers.0", 0, ("norm_out",), all_of(full_mask(3), references((1, 16, 4, 2))),
    ),
    "ideogram4": Tiny(
        "Ideogram4",
        {
            "image_model": "ideogram4", "num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16,
            "intermediate_size": 32, "adaln_dim": 16, "llm_features_dim": 12, "mrope_section": (3, 3, 2),
        },
        (1, 128, 2, 4), (3, 12), "layers.0", 0,
    ),
    "pixart_sigma": Tiny(
        "PixArtSigma",
        {
            "image_model": "pixart_sigma", "hidden_size": 32, "depth": 2, "num_heads": 2, "caption_channels": 12,
            "model_max_length": 3, "micro_condition": False, "pe_interpolation": 2.0, "mlp_ratio": 2.0,
        },
        (1, 4, 40, 32), (3, 12), **SINGLE,
    ),
    "hunyuan_dit": Tiny(
        "HunyuanDiT",
        {
            "image_model": "hydit", "hidden_size": 32, "depth": 4, "num_heads": 2, "mlp_ratio": 2.0,
            "text_states_dim": 8, "text_states_dim_t5": 16, "text_len": 3, "text_len_t5": 2,
        },
        (1, 4, 8, 8), (3, 8),
        extras=lambda generator: {
            "attention_mask": torch.ones(1, 3), "attention_mask_mt5xl": torch.ones(1, 2),
            "conditioning_mt5xl": torch.randn(1, 2, 16, generator=generator),
        },
        **SINGLE,
    ),
    "hunyuan_image_21": Tiny(
        "HunyuanImage21",
        HUNYUAN | {
            "in_channels": 64, "out_channels": 64, "patch_size": [1, 1], "axes_dim": [8, 8], "vec_in_dim": None,
            "guidance_embed": False,
        },
        (1, 64, 2, 4), (3, 12), **DOUBLE,
    ),
    "cosmos_predict2": Tiny("CosmosT2IPredict2", COSMOS, (1, 16, 1, 4, 4), (3, 12), **SINGLE),
    "anima": Tiny(
        "Anima", COSMOS | {"image_model": "anima"}, (1, 16, 1, 4, 4), (3, 12),
        stand_ins={"llm_adapter": torch.nn.Identity()}, **SINGLE,
    ),
}
