"""A UNet like SD 1.5's, of ComfyUI's own classes at tiny width with random weights, with a ControlNet and a T2I adapter."""

from __future__ import annotations

import comfy.cldm.cldm
import comfy.controlnet
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.supported_models
import comfy.t2i_adapter.adapter
import torch

WIDTH = 16
LATENT_SHAPE = (1, 4, 8, 8)
UNET = {
    "image_size": 8, "in_channels": 4, "model_channels": 32, "num_res_blocks": [2, 2], "channel_mult": (1, 2),
    "transformer_depth": [1, 1, 1, 1], "transformer_depth_middle": 1, "context_dim": WIDTH, "num_heads": 2,
    "use_spatial_transformer": True, "use_linear_in_transformer": False, "adm_in_channels": None, "legacy": False,
}


def weigh(module: torch.nn.Module, seed: int) -> None:
    """Random weights, large enough that conds and hints show."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim < 2:
            parameter.data = 0.1 * noise + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        else:
            parameter.data = noise / parameter[0].numel() ** 0.5


def make_unet(seed: int = 0):
    config = comfy.supported_models.SD15(
        UNET | {"out_channels": 4, "transformer_depth_output": [1] * 6, "use_temporal_attention": False}
    )
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device="cpu")
    weigh(model.diffusion_model, seed)
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.CoreModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))


def conditioning(seed: int) -> list:
    return [[torch.randn(1, 3, WIDTH, generator=torch.Generator().manual_seed(seed)), {}]]


def make_controlnet(seed: int = 5) -> comfy.controlnet.ControlNet:
    net = comfy.cldm.cldm.ControlNet(
        hint_channels=3, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init, **UNET
    )
    weigh(net, seed)
    return comfy.controlnet.ControlNet(net, load_device=comfy.model_management.get_torch_device())


def make_adapter(seed: int = 6) -> comfy.controlnet.T2IAdapter:
    net = comfy.t2i_adapter.adapter.Adapter(channels=[32, 64, 64, 64], cin=192, nums_rb=1, sk=True, xl=False)
    weigh(net, seed)
    return comfy.controlnet.T2IAdapter(net, net.input_channels, 8, "nearest-exact")


def hint(seed: int = 7) -> torch.Tensor:
    """An IMAGE of the latent's size."""
    return torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(seed))
