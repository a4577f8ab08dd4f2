"""Callback: what plugs into a training, beside the training itself.

The NaN doctor, the curves of TensorBoard and MLflow, a stopwatch, a pruner of a search: each is a
callback. The engine calls them in their order, on every rank; it knows none of them by name but
the NaN doctor, which is loaded once something is not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from serve.contract.errors import StillroomError

if TYPE_CHECKING:
    from train.engine.step import StepResult
    from train.engine.trainer import Trainer

__all__ = ["Callback", "OnEpoch", "explain_nonfinite"]

NAN_DOCTOR = "train.extras.nan_doctor.doctor:NanDoctor"


class Callback:
    """Each method does nothing here; override those that you need.

    What a method raises ends the training; the state of the last save stays.
    """

    def on_step(self, trainer: Trainer, images: int) -> None:
        """After each optimiser step.

        Args:
            trainer: `done` of its `total` steps are done; `loss` is the last that was looked at.
            images: of all ranks in this step.
        """

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """After each epoch is validated and its state saved; `record` as metrics.jsonl has it."""

    def on_nonfinite(self, trainer: Trainer, failed: StepResult | None) -> StillroomError | None:
        """Explain a loss or gradient that is not finite; the weights are those before the step.

        Args:
            trainer: whose step failed.
            failed: what the step was given; None where the validation loss is not finite.

        Returns:
            The error to raise; None leaves it to the next callback, and last to the NaN doctor.
        """
        return None

    def on_stop(self, trainer: Trainer) -> None:
        """After a signal, once everything is saved and before the training ends."""


@dataclass(frozen=True)
class OnEpoch(Callback):
    """A plain function of each epoch's record, on the rank that writes."""

    function: Callable[[dict[str, Any]], None]

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """Give it the record."""
        if trainer.world.is_writer:
            self.function(record)


def explain_nonfinite(
    callbacks: Sequence[Callback], trainer: Trainer, failed: StepResult | None
) -> StillroomError:
    """The error of the first callback that explains it, else the NaN doctor's."""
    for callback in callbacks:
        if (error := callback.on_nonfinite(trainer, failed)) is not None:
            return error
    doctor: Callback = resolve_name(NAN_DOCTOR)()
    error = doctor.on_nonfinite(trainer, failed)
    assert error is not None  # the doctor always has an answer
    return error
