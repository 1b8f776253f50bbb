"""A full run that is learned from: shown every answer while it samples, and kept as a record once it has ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import torch

from ...cache.plan import Call
from ...cache.report import RunReport
from ...cache.setting import RunSetting
from ..references.reference import Recorder, gram
from ..references.response import response_of
from ..sampling import digest_conds
from ..segments import GraphError
from .kind import Kind
from .record import Record
from .records import Records

logger = logging.getLogger("LeMiCa")


class FullRunLesson:
    """Takes one run down.

    Args:
        records: where it is kept.
        kind: of the run.
        setting: of the run.

    Raises:
        NoResponseError: nothing can be learned under this sampler.
    """

    def __init__(self, records: Records, kind: Kind, setting: RunSetting) -> None:
        self._records, self._kind = records, kind
        self._sigmas, self._seed = setting.sigmas, setting.seed or 0
        self._conds = digest_conds(setting.guider)
        mask = setting.mask
        self._response = response_of(setting.sampler, setting.guider, setting.sigmas, setting.seed, mask)
        self._recorder = Recorder(len(self._response.moves), None if mask is None else mask.flatten().cpu())
        self._answered = 0

    def answered(self, call: Call, x: torch.Tensor, answers: Sequence[torch.Tensor]) -> None:
        """The model has answered a call at the latent ``x``."""
        self._answered += 1
        self._recorder.answered(call, x, answers)

    def ended(self, report: RunReport) -> None:
        """Keep the run, unless it was not quite the one that was rehearsed; what goes wrong costs the record alone."""
        if report.doubts or len(report.computed) < report.steps or self._answered != len(self._response.calls):
            logger.warning("Nothing was learned from this run: %s", "; ".join(report.doubts) or "it was not a full one")
            return
        try:
            products = gram(self._recorder.derivatives())
            self._records.save(
                Record(self._kind, self._sigmas, self._conds, self._seed, time.time(), self._response, products)
            )
        except (GraphError, OSError) as error:
            logger.warning("Nothing was learned from this run: %s", error)
