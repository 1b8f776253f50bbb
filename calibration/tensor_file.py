"""Reads safetensors files of users: into memory, up to a size, and checked before numpy is asked for a shape.

Such a file is never mapped: one that somebody shortens while it is mapped ends the whole process (SIGBUS).
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..schedules.schedule import is_count, shown
from .segments import GraphError

MAX_HEADER = 33 << 20
"""Of a file: a description of 16 MiB takes up to twice as much where it is quoted."""

_TYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "U32": "<u4", "I32": "<i4", "F32": "<f4",
    "U64": "<u8", "I64": "<i8", "F64": "<f8",
}

Tensors = tuple[dict[str, str], dict[str, np.ndarray]]


def read_tensors(path: Path, most: int) -> Tensors:
    """The metadata of a safetensors file and its tensors by name, which cannot be written to.

    Raises:
        GraphError: it is no regular file of up to ``most`` bytes, or no safetensors file of types that numpy has.
        OSError: it cannot be read.
    """
    return parsed(_content(path, most))


def parsed(content: bytes) -> Tensors:
    """What ``read_tensors`` reads, of a file's content."""
    start = 8 + int.from_bytes(content[:8], "little")
    if len(content) < 8 or start > len(content):
        raise _broken("it ends before its header does")
    if start > MAX_HEADER:
        raise GraphError(f"its header has {start} bytes: it takes at most {MAX_HEADER}.")
    try:
        header = json.loads(content[8:start].decode())
    except (ValueError, RecursionError):
        raise _broken("its header is no JSON") from None
    if not isinstance(header, dict):
        raise _broken("its header is no object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _broken("its metadata are no texts")
    data = memoryview(content)[start:]
    tensors = {name: _tensor(name, entry, data) for name, entry in header.items()}
    # One after the other, as they are written: nothing is left over, and nothing stands for two.
    end = 0
    for begin, following in sorted(entry["data_offsets"] for entry in header.values()):
        if begin != end:
            raise _broken("its tensors do not lie side by side")
        end = following
    if end != len(data):
        raise _broken(f"its tensors take {end} of {len(data)} bytes")
    return metadata, tensors


def _content(path: Path, most: int) -> bytes:
    # Without waiting: opening a pipe that nobody writes to would take for ever.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            raise GraphError(f"this is not a regular file of up to {most} bytes.")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(status.st_size + 1)
    finally:
        os.close(handle)


def _tensor(name: str, entry: object, data: memoryview) -> np.ndarray:
    if not isinstance(entry, Mapping) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _broken(f"{shown(name)} is not told by type, shape and place")
    kind, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _TYPES:
        raise GraphError(f"{shown(name)} is of type {shown(kind)}: give one of {', '.join(_TYPES)}.")
    if not _counts(place) or len(place) != 2 or not place[0] <= place[1] <= len(data):
        raise _broken(f"{shown(name)} lies at {shown(place)} of {len(data)} bytes")
    # Sizes beside a 0 have to be such that numpy can count with them.
    if not _counts(shape) or len(shape) > 8 or math.prod(size or 1 for size in shape) > 1 << 32:
        raise _broken(f"{shown(name)} has the shape {shown(shape)}")
    dtype = np.dtype(_TYPES[kind])
    if math.prod(shape) * dtype.itemsize != place[1] - place[0]:
        raise _broken(f"{shown(name)} has the shape {shown(shape)} in {place[1] - place[0]} bytes")
    return np.ndarray(shape, dtype, data, place[0])


def _counts(values: object) -> bool:
    return isinstance(values, list) and all(is_count(value) and value >= 0 for value in values)


def _broken(why: str) -> GraphError:
    return GraphError(f"this is no safetensors file, or not all of one: {why}.")
