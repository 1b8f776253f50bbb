"""Broken, odd and hostile input for every parser, from a random generator: of bytes, JSON, safetensors files, forms."""

from __future__ import annotations

import json
import struct
from copy import deepcopy
from random import Random

import numpy as np
from route_requests import ODD_NAMES, form, schedule

NUMBERS = [
    0, 1, -1, 2, 3, 6, 7, 50, 1000, 10_000, 10_001, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e-320, 1e308,
    -1e308, 1.7976931348623157e308, float("nan"), float("inf"), float("-inf"),
]
TEXTS = [
    *ODD_NAMES, "auto", "linked", "taken", "mine", "measured", "more", "output hold", "residual linear", "output", "exact",
    "minimax", "slow", "custom", "schedule", "calibration", "lemica-demo", "<script>", "{}", "__proto__", "\u202e", "a" * 121,
]
RAW = [
    b"1e400", b"-1e999", b"NaN", b"-Infinity", b"9" * 5000, b"1" + b"0" * 300, b"[" * 2000, b'{"a":' * 2000, b"\xff", b"\x00",
    b'"\\ud800"',
]


def value(draw: Random, depth: int = 0) -> object:
    """Anything that JSON can hold."""
    kind = draw.randrange(10 if depth < 3 else 6)
    if kind < 3:
        return draw.choice(NUMBERS)
    if kind < 5:
        return draw.choice(TEXTS)
    if kind == 5:
        return draw.choice([None, True, False])
    if kind == 6:
        nested: object = draw.choice(NUMBERS)
        for _ in range(draw.choice([5, 39, 41, 100])):
            nested = [nested] if draw.random() < 0.5 else {"a": nested}
        return nested
    if kind == 7:
        return [value(draw, depth + 1) for _ in range(draw.randrange(4))]
    if kind == 8:
        return list(range(draw.choice([3, 60, 3000])))
    return {draw.choice(TEXTS)[:40]: value(draw, depth + 1) for _ in range(draw.randrange(4))}


def _places(data: object) -> list[tuple[object, object]]:
    """Every container with every key of it, down to a depth that repeated changes reach."""
    found, layer = [], [data]
    for _ in range(5):
        pairs = [
            (one, key) for one in layer if isinstance(one, dict | list)
            for key in (list(one) if isinstance(one, dict) else range(min(len(one), 40)))
        ]
        found += pairs
        layer = [one[key] for one, key in pairs]
    return found


def changed(draw: Random, data: object) -> object:
    """A JSON value with up to three of its parts replaced, removed, added or doubled."""
    data = deepcopy(data)
    for _ in range(draw.choice([0, 1, 1, 1, 2, 3])):
        places = _places(data)
        if not places or draw.random() < 0.02:
            return value(draw)
        container, key = draw.choice(places)
        how = draw.randrange(6)
        if how == 0:
            del container[key]
        elif how == 1 and isinstance(container, list):
            container.insert(key, value(draw))
        elif how == 1:
            container[draw.choice(TEXTS)] = value(draw)
        elif how == 2 and isinstance(container, list):
            container += container[: draw.choice([1, 3, 400])]
        elif how == 3 and type(container[key]) in (int, float) and abs(container[key]) < 1e9:
            container[key] += draw.choice([-1, 1, 0.5, 1e-9, -2, 100])
        else:
            container[key] = value(draw)
    return data


def cut(draw: Random, content: bytes) -> bytes:
    """Bytes with some flipped, left out, put in or doubled."""
    for _ in range(draw.choice([1, 1, 2, 4])):
        place = draw.randrange(len(content) + 1)
        end = min(len(content), place + draw.choice([1, 1, 2, 8, 100]))
        how = draw.randrange(5)
        if how == 0:
            content = content[:place]
        elif how == 1:
            content = content[:place] + content[end:]
        elif how == 2:
            content = content[:place] + draw.choice(RAW) + content[end:]
        elif how == 3:
            content = content[:end] + content[place:]
        else:
            content = content[:place] + bytes([draw.randrange(256)]) + content[end:]
    return content


def as_json(draw: Random, data: object) -> bytes:
    """A JSON value's text, seldom whole."""
    content = json.dumps(changed(draw, data)).encode()
    how = draw.random()
    if how < 0.15:
        return cut(draw, content)
    if how < 0.2:
        return content.replace(b"1", draw.choice(RAW), 1)
    if how < 0.21:
        wide = content.decode().encode("utf-16")
        return draw.choice([b"", b" ", b"\xef\xbb\xbf" + content, wide, b"[" * 100_000, content * 2])
    return content


def schedule_file(draw: Random) -> bytes:
    """The file of a schedule, or nearly one."""
    known = schedule() if draw.random() < 0.5 else fitted()
    return as_json(draw, {"schema": 2, "name": draw.choice(["mine", "new", *TEXTS]), **known})


def fitted() -> dict[str, object]:
    """A schedule with weights, without its name."""
    return schedule(rules=["output fitted", "output hold", "output fitted"], weights=[[1.0], [], [1.5, -0.75, 0.25]])


DESCRIPTION = {
    "schema": 1, "family": "lemica-demo",
    "model": {"model_class": "WAN21", "diffusion_model": "WanModel", "config": {"dim": 256}, "file": "wan.safetensors"},
    "sigmas": [1.0, 0.9, 0.75, 0.5, 0.2, 0.0], "mode": "exact", "metric": "l1", "rules": ["output hold", "output linear"],
    "samples": [{"prompt": "a cat", "seed": 1}, {"prompt": "a dog", "seed": 2}], "setup": {"sampler": "euler"},
    "source": {"name": "measured"},
}
SEGMENTS = [
    [-1, 0, 2, 0], [-1, 0, 3, 0], [-1, 1, 3, 0], [-1, 2, 5, 0], [-1, 3, 5, 0],
    [-1, 0, 2, 1], [0, 1, 3, 1], [0, 2, 4, 1], [1, 2, 4, 1],
]
SHAPES = [[0, 2**60], [2**60, 0], [2**63, 0], [2**32, 2**32, 0], [0], [0] * 40, [2**31, 2**31, 4], [2**61], [2**64, 2], [0, -1]]
"""Those with a 0 take no byte, and the others may seem to, as their product overflows."""

DTYPES = ["I32", "F64", "F32", "I64", "U8", "BOOL", "F16", "BF16", "F8_E4M3", "U64", "X", 3]


def tensors_file(draw: Random, metadata: dict[str, object], arrays: dict[str, np.ndarray]) -> bytes:
    """A safetensors file; its header and its tensors may be anything."""
    header: dict[str, object] = {"__metadata__": metadata}
    body = b""
    for name, array in arrays.items():
        types = {"i4": "I32", "f8": "F64", "f4": "F32"}
        data = array.tobytes()
        header[name] = {
            "dtype": types[array.dtype.str[1:]], "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    how = draw.random()
    if draw.random() < 0.05:
        shapes = draw.choice([SHAPES[:4], SHAPES])
        for name in arrays:
            header[name] |= {"shape": draw.choice(shapes), "data_offsets": [0, 0]}
        body = b""
    elif how < 0.1:
        name = draw.choice(sorted(arrays))
        header[name][draw.choice(["dtype", "shape", "data_offsets"])] = draw.choice([value(draw), draw.choice(DTYPES)])
    elif how < 0.15:
        header = changed(draw, header)
    text = json.dumps(header).encode() if how >= 0.05 else as_json(draw, header)
    length = len(text)
    if draw.random() < 0.03:
        length = draw.choice([0, 1, length - 1, length + 1, 2**63, 2**64 - 1, 100_000_001])
    content = struct.pack("<Q", length) + text + body
    return cut(draw, content) if draw.random() < 0.05 else content


def graph_file(draw: Random) -> bytes:
    """The file of an error graph, or nearly one."""
    description, segments = {**DESCRIPTION, "source": {"name": draw.choice(["measured", "taken", "new"])}}, SEGMENTS
    if draw.random() < 0.1:
        steps = draw.choice([1, 2, 40, 1000, 10_000])
        description = {**description, "sigmas": [1 - k / steps for k in range(steps + 1)]}
    text = as_json(draw, description) if draw.random() < 0.6 else json.dumps(description).encode()
    metadata = {"lemica_error_graph": text.decode(errors="surrogateescape")}
    rows = np.array(segments, dtype=np.int32)
    for _ in range(draw.choice([0, 0, 0, 1, 2])):
        rows[draw.randrange(len(rows)), draw.randrange(4)] = draw.choice([-(2**31), -2, -1, 0, 1, 4, 5, 6, 2**31 - 1])
    errors = np.array([[draw.random() for _ in rows] for _ in description["samples"]])
    for _ in range(draw.choice([0, 0, 0, 1, 3])):
        errors[draw.randrange(len(errors)), draw.randrange(len(rows))] = draw.choice(
            [0.0, -0.0, -1.0, 1e308, 1.7e308, 5e-324, np.nan, np.inf, -np.inf]
        )
    return tensors_file(draw, metadata, {"segments": rows, "errors": errors})


ABOUT = {"schema": 1, "prompt": "a cat", "seed": 1, "conds": "0123"}
"""What a sample's file says of it."""


def replays_file(draw: Random, edges: int) -> bytes:
    """What a job has replayed of one sample, or nearly that."""
    replayed = np.array([draw.choice([0.5, np.nan, 0.0, 1e308, -1.0, np.inf]) for _ in range(edges)])
    metadata = {"lemica_sample": as_json(draw, ABOUT).decode(errors="surrogateescape")}
    return tensors_file(draw, metadata, {"replayed": replayed})


def run_file(draw: Random) -> bytes:
    """What is kept of a full run, or nearly that."""
    values = [0.5, 0.0, -1.0, 3e38] if draw.random() < 0.7 else [0.5, np.nan, -np.inf]
    final, derivatives = (
        np.array([draw.choice(values) for _ in range(count)], dtype=draw.choice(["<f4", "<f4", "<f4", "<f8"]))
        for count in (4, 8)
    )
    shape = draw.choice([(1, 2, 4), (1, 2, 4), (2, 2, 2), (8,), (2, 4), (1, 0, 4)])
    derivatives = derivatives.reshape(shape) if 0 not in shape else derivatives[:0].reshape(shape)
    gram = np.array([draw.choice(values) for _ in range(4)]).reshape(2, 2)
    about = {**ABOUT, "whole": draw.choice([True, True, False, 1, None, "no"])}
    metadata = {"lemica_sample": as_json(draw, about).decode(errors="surrogateescape")}
    return tensors_file(draw, metadata, {"final": final, "derivatives": derivatives, "gram": gram})


def walk_file(draw: Random) -> bytes:
    """What a walk along a path computed at a step, or nearly that."""
    names = draw.sample(["0.0.0.0", "0.0.0.1", "3.1.0.0", "0.0.0", "a.b.c.d", "-1.0.0.0", "9" * 30 + ".0.0.0", ""], 2)
    return tensors_file(draw, {}, {name: np.array([0.5, np.nan], dtype="<f4") for name in names})


def pieces_of(graph) -> list[bytes]:
    """The file of an error graph, cut into pieces."""
    from lemica.calibration.graph_file import content_of

    content = content_of(graph)
    return [content[start : start + 4096] for start in range(0, len(content), 4096)]


def headers(draw: Random) -> dict[str, str]:
    """What a request says of where it comes from and where it goes to."""
    names = ["localhost", "127.0.0.1:8188", "[::1]:8188", "[::1", "rebound.example", "localhost.example", "x:y", "a@localhost"]
    names += ["", draw.choice(TEXTS)]
    found = {"X-LeMiCa": draw.choice(["1", "1", "1", "0", ""])}
    found["Host"] = draw.choice(names)
    found["Origin"] = draw.choice(["", "http://", "https://", "null", "file://"]) + draw.choice([*names, found["Host"]])
    return {key: value for key, value in found.items() if draw.random() < 0.9}


def upload(draw: Random) -> tuple[bytes, dict[str, str]]:
    """A form with a file, or nearly one."""
    if draw.random() < 0.5:
        name, content = "x.json", schedule_file(draw)
    else:
        name, content = "x.safetensors", graph_file(draw)
    if draw.random() < 0.2:
        stem = draw.choice(TEXTS).translate({ord(letter): "_" for letter in '"\r\n\0'}).encode("utf-8", "replace").decode()
        name = stem + draw.choice([".json", ".SAFETENSORS", "", ".txt", ".json.safetensors"])
    body, headers = form(name, content, draw.choice(["file"] * 9 + ["other"]))
    if draw.random() < 0.1:
        extra = draw.choice([
            "Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: x", "Content-Encoding: gzip",
            "Content-Encoding: x", "Content-Length: 5", "Content-Type: multipart/mixed; boundary=edge",
        ])
        body = body.replace(b"Content-Type: application/x", extra.encode(), 1)
    if draw.random() < 0.15:
        body = cut(draw, body)
    if draw.random() < 0.05:
        headers = {"Content-Type": draw.choice([
            "application/json", "multipart/form-data", "multipart/form-data; boundary=",
            "multipart/form-data; boundary=" + "x" * 99, "application/x-www-form-urlencoded", "text/plain; charset=x",
        ])}
    return body, headers


def query(draw: Random, keys: dict[str, list[str]]) -> dict[str, str]:
    """Parameters of an address."""
    found = {key: draw.choice(known) for key, known in keys.items() if draw.random() < 0.9}
    if draw.random() < 0.6:
        found[draw.choice([*keys, "x"])] = draw.choice(TEXTS)
    return found


def record() -> bytes:
    """The file of what was learned from a run that was refined."""
    from lemica.calibration.learning.kind import Kind
    from lemica.calibration.learning.record import Record
    from lemica.calibration.learning.refined import Refined
    from lemica.calibration.references.arrival import euler_response
    from lemica.calibration.references.closed_loop import Products
    from lemica.schedules import ModelIdentity

    sigmas = (1.0, 0.75, 0.5, 0.25, 0.0)
    kind = Kind("demo", ModelIdentity("WAN21", "WanModel", {}, "a"), "euler", "CFGGuider", {"cfg": 4.0}, (1, 16, 8, 8), False)
    refined = Refined(4, (0, 2), tuple(Products(np.eye(many), np.ones(many), 1.0) for many in (1, 2)), 0.1)
    return Record(kind, sigmas, "c0", 1, 1.8e9, euler_response(sigmas), np.eye(4), (refined,)).content()


def record_file(draw: Random) -> bytes:
    """The file of what was learned from a run, or nearly one."""
    content = record()
    if draw.random() < 0.5:
        return cut(draw, content)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    told = as_json(draw, json.loads(header["__metadata__"]["lemica_record"])).decode(errors="surrogateescape")
    header["__metadata__"]["lemica_record"] = told
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + content[8 + length :]
