"""Pictures made with the LeMiCa node's own chooser on a tiny Wan that no schedule knows."""

from __future__ import annotations

import json

STEPS = 8


class Pictures:
    """Makes pictures with the node's own chooser on a model that no schedule knows."""

    def __init__(self, tiny_wan, model, identity) -> None:
        self._tiny_wan, self._model, self.identity = tiny_wan, model, identity

    def plain(self, **sampling):
        return self._tiny_wan.sample(self._model, **{"steps": STEPS, "cfg": 3.0, **sampling})

    def make(self, seed: int = 1, model=None, identity=None, learn: str = "on", **sampling):
        """The latent, and the report of its run."""
        from lemica.cache.wrapper import install
        from lemica.nodes.apply import chooser

        reports = []
        request = {"preset": None, "budget": 3, "name": None, "rule": None}
        request |= {name: sampling.pop(name) for name in list(sampling) if name in request or name == "computed"}
        choose = chooser(identity or self.identity, **request, learn=learn)
        model = install(model or self._model, choose, on_report=reports.append)
        latent = self._tiny_wan.sample(model, **{"seed": seed, "steps": STEPS, "cfg": 3.0, **sampling})
        return latent, reports[0]

    def learned(self, *seeds: int, **sampling) -> list:
        """The reports of one picture a seed."""
        return [self.make(seed, **sampling)[1] for seed in seeds]


def spoiled(content: bytes, **changed) -> bytes:
    """A record's file with other entries in its description."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    told = json.loads(header["__metadata__"]["lemica_record"])
    header["__metadata__"]["lemica_record"] = json.dumps(told | changed)
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + content[8 + length :]


def read_description(content: bytes) -> str:
    """What a record says, as JSON."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]["lemica_record"]
