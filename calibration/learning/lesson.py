"""A full run that is learned from: shown every answer while it samples, and kept as a record once it has ended.

Where that is wanted, an accelerated run from the same noise follows, which tells the weights of its path.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ...cache.plan import Call
from ...cache.report import RunReport
from ...cache.run import SamplingRun
from ...cache.setting import RunSetting
from ..references.arrival import Segments
from ..references.closed_loop import added
from ..references.reference import Recorder, Reference, gram
from ..references.refining import Refining
from ..references.response import response_of
from ..sampling import digest_conds
from ..segments import GraphError
from .kind import Kind
from .learned import path_to_refine, refined_of
from .record import Record
from .records import Records
from .refined import Refined

logger = logging.getLogger("LeMiCa")


class FullRunLesson:
    """Takes one run down.

    Args:
        records: where it is kept.
        kind: of the run.
        setting: of the run.
        budget: of the accelerated run that follows, None for none.

    Raises:
        NoResponseError: nothing can be learned under this sampler.
    """

    def __init__(self, records: Records, kind: Kind, setting: RunSetting, budget: int | None = None) -> None:
        self._records, self._kind, self._budget = records, kind, budget
        self._sigmas, self._seed = setting.sigmas, setting.seed or 0
        self._conds = digest_conds(setting.guider)
        self._response = response_of(setting.sampler, setting.guider, setting.sigmas, setting.seed, setting.mask)
        self._mask = None if setting.mask is None else setting.mask.flatten().cpu()
        self._recorder = Recorder(self._response, self._mask)
        self._answered = 0

    def answered(self, call: Call, x: torch.Tensor, answers: Sequence[torch.Tensor]) -> None:
        """The model has answered a call at the latent ``x``."""
        self._answered += 1
        self._recorder.answered(call, x, answers)

    def ended(self, report: RunReport) -> SamplingRun | None:
        """Keep the run, unless it was not quite the one that was rehearsed; what goes wrong costs the record alone.

        Gives the accelerated run that is to follow.
        """
        if report.doubts or len(report.computed) < report.steps or self._answered != len(self._response.calls):
            logger.warning("Nothing was learned from this run: %s", "; ".join(report.doubts) or "it was not a full one")
            return None
        try:
            derivatives = self._recorder.derivatives()
            record = Record(
                self._kind, self._sigmas, self._conds, self._seed, time.time(), self._response, gram(derivatives)
            )
            self._records.save(record)
        except (GraphError, OSError) as error:
            logger.warning("Nothing was learned from this run: %s", error)
            return None
        return None if self._budget is None else self._accelerated(record, derivatives, self._budget)

    def _accelerated(self, record: Record, derivatives: np.ndarray, budget: int) -> SamplingRun:
        """The run along the path of a budget; what it tells goes to the record."""
        known = [one for one in self._records.of(self._kind, self._sigmas) if one.same_grid(record)]
        others = [one for one in known if not one.same_run(record)]
        computed = path_to_refine([record, *others], budget)
        told = [one.told for one in refined_of(others, budget) if one.computed == computed]

        def ended(refining: Refining) -> None:
            found = Refined(len(self._sigmas) - 1, refining.computed, refining.told, refining.error)
            try:
                self._records.save(replace(record, refined=(found,)))
            except (GraphError, OSError) as error:
                logger.warning("What a second run told of this picture is lost: %s", error)

        reference = Reference(Segments(self._response, len(self._sigmas) - 1), derivatives, self._mask)
        return Refining(reference, self._sigmas, computed, added(told) if told else None, ended).run()
