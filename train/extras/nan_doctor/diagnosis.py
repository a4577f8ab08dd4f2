"""When a value is not finite: replay that very step, say where it arose, leave a bundle.

The loop checks the loss and the gradient before the optimiser steps, so the weights are still those
of before. The running statistics of batch norm have moved, but in training mode nothing reads them.

    python -m train.nonfinite BUNDLE
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from serve.contract.errors import StillroomError, UsageError
from train.extras.nan_doctor.bundle import load_bundle, save_bundle
from train.extras.nan_doctor.replay import (
    Call,
    Step,
    Trace,
    bad_tensor,
    is_finite,
    modules_in,
    replay,
)
from train.losses.objective import Objective
from train.models.classifier import ImageClassifier

__all__ = ["Diagnosis", "diagnose", "diagnose_weights", "explain", "main"]

SHOWN = 5  # positions in a message
COMMAND = "python -m train.nonfinite"

Origin = Literal[
    "input", "weights", "forward", "teacher", "loss", "backward", "norm", "precision", "nowhere"
]

ADVICE: dict[Origin, str] = {
    "input": "Look at those images in the bundle, and at what `augment` does to them.",
    "weights": "An earlier step or the weights it began with made it so: lower lr.",
    "forward": "Lower lr, or lengthen warmup_epochs.",
    "teacher": "Train the teacher again: its logits for these images are NaN.",
    "loss": "Lower the weight of that term, or lower lr.",
    "backward": "Lower lr, or lengthen warmup_epochs.",
    "norm": "Lower lr; the gradient explodes.",
    "precision": "Set precision=fp32.",
    "nowhere": "Run again; if it recurs at another step, suspect the machine.",
}


@dataclass(frozen=True)
class Diagnosis:
    """Where the first value that is not finite came from.

    Args:
        origin: the part of the step.
        where: the layer, tensor, term or images; empty where there is none to name.
        words: one sentence for a person.
    """

    origin: Origin
    where: str
    words: str

    @property
    def advice(self) -> str:
        """What to do next."""
        return ADVICE[self.origin]


def diagnose(step: Step) -> Diagnosis:
    """Replay a step and say where the first value arises that is not finite.

    The order of the questions is that of the step: images and labels, then the first layer (or its
    weights) whose output is not finite while its input is, then the terms of the loss, then the
    first layer in backward order. What is finite in fp32 is the fault of the precision.

    Args:
        step: with the weights of before; left as it was.
    """
    for what, values in (("image", step.images), ("label", step.labels)):
        if not is_finite(values):
            positions = _positions(values)
            where = f"{what} {_listed(positions)} of the batch"
            return Diagnosis("input", where, f"The input is not finite: {where}.")
    found = _replayed(step, step.precision)
    if found is None:
        return diagnose_weights(step.model) or Diagnosis(
            "nowhere", "", "Not reproduced: replayed from the same weights, the step is finite."
        )
    if step.precision == "fp32" or _replayed(step, "fp32") is not None:
        return found
    return Diagnosis("precision", found.where, f"{found.words} In fp32 the step is finite.")


def diagnose_weights(model: nn.Module) -> Diagnosis | None:
    """Name the tensors of a model that are not finite, as after a step of the optimiser.

    Returns:
        None where all are finite.
    """
    bad = [name for name, tensor in model.state_dict().items() if not is_finite(tensor)]
    if not bad:
        return None
    more = f" and {len(bad) - 1} tensors more" if len(bad) > 1 else ""
    return Diagnosis("weights", bad[0], f"{bad[0]}{more} of the model not finite.")


def explain(  # noqa: PLR0913  # the parts of a step, as the loop has them
    model: ImageClassifier,
    objective: Objective,
    images: Tensor,
    labels: Tensor,
    *,
    seed: int,
    precision: str,
    folder: Path,
    step: int,
    phase: str,
) -> StillroomError:
    """Diagnose a failed step and leave a bundle to debug it with.

    Args:
        model: with the weights of before the step.
        objective: of the phase.
        images: as the objective got them.
        labels: likewise.
        seed: of `torch.manual_seed` right before the objective was called.
        precision: fp32, bf16 or fp16.
        folder: for the bundle; made, and replaced where it exists.
        step: optimiser steps done before.
        phase: name of the phase.

    Returns:
        The error to raise: what, where, the next step, and the bundle's path.
    """
    failed = Step(model, objective, images, labels, seed, precision)
    found = diagnose(failed)
    message = f"Not finite at step {step + 1} of {phase}. {found.words}"
    try:
        save_bundle(folder, failed, {"phase": phase, "step": step, "words": found.words})
    except OSError as error:
        return StillroomError(message, f"{found.advice} No bundle: {error.strerror}.")
    return StillroomError(message, f"{found.advice} To replay it: {COMMAND} {folder}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay a bundle and print its diagnosis: `python -m train.nonfinite BUNDLE`.

    Returns:
        0, or 2 where the bundle cannot be used.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if len(given) != 1:
            raise UsageError(f"{len(given)} arguments: expected one.", f"{COMMAND} BUNDLE")
        step, record = load_bundle(Path(given[0]))
    except StillroomError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    found = diagnose(step)
    device = next(step.model.parameters()).device.type
    lines = (
        f"step      {record['step'] + 1} of {record['phase']}, {len(step.images)} images",
        f"recorded  on {record['device']}: {record['words']}",
        f"replayed  on {device}: {found.words}",
        f"next      {found.advice}",
    )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _replayed(step: Step, precision: str) -> Diagnosis | None:
    """Where a replay stops to be finite; None where it does not."""
    trace = replay(step, precision)
    if trace.loss_is_finite:
        found = _in_backward(trace)
        # Fused attention may hide NaN of the forward, which its backward then shows.
        return _in_forward(trace, step) if found and trace.swallowed_nan else found
    return _in_forward(trace, step)


def _in_forward(trace: Trace, step: Step) -> Diagnosis:
    """The first layer that makes finite input into others, or the objective."""
    call, called = trace.origin, {call.module for call in trace.calls}
    if call is None or not any(module is call.module for module in step.model.modules()):
        return _in_objective(trace, step, called)
    where = call.name or "the model itself"
    if tensor := bad_tensor(call.module, called):
        name = f"{call.name}.{tensor}".lstrip(".")
        return Diagnosis("weights", name, f"{name} is not finite before the step.")
    largest = [float(p.detach().abs().max()) for p in call.module.parameters(recurse=False)]
    of = f" and weights up to {max(largest):.1e}" if largest else ""
    return Diagnosis("forward", where, f"It arises in the forward of {where}: {_made(trace)}{of}.")


def _in_objective(trace: Trace, step: Step, called: set[nn.Module]) -> Diagnosis:
    """The teacher, or a term of the loss."""
    call = trace.origin
    if call is not None and (teacher := _teacher_of(call)):
        tensor = bad_tensor(call.module, called)
        what = f"{call.name}.{tensor} is not finite" if tensor else _made(trace)
        return Diagnosis("teacher", call.name, f"It arises in {teacher}, at {call.name}: {what}.")
    terms = trace.output.terms if trace.output else {}
    names = [name for name, value in terms.items() if not is_finite(value)]
    where = f"the term {' and '.join(names)}" if names else "the sum of the terms"
    for name, module in modules_in(step.objective).items():
        if tensor := bad_tensor(module, set()):
            where += f" ({name}.{tensor} is not finite)"
    return Diagnosis(
        "loss", where, f"It arises in the loss, from finite logits: {where} is {trace.loss}."
    )


def _teacher_of(call: Call) -> str:
    """Name of the classifier inside the objective that a call belongs to; empty for none."""
    found = ""
    at: Call | None = call
    while at is not None:
        found = at.name if isinstance(at.module, ImageClassifier) else found
        at = at.parent
    return found


def _in_backward(trace: Trace) -> Diagnosis | None:
    """The first layer in backward order that makes finite gradients into others."""
    bad = [name for name, gradient in trace.gradients.items() if not is_finite(gradient)]
    if not bad:
        return _in_norm(trace)
    makers = [call for call in trace.calls if _spoils(call, set(bad))]
    outer = {call.parent for call in makers}
    if inner := [call for call in makers if call not in outer]:
        where = inner[-1].name or "the model itself"
        how = f"finite gradients reach {where}, others leave it"
    elif any(call.output_gradient is False and not call.name for call in trace.calls):
        where, how = "the loss", "its gradient by the logits is not finite"
    else:
        where, how = bad[-1], "the first parameter on the way back with such a gradient"
    first = bad[-1]
    words = f"It arises in the backward of {where}: {how}; parameters from {first} on."
    return Diagnosis("backward", where, words)


def _spoils(call: Call, bad: set[str]) -> bool:
    own = {f"{call.name}.{name}".lstrip(".") for name in call.module._parameters}
    return call.output_gradient is True and (call.input_gradient is False or bool(own & bad))


def _in_norm(trace: Trace) -> Diagnosis | None:
    if not trace.gradients or is_finite(nn.utils.get_total_norm(trace.gradients.values())):
        return None
    largest = max(trace.gradients, key=lambda name: float(trace.gradients[name].abs().max()))
    size = float(trace.gradients[largest].abs().max())
    words = f"Each gradient is finite, their norm is not; the largest is {size:.1e} at {largest}."
    return Diagnosis("norm", largest, words)


def _made(trace: Trace) -> str:
    """What the first layer made of its finite input, and of which images, where not of all."""
    value = trace.value
    if value is None:
        return "not finite"
    kind = "NaN" if bool(torch.isnan(value).any()) else "infinity"
    positions = _positions(value)
    images = len(trace.output.logits) if trace.output else 0
    some = value.ndim > 1 and len(value) == images and len(positions) < images
    of = f" for image {_listed(positions)} of the batch" if some else ""
    return f"{kind}{of} from finite input"


def _positions(values: Tensor) -> list[int]:
    """Positions along the batch that hold a value that is not finite."""
    bad = ~torch.isfinite(values).reshape(len(values), -1).all(1)
    return [int(position) for position in bad.nonzero().flatten()]


def _listed(positions: list[int]) -> str:
    names = ", ".join(map(str, positions[:SHOWN]))
    return f"{names} and {len(positions) - SHOWN} more" if len(positions) > SHOWN else names


if __name__ == "__main__":
    sys.exit(main())
