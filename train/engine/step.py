"""One step of the optimiser: forward and backward of a batch or its parts, clipping, the update.

A step whose loss or gradient is not finite changes no weight. On a CPU that is seen before the
update. On a GPU to look at a value is to wait until it is computed, so the update itself skips, on
the device, and the value is looked at one step later, when the next step is already queued.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from train.engine.world import current_world

if TYPE_CHECKING:
    from train.engine.plan import PhaseOptions
    from train.losses.objective import Objective, StepOutput
    from train.models.classifier import ImageClassifier

__all__ = ["DTYPES", "Part", "StepResult", "Stepper"]

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # of autocast
LOWEST_SCALE = 1.0  # of an fp16 loss; if its gradients overflow even so, the range is not the cause


@dataclass(frozen=True)
class Part:
    """What one forward gets.

    Args:
        images: as the objective gets them.
        labels: likewise.
        seed: of `torch.manual_seed` right before it.
    """

    images: Tensor
    labels: Tensor
    seed: int


@dataclass(frozen=True)
class StepResult:
    """A step that was tried, with what is needed to try it again.

    Args:
        step: optimiser steps done before.
        parts: of the batch.
        fetch: waits for (loss, norm of the gradient, scale of an fp16 loss) and returns them.
    """

    step: int
    parts: Sequence[Part]
    fetch: Callable[[], list[float]]

    @property
    def loss(self) -> float:
        """Of the batch."""
        return self.fetch()[0]

    @property
    def loss_is_bad(self) -> bool:
        """Whether the loss is not finite."""
        return not math.isfinite(self.loss)

    @property
    def norm_is_bad(self) -> bool:
        """Whether the gradient is not finite; fp16 overflows now and then, and lowers its scale."""
        _, norm, scale = self.fetch()
        return not math.isfinite(norm) and scale <= LOWEST_SCALE


@dataclass
class Stepper:
    """The optimiser of a phase, and how it steps.

    Args:
        model: frozen as it stays; on its device.
        objective: forward and loss.
        plan: of the phase.
        late: whether a step is looked at while the next one is under way; None: on a GPU.
    """

    model: ImageClassifier
    objective: Objective
    plan: PhaseOptions
    late: bool | None = None
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        plan, device = self.plan, self.model.device
        if self.late is None:
            self.late = device.type == "cuda"
        self._forward = current_world().build_forward(
            self.model,
            self.objective,
            sync_bn=plan.sync_bn,
            prepare=torch.compile if plan.compile else lambda model: model,
        )
        self.optimizer = plan.optimizer_of(self.model)
        self.learning = [p for p in self.model.parameters() if p.requires_grad]
        self.decayed = [p for p in self.learning if p.ndim > 1]
        self._scaler = torch.amp.GradScaler(device.type, enabled=plan.precision == "fp16")
        self._bad = torch.zeros((), device=device)  # 1 where the gradient is not finite
        self._pending: deque[StepResult] = deque()

    def run(self, parts: Sequence[Part], *, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Forward and backward of all parts; the gradient is then clipped, not applied.

        Args:
            parts: of this rank's share of the batch.
            step: optimiser steps done.

        Returns:
            (N, K) logits, and named scalars: the loss that is minimised and its terms.
        """
        self.optimizer.zero_grad(set_to_none=True)
        total = sum(len(part.labels) for part in parts)
        logits, terms = [], dict[str, Tensor]()
        for number, part in enumerate(parts):
            share = len(part.labels) / total
            output, loss = self._forward_of(part, last=number == len(parts) - 1)
            logits.append(output.logits.detach())
            with current_world().peer_errors("averaging gradients"):
                self._scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
            for name, value in self._terms_of(output, loss).items():
                terms[name] = terms[name] + value * share if name in terms else value * share
        self._scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.learning, self.plan.clip_norm or math.inf)
        self._bad = (~torch.isfinite(norm)).float()
        self._pending.append(StepResult(step, parts, _fetch(terms["loss"], norm, self._scaler)))
        return torch.cat(logits), terms

    def looked_at(self, *, all_of_them: bool = False) -> list[StepResult]:
        """The steps to look at now: the last one, or if `late` the one before; or all."""
        keep = 1 if self.late and not all_of_them else 0
        return [self._pending.popleft() for _ in range(len(self._pending) - keep)]

    def update(self, rate: float) -> None:
        """Apply the gradient at a learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        if self.late and not self._scaler.is_enabled():
            # What GradScaler gives to fused optimisers, which then leave the weights alone.
            vars(self.optimizer).update(found_inf=self._bad, grad_scale=None)
        self._scaler.step(self.optimizer)
        self._scaler.update()

    def scaler_state(self) -> dict[str, Any]:
        """Of the fp16 loss; empty for other precisions."""
        return self._scaler.state_dict()

    def load_scaler(self, state: dict[str, Any]) -> None:
        """Restore what `scaler_state` gave."""
        if state:
            self._scaler.load_state_dict(state)

    def _forward_of(self, part: Part, *, last: bool) -> tuple[StepOutput, Tensor]:
        torch.manual_seed(part.seed)
        dtype = DTYPES.get(self.plan.precision)
        with torch.autocast(part.images.device.type, dtype, enabled=dtype is not None):
            output = self._forward(part.images, part.labels, last=last)
        loss = output.loss
        if self.plan.l1:
            loss = loss + self.plan.l1 * self._l1()
        return output, loss

    def _terms_of(self, output: StepOutput, loss: Tensor) -> dict[str, Tensor]:
        terms = {"loss": loss.detach(), "data_loss": output.loss.detach(), **output.terms}
        return terms | ({"l1": self._l1().detach()} if self.plan.l1 else {})

    def _l1(self) -> Tensor:
        return torch.stack([weight.abs().sum() for weight in self.decayed]).sum()


def _fetch(loss: Tensor, norm: Tensor, scaler: torch.amp.GradScaler) -> Callable[[], list[float]]:
    """Begin to bring figures to the host; the result waits for these, not for what follows."""
    scale = scaler._scale if scaler.is_enabled() else None
    values = torch.stack(
        [loss.float(), norm.float(), loss.new_zeros(()) if scale is None else scale]
    )
    if values.device.type != "cuda":
        return values.tolist
    host = values.to("cpu", non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def fetch() -> list[float]:
        copied.synchronize()
        return host.tolist()

    return fetch
