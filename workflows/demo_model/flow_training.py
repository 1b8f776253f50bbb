"""The training loop of the pack's small models, by the clock: AdamW with warm-up and cosine, and an average of the weights."""

from __future__ import annotations

import copy
import itertools
import logging
import math
import time
from collections.abc import Callable

import torch
from torch import nn

EMA = 0.999
EMPTY_SHARE = 0.12
"""Share of samples trained on the empty prompt, for classifier-free guidance."""


def fit(
    model: nn.Module, draw_loss: Callable[[], torch.Tensor], peak_rate: float, minutes: float,
    save: Callable[[nn.Module], None], logger: logging.Logger,
) -> int:
    """Train for ``minutes`` on the losses of batches; every few minutes the average so far is saved. Returns the steps."""
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    logger.info("%.2f M parameters", sum(p.numel() for p in model.parameters()) / 1e6)
    begin, losses, saved = time.monotonic(), [], time.monotonic()
    for step in itertools.count(1):
        done = (time.monotonic() - begin) / (60 * minutes)
        if done >= 1:
            break
        factor = min(1.0, step / 100) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = peak_rate * factor
        loss = draw_loss()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            decay = min(EMA, step / (step + 20))
            for kept, new in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
        losses.append(loss.detach())
        if step % 50 == 0:
            logger.info("step %d, %.0f%%, loss %.4f", step, 100 * done, torch.stack(losses[-50:]).mean())
        if time.monotonic() - saved > 180:
            save(average)
            saved = time.monotonic()
    save(average)
    return step
