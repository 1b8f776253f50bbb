"""The residual of a transformer's block stack: skip the blocks, add what they added at the last computed step.

The published LeMiCa schedules were made for this reuse: embedders and head run with the present latent and sigma, the
blocks between them do not. A model's forward walks its blocks with ``for block in self.blocks``; the stack below is
that very ``nn.ModuleList`` under another class, whose iteration can end after one step. No forward is copied, the
children, weight keys and device handling stay what they were.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from .run import SamplingRun

CALL_KEY = "lemica_block_call"
"""Where a model call's transformer options carry its BlockCall."""


@dataclass(frozen=True, slots=True)
class StackFamily:
    """Where a diffusion model keeps its blocks. The blocks take and return the tokens as their first argument."""

    diffusion_model: str
    blocks: str


FAMILIES = {
    family.diffusion_model: family
    for family in (
        StackFamily("WanModel", "blocks"),
        StackFamily("CameraWanModel", "blocks"),
    )
}
"""The diffusion model classes, by exact name, whose forward leaves nothing but the loop between embedders and head.

Subclasses that add to the tokens between blocks (VACE, Animate, S2V) are not among them: a reused step would add it
again.
"""


class BlockCall:
    """One evaluation of the model on a batch of conds, as the block stack sees it.

    Args:
        run: the sampling run.
        uuids: the cond of each chunk of the batch.
        latent_shape: of one chunk.
        options: this call's own transformer options; from a skipping call the block patches are taken out, since the
            residual holds what they did.
    """

    def __init__(
        self, run: SamplingRun, uuids: Sequence[Hashable], latent_shape: tuple[int, ...], options: dict
    ) -> None:
        self.skips = run.may_skip_blocks(uuids, latent_shape)
        self._run = run
        self._uuids = uuids
        self._latent_shape = latent_shape
        self._entered: torch.Tensor | None = None
        self._patches = options["patches"] = dict(options.get("patches", {}))
        if self.skips:
            self._patches.clear()
            options["patches_replace"] = {}

    def skip(self, tokens: torch.Tensor) -> torch.Tensor:
        """The tokens [B, L, C] plus the predicted residual."""
        result = torch.empty_like(tokens)
        chunks = zip(self._uuids, tokens.chunk(len(self._uuids)), result.chunk(len(self._uuids)))
        for uuid, chunk, out in chunks:
            torch.add(chunk, self._run.residual(uuid, self._latent_shape, tokens.device), out=out)
        return result

    def enter(self, tokens: torch.Tensor) -> None:
        """The tokens reach the first block."""
        self._run.note_computed()
        self._entered = tokens.clone() if self._run.wants_residuals else None

    def leave(self, tokens: torch.Tensor) -> None:
        """The tokens have left the last block and whatever the forward applied after it."""
        self._patches.clear()
        if self._entered is None or self._entered.shape != tokens.shape:
            return
        residual = tokens - self._entered
        self._entered = None
        for uuid, chunk in zip(self._uuids, residual.chunk(len(self._uuids))):
            self._run.keep_residual(uuid, self._latent_shape, chunk)


class _Entry:
    """The first block, in whose place the whole stack may be skipped."""

    def __init__(self, block: torch.nn.Module) -> None:
        self._block = block
        self.call: BlockCall | None = None

    def __getattr__(self, name: str):
        return getattr(self._block, name)

    def __call__(self, tokens: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        self.call = kwargs.get("transformer_options", {}).get(CALL_KEY)
        if self.call is not None:
            if self.call.skips:
                return self.call.skip(tokens)
            self.call.enter(tokens)
        return self._block(tokens, *args, **kwargs)


class _Exit:
    """Stands behind the last block and sees the tokens that the head will get."""

    def __init__(self, call: BlockCall) -> None:
        self._call = call

    def __call__(self, tokens: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        self._call.leave(tokens)
        return tokens


class BlockStack(torch.nn.ModuleList):
    """A ModuleList that a cached model call may walk in one step; for every other use it is a plain ModuleList."""

    def __iter__(self) -> Iterator[torch.nn.Module]:
        blocks = super().__iter__()
        for first in blocks:
            entry = _Entry(first)
            yield entry
            if entry.call is None:
                yield from blocks
            elif not entry.call.skips:
                yield from blocks
                yield _Exit(entry.call)
            return


def stack_family(model: ModelPatcher) -> StackFamily | None:
    """The entry for the loaded diffusion model, or None where only output rules apply."""
    diffusion_model = model.get_model_object("diffusion_model")
    family = FAMILIES.get(type(diffusion_model).__name__)
    if family is None or type(getattr(diffusion_model, family.blocks, None)) not in (torch.nn.ModuleList, BlockStack):
        return None
    return family


def patch_stack(model: ModelPatcher, family: StackFamily) -> None:
    """Make the block stack of a cloned patcher skippable.

    The patch names the class of the list alone, so it holds no weights, applies to copies on other devices, and
    leaves with the patcher.
    """
    model.add_object_patch(f"diffusion_model.{family.blocks}.__class__", BlockStack)
