"""PSNR and SSIM against scikit-image, LPIPS against its formula worked out anew from other people's weights."""

from __future__ import annotations

import math
import pickle
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lemica.calibration.quality import (
    LpipsUnavailable,
    Quality,
    QualityError,
    load_lpips,
    measure,
    measure_frames,
    over_clip,
)
from lemica.workflows.environment import cache_root
from lpips_trunk import (
    LAYERS,
    NumpyUnpickler,
    TrunkError,
    alexnet_tree,
    alexnet_trunk,
    hub_with_trunk,
    hub_without_network,
)
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


def clip(frames: int = 3, height: int = 40, width: int = 56, channels: int = 3) -> torch.Tensor:
    """Smooth moving waves, a little rough, values 0..1."""
    t, y, x = torch.meshgrid(*(torch.arange(float(n)) for n in (frames, height, width)), indexing="ij")
    waves = [torch.sin(x / (5 + c) + t) * torch.cos(y / 7 - c * t / 2) for c in range(channels)]
    return (0.5 + 0.4 * torch.stack(waves, -1) + rough(frames, height, width, channels, seed=9) / 50).clamp(0, 1)


def rough(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def noisy(frames: torch.Tensor, amount: float) -> torch.Tensor:
    return (frames + amount * rough(*frames.shape)).clamp(0, 1)


@pytest.fixture(scope="session")
def network() -> torch.nn.Module:
    return load_lpips(trunk=alexnet_trunk(cache_root() / "lpips"))


def test_psnr_and_ssim_are_those_of_scikit_image():
    reference = clip()
    frames = noisy(reference, 0.05)
    measured = measure_frames(frames, reference)
    for quality, one, other in zip(measured, frames.double().numpy(), reference.double().numpy(), strict=True):
        assert quality.psnr == pytest.approx(peak_signal_noise_ratio(other, one, data_range=1), abs=1e-3)
        ssim = structural_similarity(
            other, one, data_range=1, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert quality.ssim == pytest.approx(ssim, abs=1e-5)
        assert quality.lpips is None
    whole = measure(frames, reference)
    assert whole.psnr == pytest.approx(peak_signal_noise_ratio(reference.numpy(), frames.numpy(), data_range=1), 1e-5)
    assert whole.ssim == pytest.approx(np.mean([quality.ssim for quality in measured]))


def test_the_very_same_frames(network):
    assert measure(clip(), clip(), network) == Quality(math.inf, 1.0, 0.0)


def test_one_changed_frame_leaves_the_clip_finite():
    frames = clip()
    frames[1] = noisy(frames[1], 0.1)
    qualities = measure_frames(frames, clip())
    assert [math.isinf(quality.psnr) for quality in qualities] == [True, False, True]
    assert over_clip(qualities).psnr == pytest.approx(qualities[1].psnr + 10 * math.log10(3))


def test_more_noise_is_further_away_by_every_figure(network):
    reference = clip(frames=2, height=64, width=80)
    steps = [measure(noisy(reference, amount), reference, network) for amount in (0.01, 0.03, 0.1, 0.3)]
    for nearer, further in zip(steps, steps[1:], strict=False):
        assert nearer.psnr > further.psnr and nearer.ssim > further.ssim and nearer.lpips < further.lpips


def test_alpha_does_not_count_and_half_precision_does():
    reference = clip(channels=4)
    other = noisy(reference[..., :3], 0.1)
    assert measure(torch.cat((other, torch.zeros(*other.shape[:3], 1)), -1), reference) == measure(
        other, reference[..., :3]
    )
    assert measure(other.half(), reference).psnr == pytest.approx(measure(other, reference).psnr, abs=0.01)


def test_done_counts_the_frames():
    seen: list[int] = []
    measure_frames(clip(), clip(), done=seen.append)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize(
    "frames, told",
    [
        (clip(frames=2), r"frames are 2 of 56x40 pixels, their reference is 3 of 56x40.*same latent"),
        (clip(width=48), "3 of 48x40"),
        (clip()[:0], "empty batch"),
        (clip()[0], r"shape \[40, 56, 3\]"),
        (clip(channels=2), "3 or 4"),
        ((clip() * 255).byte(), "uint8"),
        (clip(height=8), "11 pixels"),
        (torch.where(torch.arange(3)[:, None, None, None] == 1, torch.nan, clip()), "1 of 3 frames.*first is number 2"),
        (clip() / 0, "3 of 3 frames"),
    ],
)
def test_what_cannot_be_compared_is_told(frames, told):
    with pytest.raises(QualityError, match=told):
        measure(frames, clip())


def by_formula(one: torch.Tensor, other: torch.Tensor) -> float:
    """LPIPS as its paper has it, eq. 1, from the weights of the JAX package; images [3, height, width] of -1..1."""
    tree = alexnet_tree(cache_root() / "lpips")
    mean, deviation = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    strides, paddings, pooled = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1), (False, True, True, False, False)
    x = torch.stack([(image - mean[:, None, None]) / deviation[:, None, None] for image in (one, other)])
    distance = 0.0
    for layer, (stride, padding, pool) in enumerate(zip(strides, paddings, pooled, strict=True)):
        convolution = tree["AlexNet_0"][f"Conv_{layer}"]
        kernel = torch.tensor(convolution["kernel"]).permute(3, 2, 0, 1)
        x = F.max_pool2d(x, 3, 2) if pool else x
        x = F.conv2d(x, kernel, torch.tensor(convolution["bias"]), stride, padding).relu()
        unit = x / (x.norm(dim=1, keepdim=True) + 1e-10)
        weight = torch.tensor(tree[f"NetLinLayer_{layer}"]["Conv_0"]["kernel"]).flatten()
        distance += float((weight[:, None, None] * (unit[0] - unit[1]) ** 2).sum(0).mean())
    return distance


def test_lpips_is_what_its_formula_gives(network):
    reference = clip(frames=2, height=96, width=72)
    for frames in (noisy(reference, 0.1), reference.flip(0), torch.rand(2, 96, 72, 3)):
        for quality, one, other in zip(measure_frames(frames, reference, network), frames, reference, strict=True):
            expected = by_formula(2 * one.movedim(-1, 0) - 1, 2 * other.movedim(-1, 0) - 1)
            assert quality.lpips == pytest.approx(expected, rel=1e-4)


def test_small_frames_are_enlarged_for_lpips_in_proportion(network):
    reference = clip(frames=1, height=16, width=40)
    frames = noisy(reference, 0.1)
    large = [
        F.interpolate(batch.movedim(-1, 1), (64, 160), mode="bilinear").movedim(1, -1) for batch in (frames, reference)
    ]
    assert measure(frames, reference, network).lpips == pytest.approx(measure(*large, network).lpips)


def test_loading_is_silent_leaves_the_random_numbers_alone_and_trains_nothing(capfd, recwarn):
    trunk = alexnet_trunk(cache_root() / "lpips")
    before = torch.random.get_rng_state()
    network = load_lpips(trunk=trunk)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert capfd.readouterr() == ("", "") and not recwarn.list
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())
    for name, weight in network.net.state_dict().items():
        assert torch.equal(weight, trunk["features." + name.split(".", 1)[1]])


def test_the_vgg_trunk_goes_to_its_places():
    from torchvision.models import vgg16

    with torch.device("meta"):
        shapes = {name: value.shape for name, value in vgg16().state_dict().items() if name.startswith("features.")}
    trunk = {name: torch.full(shape, float(number)) for number, (name, shape) in enumerate(shapes.items())}
    convolutions = load_lpips("vgg", trunk).net.state_dict()
    assert {"features." + name.split(".", 1)[1]: float(value.mean()) for name, value in convolutions.items()} == {
        name: float(number) for number, name in enumerate(shapes)
    }


def test_the_trunk_in_the_hub_folder_is_taken(network, tmp_path, monkeypatch):
    hub_with_trunk(alexnet_trunk(cache_root() / "lpips"), tmp_path, monkeypatch)
    assert measure(noisy(clip(), 0.1), clip(), load_lpips()) == measure(noisy(clip(), 0.1), clip(), network)


def test_a_trunk_out_of_reach_is_told_with_where_it_belongs(tmp_path, monkeypatch):
    file = hub_without_network(tmp_path, monkeypatch)
    with pytest.raises(LpipsUnavailable, match="https://download.pytorch.org/models/.*put it at") as error:
        load_lpips()
    assert str(file) in str(error.value)


def test_a_broken_file_in_the_hub_folder_is_told(tmp_path, monkeypatch):
    file = hub_without_network(tmp_path, monkeypatch)
    for content in (b"PK\x03\x04 half a file", b"", b"\x80\x02}q\x00"):
        file.write_bytes(content)
        with pytest.raises(LpipsUnavailable, match="cannot be had"):
            load_lpips()


def test_without_the_package_it_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(LpipsUnavailable, match="Install lpips, version 0.1.4 or later, into the Python that runs ComfyUI"):
        load_lpips()


def test_an_unknown_network_is_told_with_the_known_ones():
    with pytest.raises(QualityError, match="'resnet'.*alex, vgg"):
        load_lpips("resnet")


def test_the_weights_of_the_tests_are_checked_and_run_no_code(tmp_path):
    (tmp_path / "alexnet.ckpt").write_bytes(b"other weights")
    with pytest.raises(TrunkError, match="sha256"):
        alexnet_trunk(tmp_path)
    (evil := tmp_path / "evil").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with evil.open("rb") as stream, pytest.raises(pickle.UnpicklingError, match="os.system is no part of an array"):
        NumpyUnpickler(stream).load()
    assert len(alexnet_trunk(cache_root() / "lpips")) == 2 * len(LAYERS)
