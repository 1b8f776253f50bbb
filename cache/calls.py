"""One evaluation of the model: with its blocks, measuring their residual, or without, adding a residual instead."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

import torch

from .families import StackFamily
from .twin import list_twin, twin

if TYPE_CHECKING:
    from .run import SamplingRun


class BlockCall:
    """One evaluation of the model on a batch of conds, as the block stack sees it.

    Args:
        run: the sampling run.
        family: of the model.
        names: of the chunks of the batch, each evaluated for one cond.
        latent_shape: of one chunk.
    """

    def __init__(
        self, run: SamplingRun, family: StackFamily, names: Sequence[Hashable], latent_shape: tuple[int, ...]
    ) -> None:
        self._run = run
        self._family = family
        self._names = names
        self._latent_shape = latent_shape
        self._walks = 0

    def twin_of(self, model: torch.nn.Module, cls: type) -> torch.nn.Module:
        """What this call runs in place of the diffusion model, of class ``cls``."""
        lists = {name: attrgetter(name)(model) for name in self._family.lists}
        contents = {name: dict(blocks._modules) for name, blocks in lists.items()}
        self._rearrange([blocks for blocks in contents.values() if blocks])
        children: dict[str, Callable] = {name: list_twin(lists[name], blocks) for name, blocks in contents.items()}
        for index, name in enumerate(self._family.heads):
            head = children[name] = twin(attrgetter(name)(model))
            head.register_forward_pre_hook(partial(self._at_head, min(index, self._family.streams - 1)))
        return twin(model, children, cls)

    def _rearrange(self, lists: list[dict[str, Callable]]) -> None:
        """Change what the lists of blocks hold, given without the empty ones."""
        raise NotImplementedError

    def _at_head(self, stream: int, head: torch.nn.Module, args: tuple) -> tuple | None:
        """The tokens of one stream, the first of ``args``, reach their head."""
        raise NotImplementedError

    def _part(self, tokens: torch.Tensor, length: int) -> torch.Tensor:
        """Those ``length`` of the tokens that are there at both ends of the stack."""
        if self._family.part == "all" or length > tokens.shape[1]:
            return tokens
        return tokens.narrow(1, 0 if self._family.part == "first" else tokens.shape[1] - length, length)


class ComputedCall(BlockCall):
    """Runs the blocks and measures their residual."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self._entered: Sequence[torch.Tensor] = ()
        self._left: torch.Tensor | None = None
        self._residuals: list[torch.Tensor] = []

    def _rearrange(self, lists: list[dict[str, Callable]]) -> None:
        first = _twin_at(lists[0], 0)
        if self._family.method == "forward":
            first.register_forward_pre_hook(self._enter, with_kwargs=True)
        else:  # hooks are for calls of the module itself
            first.__dict__[self._family.method] = self._entering(first, getattr(first, self._family.method))
        if not self._family.heads:
            _twin_at(lists[-1], -1).register_forward_hook(self._leave)

    def _entering(self, block: torch.nn.Module, method: Callable) -> Callable:
        def enter(*args, **kwargs) -> torch.Tensor:
            self._enter(block, args, kwargs)
            return method(*args, **kwargs)

        return enter

    def _enter(self, block: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        """The tokens reach the first block."""
        self._walks += 1
        place = self._family.tokens
        tokens = kwargs.get(place) if isinstance(place, str) else next(iter(args[place : place + 1]), None)
        streams = tokens if isinstance(tokens, (tuple, list)) else [tokens]
        if len(streams) == self._family.streams and all(isinstance(stream, torch.Tensor) for stream in streams):
            self._entered = [stream.clone() for stream in streams]

    def _leave(self, block: torch.nn.Module, args: tuple, tokens: torch.Tensor) -> None:
        """The tokens leave the last block; the forward may still add to them in place."""
        self._left = tokens

    def _at_head(self, stream: int, head: torch.nn.Module, args: tuple) -> None:
        if self._entered and args:
            self._measure(self._entered[stream], args[0])

    def _measure(self, entered: torch.Tensor, tokens: torch.Tensor) -> None:
        if entered.shape[0] == tokens.shape[0] and entered.numel() == tokens.numel():
            entered = entered.reshape(tokens.shape)
        elif entered.ndim == tokens.ndim == 3:
            length = min(entered.shape[1], tokens.shape[1])
            entered, tokens = self._part(entered, length), self._part(tokens, length)
        if entered.shape == tokens.shape:
            self._residuals.append(tokens - entered.to(tokens.dtype))

    def keep(self) -> bool:
        """Hand the residual to the run; False where the call did not go the way that the family's entry says."""
        if self._entered and isinstance(self._left, torch.Tensor):
            self._measure(self._entered[0], self._left)
        residuals, conds = self._residuals, len(self._names)
        if self._walks != 1 or len(residuals) != self._family.streams or any(r.shape[0] % conds for r in residuals):
            return False
        whole = residuals[0] if len(residuals) == 1 else torch.cat([r.flatten(1) for r in residuals], dim=1)
        for name, chunk in zip(self._names, whole.chunk(conds)):
            self._run.keep_residual(name, self._latent_shape, chunk)
        return True


class SkippingCall(BlockCall):
    """Runs no block and adds the predicted residual to the tokens."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self._fits = True
        self._used = 0

    def _rearrange(self, lists: list[dict[str, Callable]]) -> None:
        for blocks in lists:
            blocks.clear()
        if not self._family.heads:
            lists[-1]["0"] = self._in_place_of_blocks

    def _in_place_of_blocks(self, tokens: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        return self._with_residual(tokens)

    def _at_head(self, stream: int, head: torch.nn.Module, args: tuple) -> tuple:
        return (self._with_residual(args[0]), *args[1:])

    def _with_residual(self, tokens: torch.Tensor) -> torch.Tensor:
        self._walks += 1
        result = tokens.clone()
        chunks = result.chunk(len(self._names))
        self._fits &= len(chunks) == len(self._names)
        for name, chunk in zip(self._names, chunks):
            residual = self._run.residual(name, self._latent_shape, tokens.device)
            if self._family.streams > 1:
                residual = residual[:, self._used : self._used + chunk[0].numel()]
                chunk = chunk.view(residual.shape) if residual.numel() == chunk.numel() else chunk
            else:
                chunk = self._part(chunk, residual.shape[1])
            if chunk.shape != residual.shape or chunk.dtype != residual.dtype:
                self._fits = False
                return tokens
            chunk.add_(residual)
        self._used += chunks[0][0].numel()
        return result

    @property
    def options(self) -> dict:
        """Transformer options of this call: no patches where the forward's loop over the blocks still takes a turn."""
        return {} if self._family.heads else {"patches": {}, "patches_replace": {}}

    @property
    def complete(self) -> bool:
        """Whether every stream got its residual, once."""
        return self._fits and self._walks == self._family.streams


def _twin_at(blocks: dict[str, Callable], position: int) -> torch.nn.Module:
    """The block at ``position``, replaced by a twin of its own."""
    name = list(blocks)[position]
    blocks[name] = twin(blocks[name])
    return blocks[name]
