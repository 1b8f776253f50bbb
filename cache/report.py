"""What a sampling run did under its schedule, for the log line, the node and whoever listens."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class RunReport:
    """The account of one sampling run.

    ``calls`` counts evaluations of the model per conditioning (two a step with CFG, batched or not), ``full_calls``
    what the run would have made without the cache. ``seconds`` spans the sampler's calls; ``speedup`` compares them
    with every call taking as long as the median computed one, None where nothing could be measured. ``latent`` is the
    shape of the latent, as the model is given it.
    """

    schedule: str
    origin: str
    note: str
    steps: int
    computed: tuple[int, ...]
    calls: int
    full_calls: int
    seconds: float
    speedup: float | None
    doubts: tuple[str, ...]
    finished: bool
    latent: tuple[int, ...] = ()

    def line(self) -> str:
        """The one line that the log shows for the run."""
        parts = [
            f"computed {len(self.computed)} of {self.steps} steps ({self.calls} of {self.full_calls} model calls)",
            f"schedule {self.schedule} ({self.origin})",
        ]
        if self.speedup is not None:
            parts.insert(1, f"{self.speedup:.2f}x faster")
        if not self.finished:
            parts.insert(0, "stopped early")
        return "LeMiCa: " + "; ".join([", ".join(parts), *filter(None, [self.note]), *self.doubts])

    def to_json(self) -> dict[str, object]:
        """The report as JSON-plain data, with its line."""
        listed = {name: list(getattr(self, name)) for name in ("computed", "doubts", "latent")}
        return asdict(self) | listed | {"line": self.line()}
