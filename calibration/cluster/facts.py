"""What driver and worker must have in common, and the comparison of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...schedules.atomic import write_atomically

PACK = Path(__file__).resolve().parents[2]
CODE = ("cache", "calibration", "nodes", "schedules")
BLOCK = 1 << 22


def pack_version() -> str:
    """The pack's version with a digest of its code, like ``0.1.0 (5f0c2a19)``."""
    digest = hashlib.sha256()
    for folder in CODE:
        for file in sorted((PACK / folder).rglob("*.py")):
            digest.update(file.relative_to(PACK).as_posix().encode())
            digest.update(file.read_bytes().replace(b"\r\n", b"\n"))
    return f"{_declared_version()} ({digest.hexdigest()[:8]})"


def _declared_version() -> str:
    for line in (PACK / "pyproject.toml").read_text(encoding="utf-8").splitlines():
        if line.startswith("version"):
            return line.split("=")[1].strip().strip('"')
    raise ValueError(f"{PACK / 'pyproject.toml'} names no version: install the pack again.")


def file_digest(path: Path, remembered: Path | None = None) -> str:
    """The SHA-256 of a file.

    ``remembered``: a folder where digests are kept by path, size and time of change, as reading a checkpoint takes long.
    """
    about = path.stat()
    key = hashlib.sha256(f"{path.resolve()}\n{about.st_size}\n{about.st_mtime_ns}".encode()).hexdigest()[:32]
    note = None if remembered is None else remembered / f"{key}.sha256"
    if note is not None and note.exists():
        return note.read_text(encoding="ascii")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if note is not None:
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, digest.hexdigest().encode())
    return digest.hexdigest()


def facts(comfyui: str, files: Iterable[tuple[str, Path]], remembered: Path | None = None) -> dict[str, str]:
    """What has to be the same: the pack, ComfyUI, and every file that the model is made from, by its name."""
    found = {name: file_digest(path, remembered) for name, path in files}
    return {"the pack": pack_version(), "ComfyUI": comfyui, **found}


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Every fact that differs, in words; empty where both are alike."""
    told = []
    for name in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(name), theirs.get(name)
        if here != there:
            told.append(f"{name} is {_short(there)} there, {_short(here)} here")
    return told


def _short(value: str | None) -> str:
    if value is None:
        return "missing"
    return f"{value[:12]}..." if len(value) == 64 else value
