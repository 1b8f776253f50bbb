"""How near the frames of an accelerated run come to the full run's: PSNR, SSIM and LPIPS."""

from __future__ import annotations

import hashlib
import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
import torch.nn.functional as F
from kornia.metrics import psnr, ssim
from torch import Tensor

SSIM_WINDOW = 11
"""Taps of the Gaussian window, sigma 1.5 pixels, as in Wang et al. 2004."""
LPIPS_SIDE = 64
"""The shorter side, in pixels, below which frames are enlarged for LPIPS: its trunk halves them five times."""
TRUNKS = {"alex": "alexnet", "vgg": "vgg16"}
"""The networks of LPIPS, and what torchvision calls their trunks."""


class QualityError(ValueError):
    """Frames that cannot be compared."""


class LpipsUnavailable(QualityError):
    """The lpips package or the weights of its trunk cannot be had."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How near frames come to their reference.

    ``psnr`` in dB for values 0..1, infinite for the very same frames; ``ssim`` at most 1, higher is nearer; ``lpips``
    at least 0, lower is nearer, None where it was not measured.
    """

    psnr: float
    ssim: float
    lpips: float | None


def measure(frames: Tensor, reference: Tensor, lpips_net: torch.nn.Module | None = None) -> Quality:
    """The quality of a whole clip; arguments and errors as for `measure_frames`."""
    return over_clip(measure_frames(frames, reference, lpips_net))


def measure_frames(
    frames: Tensor,
    reference: Tensor,
    lpips_net: torch.nn.Module | None = None,
    done: Callable[[int], None] | None = None,
) -> list[Quality]:
    """The quality of every frame.

    Takes two batches [frames, height, width, channels] of one size, values 0..1; of four channels the first three
    count. Measures LPIPS where the network for it is given, on the network's device; `done` is told after each frame
    how many are measured.

    Raises:
        QualityError: the batches differ in size, are empty, too small, not images, or not finite.
    """
    frames, reference = _images(frames, "frames"), _images(reference, "reference")
    if frames.shape != reference.shape:
        raise QualityError(
            f"The frames are {_size(frames)}, their reference is {_size(reference)}: only equal sizes can be compared. "
            "Give both runs the same latent, and decode both in the same way."
        )
    device = frames.device if lpips_net is None else next(lpips_net.parameters()).device
    measured = []
    for pair in zip(frames, reference, strict=True):
        one, other = (image.to(device, torch.float32).movedim(-1, 0)[None].contiguous() for image in pair)
        measured.append(
            Quality(
                psnr=float(psnr(one, other, 1.0)),
                ssim=float(ssim(one, other, SSIM_WINDOW, eps=0.0, padding="valid").mean()),
                lpips=None if lpips_net is None else float(lpips_net(_for_lpips(one), _for_lpips(other))),
            )
        )
        if done:
            done(len(measured))
    return measured


def over_clip(frames: Sequence[Quality]) -> Quality:
    """The quality of a clip from that of its frames: PSNR of the mean squared error, mean SSIM, mean LPIPS."""
    error = fmean(10 ** (-frame.psnr / 10) for frame in frames)
    distances = [frame.lpips for frame in frames if frame.lpips is not None]
    return Quality(
        psnr=-10 * math.log10(error) if error else math.inf,
        ssim=fmean(frame.ssim for frame in frames),
        lpips=fmean(distances) if distances else None,
    )


def load_lpips(net: str = "alex", trunk: Mapping[str, Tensor] | None = None) -> torch.nn.Module:
    """The LPIPS network, on the CPU: called with two batches [n, 3, height, width] of -1..1, gives [n, 1, 1, 1].

    The calibrated layers come with the lpips package. The trunk is torchvision's ImageNet one, fetched at first use
    into torch hub's cache folder, unless its state dict ("features.0.weight" and so on) is given.

    Raises:
        LpipsUnavailable: lpips is not installed, or the trunk cannot be fetched.
        QualityError: LPIPS has no such network.
    """
    if net not in TRUNKS:
        raise QualityError(f"LPIPS has no network {net!r} here; choose one of {', '.join(TRUNKS)}.")
    try:
        import lpips
    except ImportError as error:
        raise LpipsUnavailable(
            f"LPIPS needs the Python package lpips, which cannot be imported ({error}). Install lpips, version 0.1.4 or "
            f"later, into the Python that runs ComfyUI, {sys.executable}; PSNR and SSIM need nothing."
        ) from error
    if trunk is None:
        trunk = _fetch_trunk(TRUNKS[net])
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # its trunk starts from random weights
        warnings.filterwarnings("ignore", module="torchvision.models._utils")
        module = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    names = module.net.state_dict()  # slice2.3.weight is torchvision's features.3.weight
    module.net.load_state_dict({name: trunk["features." + name.split(".", 1)[1]] for name in names})
    return module.requires_grad_(False).train(False)


def _fetch_trunk(model: str) -> Mapping[str, Tensor]:
    from torchvision.models import get_model_weights

    url = get_model_weights(model).DEFAULT.url
    file = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    by_hand = f"Fetch {url} by other means and put it at {file}."
    digest = file.stem.rpartition("-")[2]
    if file.is_file() and not hashlib.sha256(file.read_bytes()).hexdigest().startswith(digest):
        raise LpipsUnavailable(f"The trunk of LPIPS cannot be had: {file.name} is cut short, or another file. {by_hand}")
    try:
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # no way there, or other content there
        raise LpipsUnavailable(f"The trunk of LPIPS cannot be had ({error}). {by_hand}") from error


def _images(batch: Tensor, name: str) -> Tensor:
    """The batch without its alpha channel, once it is known to be one."""
    if batch.ndim != 4 or batch.shape[-1] not in (3, 4) or not batch.is_floating_point():
        raise QualityError(
            f"The {name} are {batch.dtype} of shape {list(batch.shape)}, expected floating point "
            "[frames, height, width, 3 or 4]: give them as ComfyUI's IMAGE."
        )
    if not len(batch):
        raise QualityError(f"The {name} are an empty batch: give at least one.")
    if min(batch.shape[1:3]) < SSIM_WINDOW:
        raise QualityError(
            f"The {name} are {_size(batch)}, and SSIM needs {SSIM_WINDOW} pixels each way: make them larger."
        )
    finite = torch.isfinite(batch).flatten(1).all(1)
    if not finite.all():
        broken = [number for number, fine in enumerate(finite.tolist(), 1) if not fine]
        raise QualityError(
            f"{len(broken)} of {len(batch)} {name} hold values that are not finite, the first is number {broken[0]}. "
            "Look for black pictures; a VAE that overflows runs with --fp32-vae."
        )
    return batch[..., :3]


def _size(batch: Tensor) -> str:
    return f"{batch.shape[0]} of {batch.shape[2]}x{batch.shape[1]} pixels"


def _for_lpips(image: Tensor) -> Tensor:
    scale = LPIPS_SIDE / min(image.shape[2:])
    if scale > 1:
        size = [max(LPIPS_SIDE, round(side * scale)) for side in image.shape[2:]]
        image = F.interpolate(image, size, mode="bilinear", align_corners=False)
    return 2 * image - 1
