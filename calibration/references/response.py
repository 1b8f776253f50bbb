"""The response of a sampler: how the latents of a run depend on what the model answered.

For all samplers of ComfyUI but those that choose their own steps, the latent at every call is an affine function of the
answers before it, with one number for each pair of them, the same for every element of the latent. So one rehearsal on
a few numbers, with an impulse at another call in every lane of the batch axis, tells how an error of any answer arrives
anywhere. Noise that a sampler draws cancels in the difference of two runs, so the rehearsal has none.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from types import SimpleNamespace

import comfy.samplers
import torch

from ...cache.plan import Plan, rehearse
from .arrival import Answer, Response

LINEAR = 1e-4
"""How far latents may be off what the impulses make of them, of their size: rounding, not another function."""

LANE = (4, 2, 2)
"""The shape of the latent of one lane."""

START = 0.01
"""The size of the latents at the start: it does not matter to an affine function, and small ones round less."""


class NoResponseError(ValueError):
    """The latents of this sampler are no such function of the model's answers."""


class _Impulses:
    """Answers every call with values of its own, and call c with an impulse besides in lane c + 1.

    A second set of lanes has the impulses of the answers to the negative conditioning. The last lane has all impulses at
    once, each in another size.
    """

    def __init__(self, guider: comfy.samplers.CFGGuider, calls: int) -> None:
        self.inner_model = guider
        self.latents: list[torch.Tensor] = []
        self.kinds = 1
        self._calls = calls
        draw = torch.Generator().manual_seed(0)
        self._values = torch.randn(calls, 2, *LANE, generator=draw)
        self.impulses = 0.5 + torch.rand(calls, 2, *LANE, generator=draw)
        self.sizes = torch.randn(calls, 2, generator=draw)

    @property
    def lanes(self) -> int:
        return 2 + 2 * self._calls

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, model_options: dict | None = None, **_: object) -> torch.Tensor:
        call = len(self.latents)
        if call >= self._calls:
            raise NoResponseError(f"it makes more than {self._calls} calls")
        self.latents.append(x.clone())
        guided, uncond = (self._answer(call, kind).to(x.dtype) for kind in (0, 1))
        for function in (model_options or {}).get("sampler_post_cfg_function", []):
            self.kinds = 2
            guided = function({
                "denoised": guided, "cond_denoised": guided, "uncond_denoised": uncond, "cond": None, "uncond": None,
                "cond_scale": 1.0, "model": self.inner_model, "sigma": sigma, "input": x, "model_options": model_options,
            })
        return guided

    def _answer(self, call: int, kind: int) -> torch.Tensor:
        answer = self._values[call, kind].expand(self.lanes, *LANE).clone()
        answer[1 + kind * self._calls + call] += self.impulses[call, kind]
        answer[-1] += self.sizes[call, kind] * self.impulses[call, kind]
        return answer


def response_of(
    sampler: comfy.samplers.Sampler, guider: comfy.samplers.CFGGuider, sigmas: Sequence[float], seed: int | None,
    mask: torch.Tensor | None = None,
) -> Response:
    """The response of a sampler, before the guider is sampled by it.

    Args:
        mask: the denoise mask, 1 where the latent is sampled freely.

    Raises:
        NoResponseError: its latents do not follow from the model's answers in a known way.
    """
    if mask is not None and not (mask >= 1.0).any():
        raise NoResponseError("no part of the latent is sampled freely under its noise mask")
    guider = copy.copy(guider)
    # The model itself has its patches on while it samples only.
    guider.inner_model = SimpleNamespace(model_sampling=guider.model_patcher.get_model_object("model_sampling"))
    plan = rehearse(sampler, guider, sigmas, seed)
    if plan is None:
        raise NoResponseError("its calls cannot be told to its steps")
    return respond(sampler, guider, sigmas, plan, seed)


def respond(
    sampler: comfy.samplers.KSAMPLER, guider: comfy.samplers.CFGGuider, sigmas: Sequence[float], plan: Plan,
    seed: int | None,
) -> Response:
    """The response of a sampler whose calls are known by ``plan``; it takes milliseconds.

    Raises:
        NoResponseError: its latents are no affine function of the answers with one number a pair, or it ends otherwise.
    """
    calls = len(plan.calls)
    model = _Impulses(guider, calls)
    start = START * torch.randn(1, *LANE, generator=torch.Generator().manual_seed(1))
    start = start.repeat(model.lanes, *[1] * len(LANE))
    options = dict(sampler.extra_options)
    if "noise_sampler" in inspect.signature(sampler.sampler_function).parameters:
        options["noise_sampler"] = lambda *_, **__: torch.zeros_like(start)
    with torch.random.fork_rng(devices=[]):
        final = sampler.sampler_function(
            model, start.clone(), torch.tensor(sigmas), disable=True, callback=None,
            extra_args={"model_options": {}, "seed": seed, "denoise_mask": None}, **options,
        )
    if len(model.latents) != calls:
        raise NoResponseError(f"it makes {len(model.latents)} calls, and made {calls} before")
    latents = torch.stack([*model.latents, final]).double().flatten(2)
    moved = latents - latents[:, :1]
    impulses = model.impulses.double().flatten(2)
    each = torch.stack([moved[:, 1 : 1 + calls] / impulses[:, 0], moved[:, 1 + calls : -1] / impulses[:, 1]])
    moves = each.mean(-1)
    together = torch.einsum("kjc,ck,ckn->jn", moves, model.sizes.double(), impulses)
    for found, expected in ((each, moves[..., None].expand_as(each)), (moved[:, -1], together)):
        if not (found - expected).abs().max() <= LINEAR * max(1.0, expected.abs().max().item()):
            raise NoResponseError("its latents are no affine function of the answers")
    answers = tuple(Answer(call.step, call.stage, call.sigma) for call in plan.calls)
    return Response(answers, moves[: model.kinds].numpy(), plan.noise)
