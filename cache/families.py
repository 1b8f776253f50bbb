"""Where each transformer of ComfyUI keeps its blocks: one entry a diffusion model class.

An entry names the lists of blocks in the order of their run, the argument that carries the tokens into the first block
and the module that takes them after the last one. Whatever a forward does between its blocks (ControlNet, VACE hints,
audio and face adapters) happens between these two places and so belongs to the residual. Refiners of the text or of
the noise that come before the main lists count as embedders and run at every step.

No entry, so output rules alone, have:

- UNets (SD 1.5, SDXL, SVD) and Stable Cascade: they are no stack, their levels feed each other across.
- MiniMaxMusic3DiT: a long piece passes its blocks window by window in one evaluation.
- Trellis2: its tokens are sparse and it holds several models.
- GeneralDIT (Cosmos 1): its tokens carry the batch in their last place but one, and its blocks are a dict.
- CausalWanModel and HiDreamO1Transformer: they keep keys and values that every call must add to or read.
- PixDiT_T2I, PidNet: two stacks of different tokens with a modulation between.
- NaDiT (SeedVR2), MiniMaxH3Model: tokens without a batch dimension.
- LatentSeqMMFlowModel (TripoSplat): no module takes the tokens after the blocks, and two parts of them leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class StackFamily:
    """How to find the block stack of one class of diffusion model; names may be dotted.

    Args:
        diffusion_model: the exact name of the class.
        lists: its lists of blocks.
        tokens: the place or the name of the first block's argument that carries the tokens, the image's where text has
            tokens of its own.
        heads: the modules that take the tokens after the blocks, as first argument: one for each stream or, with one
            stream, whichever the forward calls. Empty where there is no such module: then the last list's blocks take
            and return the tokens.
        part: which part of a longer sequence the tokens are at one of the two places: text goes before the image or
            after it, reference tokens are cut off before the head.
        streams: how many token tensors the argument holds, each with a residual of its own.
        method: of the first block that is called with the tokens.
    """

    diffusion_model: str
    lists: tuple[str, ...]
    tokens: int | str
    heads: tuple[str, ...]
    part: Literal["all", "first", "last"] = "all"
    streams: int = 1
    method: str = "forward"


_DOUBLE_SINGLE = ("double_blocks", "single_blocks")

FAMILIES = {
    family.diffusion_model: family
    for family in (
        # Wan 2.1 and 2.2
        StackFamily("WanModel", ("blocks",), 0, ("head",)),
        StackFamily("VaceWanModel", ("blocks",), 0, ("head",)),
        StackFamily("CameraWanModel", ("blocks",), 0, ("head",)),
        StackFamily("WanModel_S2V", ("blocks",), 0, ("head",)),
        StackFamily("HumoWanModel", ("blocks",), 0, ("head",)),
        StackFamily("SCAILWanModel", ("blocks",), 0, ("head",)),
        StackFamily("SCAIL2WanModel", ("blocks",), 0, ("head",)),
        StackFamily("AnimateWanModel", ("blocks",), 0, ("head",)),
        StackFamily("WanAnimate2Model", ("blocks",), 0, ("head",), method="forward_gen"),
        StackFamily("WanDancerModel", ("blocks",), 0, ("head", "head_global")),
        # FLUX.1, FLUX.2, LongCat-Image and what is built like them
        StackFamily("Flux", _DOUBLE_SINGLE, "img", ("final_layer",)),
        StackFamily("Chroma", _DOUBLE_SINGLE, "img", ("final_layer",)),
        StackFamily("ChromaRadiance", _DOUBLE_SINGLE, "img", (), part="last"),
        StackFamily("Hunyuan3Dv2", _DOUBLE_SINGLE, "img", ("final_layer",)),
        # HunyuanVideo, HunyuanVideo 1.5, HunyuanImage 2.1; its reference latents go before the image
        StackFamily("HunyuanVideo", _DOUBLE_SINGLE, "img", ("final_layer",), part="last"),
        # Qwen-Image and Qwen-Image-Edit
        StackFamily("QwenImageTransformer2DModel", ("transformer_blocks",), "hidden_states", ("norm_out",)),
        StackFamily("MageFlowTransformer2DModel", ("transformer_blocks",), "hidden_states", ("norm_out",)),
        StackFamily("LensTransformer2DModel", ("transformer_blocks",), "hidden_states", ("norm_out",)),
        # JoyImage cuts its reference latents, which come last, off before the head
        StackFamily("JoyImageTransformer3DModel", ("double_blocks",), "hidden_states", ("norm_out",), part="first"),
        # Lumina 2, Z-Image
        StackFamily("NextDiT", ("layers",), 0, ("final_layer",)),
        StackFamily("NextDiTPixelSpace", ("layers",), 0, ()),
        # SD3, SD3.5
        StackFamily("OpenAISignatureMMDITWrapper", ("joint_blocks",), 1, ("final_layer",)),
        # AuraFlow
        StackFamily("MMDiT", ("double_layers", "single_layers"), 1, (), part="last"),
        # LTX-Video; LTX-2 with its two streams, video and audio
        StackFamily("LTXVModel", ("transformer_blocks",), 0, ("norm_out",)),
        StackFamily("LTXAVModel", ("transformer_blocks",), 0, ("norm_out", "audio_norm_out"), part="last", streams=2),
        StackFamily("ErnieImageModel", ("layers",), 0, ("final_norm",)),
        StackFamily("CogVideoXTransformer3DModel", ("blocks",), "hidden_states", ("norm_final",)),
        StackFamily(
            "HiDreamImageTransformer2DModel", ("double_stream_blocks", "single_stream_blocks"), "image_tokens",
            ("final_layer",),
        ),
        # Cosmos-Predict2, Anima
        StackFamily("MiniTrainDIT", ("blocks",), 0, ("final_layer",)),
        StackFamily("Anima", ("blocks",), 0, ("final_layer",)),
        StackFamily("Kandinsky5", ("visual_transformer_blocks",), 0, ("out_layer",)),
        StackFamily("SingleStreamDiT", ("blocks",), 0, ("last",)),  # Krea 2
        StackFamily("AsymmDiTJoint", ("blocks",), 0, ("final_layer",)),  # Mochi
        StackFamily("OmniGen2Transformer2DModel", ("layers",), 0, ("norm_out",)),
        StackFamily(
            "BooguTransformer2DModel", ("double_stream_layers", "single_stream_layers"), 0, ("norm_out",), part="last"
        ),
        StackFamily("Ideogram4Transformer2DModel", ("layers",), 0, ("final_layer",)),
        StackFamily("PixArtMS", ("blocks",), 0, ("final_layer",)),
        StackFamily("HunYuanDiT", ("blocks",), 0, ("final_layer",)),
        StackFamily("HunYuanDiTPlain", ("blocks",), 0, ("final_layer",)),  # Hunyuan3D 2.1
        StackFamily("ACEStepTransformer2DModel", ("transformer_blocks",), "hidden_states", ("final_layer",)),
        StackFamily("AceStepConditionGenerationModel", ("decoder.layers",), "hidden_states", ("decoder.norm_out",)),
        # Stable Audio; its memory tokens come first and are cut off before the head
        StackFamily(
            "AudioDiffusionTransformer", ("transformer.layers",), 0, ("transformer.project_out",), part="last"
        ),
    )
}
"""The diffusion model classes, by exact name, on which residual rules work."""
