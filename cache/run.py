"""One sampling run under a schedule: which step a call belongs to, what it does, and all that the run remembers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch

from ..schedules import Rule, Schedule
from .clock import Read, Stopwatch, read, speedup
from .fingerprint import fingerprint
from .locator import CallLocator
from .names import Names
from .placement import Placement
from .plan import Call, Plan
from .report import RunReport
from .rules import History, Reuse, carried, denoised_from
from .slots import Slots
from .steps import Action, actions_of, depth_of, kept_steps, on_output, reuses_by_step
from .trajectory import Batch, Trajectory

Conds = Sequence[Sequence[dict] | None]

MISFITS = {
    True: ("hold", "they were fitted without noise, and this sampler draws some"),
    False: ("half", "they were fitted with drawn noise, and this sampler draws none"),
    None: ("hold", "this sampler cannot be rehearsed, so it may draw noise"),
}
"""What stands in for weights that do not fit a sampler, and why, by whether it draws noise; a slope would follow the noise."""

Answered = Callable[[Call, torch.Tensor, Sequence[torch.Tensor]], None]
"""Of a call, the latent it is made at, and its answers: the guided denoised latent and that of the negative conditioning."""


def active_conds(conds: Conds, sigma: float) -> tuple[tuple[tuple[Hashable, Hashable], ...] | None, ...]:
    """Uuid and fingerprint of the conds that ComfyUI evaluates at ``sigma``, by their sigma ranges."""
    return tuple(
        None if cond is None else tuple(
            (c["uuid"], fingerprint(c))
            for c in cond if c.get("timestep_start", sigma) >= sigma >= c.get("timestep_end", sigma)
        )
        for cond in conds
    )


def _steps_text(steps: Sequence[int]) -> str:
    return f"step{'s' if len(steps) > 1 else ''} {', '.join(map(str, steps))}"


class SamplingRun:
    """All state of one sampling run; made when the sampler starts and closed when it ends.

    Args:
        schedule: for exactly this run's sigmas.
        sigmas: the N + 1 sigmas of the run.
        placement: where cached tensors live.
        actions: one per step; by default those of the schedule.
        recall: the recorded trajectory that RECALL steps read.
        record: the trajectory to write what is computed to.
        observe: is shown every call, None where it cannot be told to a step, with the latent that it is made at; it may
            end the run by raising.
        answered: is shown every call that is known, its latent, and what guidance and the negative conditioning give.
        read: begins to read the sigma of a call.
        noise: whether the schedule's weights were fitted on samplers that draw noise; None where they fit any that comes.
        ended: is told of the run when it has come to its end; may want another one from the same noise, see ``again``.
    """

    def __init__(
        self,
        schedule: Schedule,
        sigmas: Sequence[float],
        placement: Placement,
        actions: Sequence[Action] | None = None,
        recall: Trajectory | None = None,
        record: Trajectory | None = None,
        observe: Callable[[Call | None, torch.Tensor], None] | None = None,
        note: str = "",
        answered: Answered | None = None,
        read: Read = read,
        noise: bool | None = None,
        ended: Callable[[RunReport], SamplingRun | None] | None = None,
    ) -> None:
        self.sigmas = tuple(sigmas)
        self.actions = tuple(actions) if actions is not None else actions_of(schedule)
        self.call: Call | None = None
        self.action = Action.COMPUTE
        self._evaluated: list[int] = []
        self._note = note
        self._recall, self._record = recall, record
        self._observe, self._answered = observe, answered
        self._outputs: list[torch.Tensor] = []
        self._read = read
        self._noise = noise
        self._draws = False
        self.ended = ended
        self._locator: CallLocator | None = None
        self._stopwatch: Stopwatch | None = None
        self._doubts: list[str] = []
        self._missed: list[int] = []
        self._ran: list[bool] = []
        self._first_call = 0
        self._computed_steps: set[int] = set()
        self._last_step = -1
        self._latent: tuple[int, ...] = ()
        self._depth = max(depth_of(schedule), 1 if noise is None else depth_of(schedule.unfitted()))
        self._slots = Slots(self._depth, placement)
        self._names = Names()
        self._conds: Conds = ()
        self._variant: Hashable = None
        self._slot: Hashable = None
        self._trace: Batch | None = None
        self._starts = tuple(i for i, j in schedule.segments() for _ in range(i, j))
        self.follow(schedule)

    def follow(self, schedule: Schedule) -> None:
        """Go on by the rules and weights of another schedule with the same computed steps."""
        self.schedule = schedule
        self._reuses = reuses_by_step(schedule)
        self._kept = kept_steps(schedule)

    # Which call is this?

    def start(self, plan: Plan | None, device: torch.device) -> None:
        """Begin the sampler's run with its rehearsal, or None to match calls by their sigma alone."""
        self._locator = CallLocator(self.sigmas, None if plan is None else plan.calls, self._read)
        draws = None if plan is None else plan.noise
        self._draws = bool(draws)
        if self.schedule.weights and self._noise not in (None, draws):
            order, why = MISFITS[draws]
            self.follow(self.schedule.with_rules(self.schedule.unfitted(order).rules))
            self.remark(f"output {order} stands in for fitted weights: {why}")
        elif draws and self.schedule.origin == "estimated" and "rules_replaced_by" not in self.schedule.source:
            self.follow(self.schedule.with_rules((Rule("output", "hold"),) * self.schedule.budget))
            self.remark("output hold stands in for an estimated slope, which would follow the noise that this sampler draws")
        self._first_call = len(self._ran)
        self._stopwatch = Stopwatch(device)

    def begin_call(self, x: torch.Tensor, timestep: torch.Tensor, unfit: str = "") -> None:
        """The sampler asks for one prediction at the latent ``x``; settle its step and action.

        A call that cannot be told to a step computes: it must not reuse anything. Nor must any call from one on for
        which ``unfit`` says why the model has to run.
        """
        self._names.begin_call()
        self._outputs = []
        self._latent = tuple(x.shape)
        self._ran.append(False)
        self.call, self.action = None, Action.COMPUTE
        if self._locator is None:
            return
        self._stopwatch.mark()
        if unfit:
            self._locator.lose(unfit)
        call = self._locator.next(timestep)
        if self._observe is not None:
            self._observe(call, x)
        if call is None:
            self.remark(self._locator.lost)
            self._slots.clear()
            self._computed_steps.update(range(self._last_step + 1, self.schedule.steps))
            return
        if call.step > self._last_step and self._starts[call.step] == call.step > 0:
            self._slots.forget(before=self._starts[call.step - 1] if self._depth > 1 else call.step)
        self._last_step = call.step
        if call.sigma > 0.0:
            self.call, self.action = call, self.actions[call.step]

    def answer(self, x: torch.Tensor, denoised: torch.Tensor) -> None:
        """The present call, at the latent ``x``, gives this denoised latent."""
        if self._answered is not None and self.call is not None:
            self._answered(self.call, x, [denoised, *self._outputs[-1:]])

    def compute_call(self, why: str) -> None:
        """Compute the present call after all: it must reuse nothing, and nothing of it is kept."""
        self.remark(why)
        self.note_computed()
        self.call = None

    @property
    def in_batch(self) -> bool:
        """Whether what the model is evaluated on can be told to a step and to a batch of conds."""
        return self.call is not None and self._slot is not None

    def end(self, x: torch.Tensor) -> None:
        """The sampler has made its last call, and gives the latent ``x``; on CUDA this waits for what it read late."""
        self._stopwatch.mark()
        told, known = self._locator.lost, self._locator.settle()
        if known or told:
            return
        self.remark(self._locator.lost)
        if self._observe is not None:
            self._observe(None, x)

    def remark(self, message: str) -> None:
        """Have the report say, once, what did not go by the schedule."""
        if message not in self._doubts:
            self._doubts.append(message)

    @property
    def rule(self) -> Rule:
        """The rule of the step that the present call belongs to."""
        return self._reuse.rule

    @property
    def _reuse(self) -> Reuse:
        return self._reuses[self.call.step]

    def _keeps(self, target: str) -> bool:
        return self.call.step in self._kept[target] or (
            self.actions[self.call.step] is Action.REUSE and self.rule.target == target
        )

    # Output rules

    def cond_batch(
        self, compute: Callable[[], list[torch.Tensor]], model: object, conds: Conds, x: torch.Tensor, options: dict
    ) -> list[torch.Tensor]:
        """The denoised latents of ``conds`` at ``x``, computed or not, as the present call's action says.

        Args:
            compute: evaluates the model on all conds.
            model: the one that is evaluated.
            conds: the conds of one batch of the call; None where a guider leaves one out.
            x: the latent, [B, ...].
            options: the model options of this batch.
        """
        if self.call is None:
            self.note_computed()
            return compute()
        outputs = self._cond_batch(compute, model, conds, x, options)
        if self._answered is not None and not self._outputs:
            self._outputs = outputs  # of the first batch, that of CFG
        return outputs

    def _cond_batch(
        self, compute: Callable[[], list[torch.Tensor]], model: object, conds: Conds, x: torch.Tensor, options: dict
    ) -> list[torch.Tensor]:
        active = active_conds(conds, self.call.sigma)
        self._conds = conds
        # A guidance asks for its cond alone, in a list of its own length, also where CFG is off.
        self._variant = (self._names.model(model), len(conds), x.shape[1:], fingerprint(options))
        self._slot = (self.call.stage, self._variant, active)
        self._trace = Batch(self.call.step, self.call.stage, self._names.batch(self._slot))
        if self.action is Action.RECALL:
            outputs = self._recalled(x, active)
        elif self.action is Action.REUSE and self.rule.target == "output":
            outputs = self._reused(x, active)
        else:
            outputs = None
        if outputs is not None:
            return outputs
        if self.action is Action.COMPUTE or self.rule.target == "output":
            self.note_computed()
        outputs = compute()
        if self._record is not None:
            self._record.put_outputs(self._trace, outputs)
        self._keep_outputs(x, outputs, active)
        return outputs

    def _keep_outputs(self, x: torch.Tensor, outputs: list[torch.Tensor], active: tuple) -> None:
        if not self._keeps("output") or self._names.is_void(self._slot):
            return
        for index, (output, evaluated) in enumerate(zip(outputs, active)):
            if evaluated:
                self._keep(("output", self._slot, index), carried(x, output, self.call.sigma, self._draws))

    def _reused(self, x: torch.Tensor, active: tuple) -> list[torch.Tensor] | None:
        if self._is_void(self._slot):
            return None
        histories = [self._find(("output", self._slot, i)) if evaluated else None for i, evaluated in enumerate(active)]
        if any(evaluated and (h is None or not h.fits(x, self._reuse)) for h, evaluated in zip(histories, active)):
            self.missing()
            return None
        sigma, reuse = self.call.sigma, self._reuse
        return [
            torch.zeros_like(x) if h is None else denoised_from(x, h.at(sigma, reuse, x.device), sigma, self._draws)
            for h in histories
        ]

    def _recalled(self, x: torch.Tensor, active: tuple) -> list[torch.Tensor]:
        outputs = [output.to(x.device, copy=True) for output in self._recall.outputs(self._trace)]
        self._keep_outputs(x, outputs, active)
        if any(active) and self._keeps("residual"):
            for name, (latent_shape, residual) in self._recall.residuals(self._trace).items():
                self._names.claim(name[0])
                self.keep_residual(name, latent_shape, residual)
        return outputs

    # Residual rules, for the block stack

    def name_chunks(self, indices: Sequence[int], uuids: Sequence[Hashable], options: dict) -> tuple[Hashable, ...]:
        """Names for the next chunks that the present batch evaluates, the same ones at every step.

        A uuid alone is no name: ComfyUI copies an area's cond to the other side of CFG, and a tiling node evaluates
        the model on one cond many times.

        Args:
            indices: which of the batch's conds each chunk belongs to, 0 for positive and 1 for negative.
            uuids: of the conds.
            options: the transformer options of this evaluation.
        """
        given = (self.call.stage, self._variant, fingerprint(options))
        return tuple(
            self._names.chunk((*given, index, uuid, self._cond_of(index, uuid)))
            for index, uuid in zip(indices, uuids, strict=True)
        )

    def _cond_of(self, index: int, uuid: Hashable) -> tuple[Hashable, ...]:
        conds = self._conds[index] if index < len(self._conds) else None
        return tuple(fingerprint(cond) for cond in conds or () if cond["uuid"] == uuid)

    def _is_void(self, name: Hashable) -> bool:
        if not self._names.is_void(name):
            return False
        self.remark("what a step asks of the model twice, with nothing to tell the two apart, is computed")
        return True

    def _residual_key(self, name: Hashable, latent_shape: tuple[int, ...]) -> Hashable:
        return ("residual", name, latent_shape)

    @property
    def reuses_residuals(self) -> bool:
        """Whether the present call is to reuse the block stack's residual."""
        return self.call is not None and self.action is Action.REUSE and self.rule.target == "residual"

    def may_skip_blocks(self, names: Sequence[Hashable], latent_shape: tuple[int, ...]) -> bool:
        """Whether the present call reuses the block stack's residual and has one for every chunk named."""
        if not self.reuses_residuals or any(self._is_void(chunk) for chunk, _ in names):
            return False
        ready = all(self._find(self._residual_key(name, latent_shape)) is not None for name in names)
        if not ready:
            self.missing()
        return ready

    def residual(self, name: Hashable, latent_shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
        """The predicted residual of the block stack for one chunk, [B, tokens, width]."""
        history = self._find(self._residual_key(name, latent_shape))
        return history.at(self.call.sigma, self._reuse, device)

    def keep_residual(self, name: Hashable, latent_shape: tuple[int, ...], residual: torch.Tensor) -> None:
        """Keep the block stack's residual of one chunk, [B, tokens, width], at a latent of ``latent_shape``."""
        if self._record is not None:
            self._record.put_residual(self._trace, name, latent_shape, residual)
        if not self._names.is_void(name[0]):
            self._keep(self._residual_key(name, latent_shape), residual)

    def give_up_residuals(self, why: str) -> bool:
        """Follow residual rules on the output from here on; False where the schedule has none."""
        if all(rule.target == "output" for rule in self.schedule.rules):
            return False
        self.follow(on_output(self.schedule))
        self.remark(f"rules run on the output: {why}")
        return True

    @property
    def wants_residuals(self) -> bool:
        """Whether the block stack's residual at the present call is needed later."""
        recorded = self._record is not None and self._record.residuals_wanted
        return self.call is not None and (recorded or self._keeps("residual"))

    # Accounts

    def _keep(self, key: Hashable, value: torch.Tensor) -> None:
        self._slots.put(key, self.call.step, self.call.sigma, value)

    def _find(self, key: Hashable) -> History | None:
        """What is kept under ``key`` and no older than the computed step that the present one reuses."""
        return self._slots.find(key, self._starts[self.call.step])

    def missing(self) -> None:
        """A step that was to reuse a value has none that fits, so it is computed."""
        if self.call.step not in self._missed:
            self._missed.append(self.call.step)

    def note_computed(self) -> None:
        """The present call runs the model."""
        self._ran[-1:] = [True]
        if self.call is not None:
            self._computed_steps.add(self.call.step)

    def note_model_calls(self, conds: int) -> None:
        """The model is evaluated on this many conds; several devices may tell so at once."""
        self._evaluated.append(conds)

    @property
    def model_calls(self) -> int:
        """On how many conds the model was evaluated, each one counted."""
        return sum(self._evaluated)

    def report(self, finished: bool) -> RunReport:
        """What the run did; on CUDA this waits for the last call of the run."""
        laps = self._stopwatch.laps() if finished and self._stopwatch is not None else []
        ran = sum(self._ran)
        calls = self.model_calls
        full_calls = round(calls * len(self._ran) / ran) if ran else 0
        return RunReport(
            schedule=self.schedule.name,
            origin=self.schedule.origin,
            note=self._note,
            steps=self.schedule.steps,
            computed=tuple(sorted(self._computed_steps)),
            calls=calls,
            full_calls=full_calls,
            seconds=sum(laps),
            speedup=speedup(laps, self._ran) if finished else None,
            doubts=tuple(self._doubts) + self._missed_doubts() + self._strayed_doubts(),
            finished=finished,
            latent=self._latent,
        )

    def _missed_doubts(self) -> tuple[str, ...]:
        if not self._missed:
            return ()
        missed = _steps_text(self._missed)
        return (f"computed at {missed} too: nothing cached fits the conds, options, shape, window or stage",)

    def _strayed_doubts(self) -> tuple[str, ...]:
        strayed = {} if self._locator is None else self._locator.strayed
        reused = {call.step for number, call in strayed.items() if not self._ran[self._first_call + number]}
        if not reused:
            return ()
        steps = _steps_text(sorted(reused))
        return (f"the picture may be off: reused at {steps} before the sampler was known to leave its rehearsal",)

    def close(self) -> None:
        """Let go of every tensor."""
        self._slots.clear()
        self.call, self._conds, self._outputs = None, (), []
