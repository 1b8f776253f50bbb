"""A worker's half of a calibration on several machines: it runs the same nodes up to their samples, then makes runs.

The calibrate node is executed by ComfyUI's own executor, on the worker's copy of the prompt, and stays in `execute` while
the worker lives: every replay runs where it would run in one process.
"""

from __future__ import annotations

import asyncio
import io as streams
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

import comfy.model_management
import execution
import latent_preview
import numpy as np
import torch
from comfy_api.latest import io
from server import PromptServer

import nodes

from ...calibration.cluster.facts import differences
from ...calibration.job_error import JobError
from ...calibration.latents import LATENT_DISTANCES
from ...calibration.outcome import Route
from ...calibration.references.walk import Walk, Weights
from ...calibration.replay import ReplayError, Replays, arrivals_of
from ...calibration.sampling import Callback, Sampling
from ...calibration.segments import all_segments
from ...schedules import Rule
from ..calibration_run import FrameDistance, Order
from .upstream import facts_of

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

PREVIEW_GAP = 0.25
"""The shortest time between two previews, in seconds."""


class Station:
    """The samples of one worker, and the runs that are made of them.

    Args:
        server: ComfyUI's, which is not listening.
        order: what the calibration wants, in plain values: ``prompt``, ``node``, ``class_type``, ``facts``, ``rules``,
            ``metric``, ``longest``, ``samples`` as (prompt, seed) each, ``sigmas``, ``preview``.
    """

    def __init__(self, server: PromptServer, order: Mapping[str, object]) -> None:
        self._server, self._order = server, order
        self._runs: queue.Queue[tuple[Future, str, int, object]] = queue.Queue()
        self._ready: Future = Future()
        self._preview: bytes | None = None
        self._next_preview = 0.0

    def open(self) -> dict[str, object]:
        """Load the model and make the samples: {}, or why not under ``refused``."""
        order = self._order
        told = differences(order["facts"], facts_of(order["prompt"]))
        if told:
            return {"refused": f"it does not match the machine that calibrates: {'; '.join(told)}"}
        problem = self._invalid()
        if problem:
            return {"refused": problem}
        threading.Thread(target=self._execute, daemon=True).start()
        return self._ready.result()

    def run(self, kind: str, place: int, item: object) -> dict[str, object]:
        """The result of a run of this kind, see ``Run``, under ``value``, with its cost; or ``failed`` and why."""
        future: Future = Future()
        self._runs.put((future, kind, place, item))
        return future.result()

    def glance(self) -> bytes | None:
        """The newest preview, once."""
        preview, self._preview = self._preview, None
        return preview

    # In ComfyUI's executor

    def _invalid(self) -> str | None:
        node = self._order["node"]
        valid, error, _, node_errors = asyncio.run(execution.validate_prompt("lemica", self._order["prompt"], [node]))
        if valid and not node_errors:
            return None
        found = [f"{one['message']}: {one['details']}" for errors in node_errors.values() for one in errors["errors"]]
        return "; ".join(found) or error["message"]

    def _execute(self) -> None:
        """Run the prompt; it ends only if something fails."""
        station, node = self, nodes.NODE_CLASS_MAPPINGS[self._order["class_type"]]

        class Serving(node):
            """The calibrate node, which serves the worker's runs in place of measuring on its own."""

            @classmethod
            def measure(
                cls, model: ModelPatcher, samplings: Sequence[Sampling], setup: Mapping[str, object], name: str,
                order: Order,
            ) -> io.NodeOutput:
                station._serve(model, samplings, order)
                return io.NodeOutput(None, None, None)

        nodes.NODE_CLASS_MAPPINGS[self._order["class_type"]] = Serving
        executor = execution.PromptExecutor(
            self._server, cache_type=execution.CacheType.CLASSIC, cache_args={"lru": 0, "ram": 0, "ram_inactive": 0}
        )
        extra = {"preview_method": self._order["preview"]}
        executor.execute(self._order["prompt"], "lemica", extra, [self._order["node"]])
        errors = [data for event, data in executor.status_messages if event == "execution_error"]
        reason = "; ".join(f"{one['node_type']}: {one['exception_message'].strip()}" for one in errors) or "it was interrupted"
        if not self._ready.done():
            self._ready.set_result({"refused": reason})

    def _serve(self, model: ModelPatcher, samplings: Sequence[Sampling], order: Order) -> None:
        told = self._unlike(samplings)
        if told:
            self._ready.set_result({"refused": told})
            return
        work = _Work(model, samplings, order, self._order, self._show)
        self._previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
        self._ready.set_result({"device": str(model.load_device)})
        while True:
            future, kind, place, item = self._runs.get()
            try:
                future.set_result(work.run(kind, place, item))
            except BaseException as error:  # whoever waits for the run is to hear of it, then this worker ends
                future.set_exception(error)
                raise

    def _unlike(self, samplings: Sequence[Sampling]) -> str | None:
        order = self._order
        samples = [sampling.sample.seed for sampling in samplings]
        if samples != list(order["seeds"]):
            return f"its samples have the seeds {samples}, the calibration's have {list(order['seeds'])}"
        if not np.allclose(samplings[0].sigmas, order["sigmas"], rtol=1e-5, atol=1e-7):
            return "the model gives other sigmas there: a patch of the model differs"
        return None

    def _show(self, step: int, denoised: torch.Tensor, latent: torch.Tensor, steps: int) -> None:
        if self._previewer is None or time.monotonic() < self._next_preview:
            return
        self._next_preview = time.monotonic() + PREVIEW_GAP
        denoised = denoised.tensors[0] if denoised.is_nested else denoised
        _, image, _ = self._previewer.decode_latent_to_preview_image("JPEG", denoised)
        stream = streams.BytesIO()
        image.save(stream, format="JPEG", quality=90)
        self._preview = stream.getvalue()


class _Work:
    """Makes the runs of one worker."""

    def __init__(
        self, model: ModelPatcher, samplings: Sequence[Sampling], order: Order, wanted: Mapping[str, object],
        show: Callback,
    ) -> None:
        self._samplings, self._show = samplings, show
        self._rules = [Rule.parse(text) for text in wanted["rules"]]
        self._steps = len(samplings[0].sigmas) - 1
        self._segments = all_segments(self._steps, wanted["longest"], self._rules) if self._rules else None
        lpips = wanted["metric"] == "lpips"
        distance = FrameDistance(samplings[0], order.vae) if lpips else LATENT_DISTANCES[wanted["metric"]]
        self._replays = [Replays(sampling, arrivals_of(samplings[0]), distance, self._rules) for sampling in samplings]
        self._walks: dict[int, tuple[Sequence[int], Walk]] = {}
        self._held: int | None = None

    def run(self, kind: str, place: int, item: object) -> dict[str, object]:
        """One run with its seconds and computed steps."""
        sampling = self._samplings[place]
        begin, computed = time.perf_counter(), sampling.computed
        try:
            runs = {
                "full": self._full, "replay": self._replay, "path": self._path, "products": self._products,
                "finish": self._finish,
            }
            value = runs[kind](place, item)
        except (ReplayError, JobError) as error:
            return {"failed": "sample", "message": str(error)}
        except (MemoryError, comfy.model_management.OOM_EXCEPTION) as error:
            return {"failed": "memory", "message": str(error).partition("\n")[0] or type(error).__name__}
        return {"value": value, "seconds": time.perf_counter() - begin, "computed": sampling.computed - computed}

    def _full(self, place: int, _: object) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A few values of the final latent, no derivative, and what the products of the derivatives are."""
        if self._rules and self._held not in (None, place):
            self._replays[self._held].forget()
        self._held = place
        full = self._replays[place].full(self._show).to_send()
        return full.final, full.derivatives, full.gram

    def _products(self, place: int, item: tuple[Sequence[int], Weights, int]) -> tuple[np.ndarray, np.ndarray, float]:
        computed, weights, segment = item
        found = self._walk(place, computed).products(segment, weights)
        return found.normal, found.right, found.square

    def _finish(self, place: int, item: tuple[Sequence[int], Weights]) -> float:
        computed, weights = item
        return self._replays[place].error_of(self._walk(place, computed).finish(weights))

    def _walk(self, place: int, computed: Sequence[int]) -> Walk:
        known, walk = self._walks.get(place, ((), None))
        if known != computed:
            replays = self._replays[place]
            walk = replays.walk(replays.full(self._show), computed, callback=self._show)
            self._walks[place] = computed, walk
        return walk

    def _replay(self, place: int, edge: int) -> float:
        before, start, end, kind = self._segments[edge].tolist()
        return self._replays[place].replay(before, start, end, self._rules[kind], self._show)

    def _path(self, place: int, route: tuple[Sequence[int], Sequence[str]]) -> float:
        computed, rules = route
        made = Route(tuple(computed), tuple(Rule.parse(text) for text in rules))
        return self._replays[place].path(made.schedule(self._steps), self._show)
