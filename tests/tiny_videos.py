"""Tiny models of the families that make videos, sound and meshes."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from tiny_spec import DOUBLE, HUNYUAN, SINGLE, VIDEO, Tiny, all_of, full_mask, pooled, references, tensors


class MotionStandIn(torch.nn.Module):
    """For Wan Animate's motion encoder, which takes faces of 512 pixels."""

    def get_motion(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(pixels, (2, 8))[:, 0].flatten(1)


class LyricStandIn(torch.nn.Module):
    """For ACE-Step's encoder of lyrics."""

    def forward(self, embedded: torch.Tensor, *args, **kwargs) -> tuple[torch.Tensor, None]:
        return embedded, None


WAN = {
    "image_model": "wan2.1", "model_type": "t2v", "dim": 32, "ffn_dim": 32, "num_heads": 2, "num_layers": 2,
    "text_dim": 12, "in_dim": 16, "out_dim": 16, "freq_dim": 16,
}
LTX = {
    "image_model": "ltxv", "in_channels": 128, "cross_attention_dim": 32, "attention_head_dim": 16,
    "num_attention_heads": 2, "caption_channels": 12, "num_layers": 2,
}
LTXAV = LTX | {
    "image_model": "ltxav", "audio_in_channels": 128, "audio_cross_attention_dim": 16, "audio_attention_head_dim": 8,
    "audio_num_attention_heads": 2, "connector_attention_head_dim": 4, "connector_num_attention_heads": 2,
    "connector_num_layers": 1,
}
KANDINSKY = {
    "image_model": "kandinsky5", "in_text_dim": 12, "in_text_dim2": 8, "time_dim": 16, "model_dim": 32, "ff_dim": 32,
    "visual_embed_dim": 132, "num_visual_blocks": 2, "axes_dims": (4, 6, 6),
}
MOCHI = {
    "image_model": "mochi_preview", "depth": 2, "patch_size": 2, "num_heads": 2, "hidden_size_x": 32,
    "hidden_size_y": 16, "mlp_ratio_x": 384.0, "mlp_ratio_y": 2.0, "learn_sigma": False, "in_channels": 12,
    "qk_norm": True, "qkv_bias": False, "out_bias": True, "attn_drop": 0.0, "patch_embed_bias": True,
    "posenc_preserve_area": True, "timestep_mlp_bias": True, "attend_to_padding": False, "timestep_scale": 1000.0,
    "use_t5": True, "t5_feat_dim": 16, "t5_token_length": 3,
}
WAN_BLOCKS = SINGLE | {"head": ("head",)}

VIDEOS = {
    "hunyuan_video": Tiny("HunyuanVideo", HUNYUAN, VIDEO, (3, 12), extras=pooled(8), **DOUBLE),
    "hunyuan_video_reference": Tiny(
        "HunyuanVideo", HUNYUAN, VIDEO, (3, 12), extras=all_of(pooled(8), tensors(ref_latent=(1, 16, 1, 4, 4))),
        cut=lambda tokens, head: tokens[:, -head.shape[1] :], cfg=1.0, **DOUBLE,
    ),
    "wan21_t2v": Tiny("WAN21_T2V", WAN, VIDEO, (3, 12), **WAN_BLOCKS),
    "wan21_i2v": Tiny("WAN21_I2V", WAN | {"model_type": "i2v", "in_dim": 36}, VIDEO, (3, 12), **WAN_BLOCKS),
    "wan22_5b": Tiny("WAN22_T2V", WAN | {"in_dim": 48, "out_dim": 48}, (1, 48, 2, 4, 4), (3, 12), **WAN_BLOCKS),
    "wan21_vace": Tiny(
        "WAN21_Vace", WAN | {"model_type": "vace", "num_layers": 4, "vace_layers": 2, "vace_in_dim": 96}, VIDEO,
        (3, 12), extras=lambda generator: {"vace_frames": [torch.randn(1, 32, 2, 4, 4, generator=generator)]},
        **WAN_BLOCKS,
    ),
    "wan22_camera": Tiny(
        "WAN22_Camera", WAN | {"model_type": "camera_2.2"}, VIDEO, (3, 12),
        extras=tensors(camera_conditions=(1, 24, 2, 32, 32)), **WAN_BLOCKS,
    ),
    "wan22_s2v": Tiny(
        "WAN22_S2V", WAN | {"model_type": "s2v", "audio_dim": 16, "audio_inject_layers": [0, 1]}, VIDEO, (3, 12),
        extras=all_of(references((1, 16, 1, 4, 4)), tensors(audio_embed=(1, 25, 16, 8), control_video=VIDEO)),
        **WAN_BLOCKS,
    ),
    "wan21_humo": Tiny(
        "WAN21_HuMo", WAN | {"model_type": "humo"}, VIDEO, (3, 12),
        extras=all_of(references((1, 16, 1, 4, 4)), tensors(audio_embed=(1, 2, 8, 5, 1280))), **WAN_BLOCKS,
    ),
    "wan21_scail": Tiny(
        "WAN21_SCAIL", WAN | {"model_type": "scail", "in_dim": 20}, VIDEO, (3, 12),
        extras=all_of(references((1, 16, 1, 4, 4)), tensors(pose_video_latent=(1, 16, 2, 2, 2))), **WAN_BLOCKS,
    ),
    "wan21_scail2": Tiny(
        "WAN21_SCAIL2", WAN | {"model_type": "scail2", "in_dim": 20}, VIDEO, (3, 12),
        extras=all_of(
            references((1, 16, 1, 4, 4)),
            tensors(
                pose_video_latent=(1, 16, 2, 2, 2), driving_mask_28ch=(1, 2, 28, 2, 2), ref_mask_28ch=(1, 3, 28, 4, 4)
            ),
        ),
        **WAN_BLOCKS,
    ),
    "wan22_animate": Tiny(
        "WAN22_Animate", WAN | {"model_type": "animate", "num_layers": 5, "motion_encoder_dim": 16}, VIDEO, (3, 12),
        extras=tensors(face_video_pixels=(1, 3, 5, 16, 16), pose_video_latent=(1, 16, 1, 4, 4)),
        stand_ins={"motion_encoder": MotionStandIn()}, **WAN_BLOCKS,
    ),
    "wan_animate2": Tiny(
        "WAN_Animate2", WAN | {"model_type": "animate2", "in_dim": 36}, (1, 16, 3, 4, 4), (3, 12),
        extras=tensors(pose_video_latent=VIDEO), network="WanAnimate2Model", method="forward_gen", **WAN_BLOCKS,
    ),
    "wan22_dancer": Tiny(
        "WAN22_WanDancer",
        WAN | {
            "model_type": "wandancer", "audio_inject_layers": [0], "music_dim": 16, "music_heads": 2,
            "music_feature_dim": 12, "music_latent_dim": 16,
        },
        (1, 16, 2, 8, 4), (3, 12), extras=all_of(tensors(audio_embed=(1, 9, 12)), lambda generator: {"fps": 20.0}),
        block="blocks.0", tokens=0, head=("head_global",),
    ),
    "hunyuan_video_15": Tiny(
        "HunyuanVideo15",
        HUNYUAN | {
            "in_channels": 65, "out_channels": 32, "patch_size": [1, 1, 1], "vec_in_dim": None, "guidance_embed": False,
            "depth_single_blocks": 0, "use_cond_type_embedding": True, "vision_in_dim": 8, "meanflow_sum": True,
        },
        (1, 32, 2, 2, 2), (3, 12),
        extras=all_of(pooled(8), lambda generator: {
            "clip_vision_output": SimpleNamespace(last_hidden_state=torch.randn(1, 2, 8, generator=generator))
        }),
        **DOUBLE,
    ),
    "ltxv": Tiny(
        "LTXV", LTX, (1, 128, 2, 2, 2), (3, 12), "transformer_blocks.0", 0, ("norm_out",), extras=full_mask(3)
    ),
    "ltx2": Tiny(
        "LTXAV", LTXAV, ((1, 128, 2, 2, 2), (1, 8, 3, 16)), (3, 24), "transformer_blocks.0", 0,
        ("norm_out", "audio_norm_out"), extras=full_mask(3),
    ),
    "cogvideox": Tiny(
        "CogVideoX_T2V",
        {
            "image_model": "cogvideox", "num_attention_heads": 1, "time_embed_dim": 16, "text_embed_dim": 12,
            "num_layers": 2, "use_rotary_positional_embeddings": True, "sample_width": 4, "sample_height": 4,
            "sample_frames": 5,
        },
        VIDEO, (3, 12), "blocks.0", "hidden_states", ("norm_final",),
    ),
    "kandinsky5": Tiny(
        "Kandinsky5", KANDINSKY, VIDEO, (3, 12), "visual_transformer_blocks.0", 0, ("out_layer",), pooled(8)
    ),
    "mochi": Tiny("GenmoMochi", MOCHI, (1, 12, 2, 4, 4), (3, 16), extras=full_mask(3), **SINGLE),
    "hunyuan3d_2": Tiny(
        "Hunyuan3Dv2",
        {
            "image_model": "hunyuan3d2", "in_channels": 64, "context_in_dim": 12, "hidden_size": 32, "num_heads": 2,
            "mlp_ratio": 2.0, "depth": 2, "depth_single_blocks": 2,
        },
        (1, 64, 6), (3, 12), **DOUBLE,
    ),
    "ace_step": Tiny(
        "ACEStep",
        {
            "audio_model": "ace", "num_layers": 2, "inner_dim": 32, "attention_head_dim": 16, "num_attention_heads": 2,
            "mlp_ratio": 2.0, "text_embedding_dim": 12, "ssl_latent_dims": [8], "lyric_encoder_vocab_size": 16,
            "lyric_hidden_size": 8,
        },
        (1, 8, 16, 6), (3, 12), "transformer_blocks.0", "hidden_states",
        extras=lambda generator: {"conditioning_lyrics": torch.randint(0, 16, (1, 4), generator=generator)},
        stand_ins={"lyric_encoder": LyricStandIn()},
    ),
    "stable_audio_3": Tiny(
        "StableAudio3",
        {
            "audio_model": "dit1.0", "io_channels": 256, "embed_dim": 64, "depth": 2, "num_heads": 1,
            "cond_token_dim": 768, "project_cond_tokens": True, "global_cond_dim": 768, "num_memory_tokens": 2,
            "global_cond_type": "adaLN", "global_cond_shared_embed": True, "local_add_cond_dim": 257,
            "timestep_features_type": "expo",
        },
        (1, 256, 8), (3, 768), "transformer.layers.0", 0, ("transformer.project_out",),
        cut=lambda tokens, head: tokens[:, -head.shape[1] :],
        checkpoint={
            "conditioner.conditioners.seconds_total.embedder.embedding.1.weight": (768, 256),
            "conditioner.conditioners.seconds_total.embedder.embedding.1.bias": (768,),
        },
    ),
    "hunyuan3d_21": Tiny(
        "Hunyuan3Dv2_1",
        {
            "image_model": "hunyuan3d2_1", "in_channels": 64, "hidden_size": 32, "context_dim": 12, "depth": 4,
            "num_heads": 2, "num_moe_layers": 1, "num_experts": 2, "moe_top_k": 1, "guidance_cond_proj_dim": 8,
        },
        (1, 64, 6), (3, 12), **SINGLE,
    ),
    "ace_step_15": Tiny(
        "ACEStep15",
        {
            "audio_model": "ace1.5", "hidden_size": 32, "text_hidden_dim": 12, "num_dit_layers": 2,
            "num_lyric_layers": 1, "num_timbre_layers": 1, "num_tokenizer_layers": 1, "num_heads": 2,
            "num_kv_heads": 1, "head_dim": 16, "intermediate_size": 32, "encoder_hidden_size": 32,
            "encoder_intermediate_size": 32, "encoder_num_heads": 2, "fsq_dim": 32,
        },
        (1, 64, 10), (3, 12), "decoder.layers.0", "hidden_states", ("decoder.norm_out",),
        extras=lambda generator: {
            "conditioning_lyrics": torch.randn(1, 4, 12, generator=generator),
            "reference_audio_timbre_latents": [torch.randn(1, 64, 10, generator=generator)],
        },
    ),
}

OUTPUT_ALONE = {
    "minimax_h3": Tiny(
        "MiniMaxH3",
        {
            "image_model": "minimax_h3", "hidden_size": 64, "num_layers": 2, "token_refiner_num_layers": 1,
            "num_attention_heads": 2, "attention_head_dim": 32, "ffn_hidden_size": 64, "text_dim": 12,
            "timestep_input_dim": 16, "time_embed_hidden_size": 32, "time_embed_dim": 16, "rope_inv_freq_len": 4,
        },
        ((1, 24, 2, 4, 4), (1, 32, 2, 5)), (3, 12), "blocks.0", 0, ("final_layer",),
    ),
}
"""Models on which residual rules run on the output."""
