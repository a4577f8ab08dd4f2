"""NanDoctor: the callback that replays a step that was not finite, and says where it began."""

from __future__ import annotations

from serve.contract.errors import StillroomError
from train.engine.callbacks import Callback
from train.engine.step import Part, StepResult
from train.engine.trainer import Trainer
from train.extras.nan_doctor.diagnosis import diagnose, diagnose_weights, explain
from train.extras.nan_doctor.replay import Step

__all__ = ["NanDoctor"]


class NanDoctor(Callback):
    """Explains; of several ranks the lowest that saw it, and all raise the same."""

    def on_nonfinite(self, trainer: Trainer, failed: StepResult | None) -> StillroomError:
        """As `Callback`; the bundle of the step lies beside the stage's folder."""
        if failed is None:
            return _of_validation(trainer)
        bad = failed.loss_is_bad  # a bad gradient is on all ranks, and not due to each

        def explained() -> StillroomError:
            part = _first_bad_part(trainer, failed) or failed.parts[-1]
            return explain(
                trainer.model,
                trainer.objective,
                part.images,
                part.labels,
                seed=part.seed,
                precision=trainer.plan.precision,
                folder=trainer.folder.parent.parent
                / f"nonfinite-{trainer.name}-step-{failed.step + 1}",
                step=failed.step,
                phase=trainer.name,
            )

        def saw_it() -> bool:
            return bad or _first_bad_part(trainer, failed) is not None

        return trainer.world.explain_together(explained, saw_it=saw_it)


def _first_bad_part(trainer: Trainer, failed: StepResult) -> Part | None:
    """The first part that is not finite when it is run again."""
    for part in failed.parts:
        step = Step(
            trainer.model,
            trainer.objective,
            part.images,
            part.labels,
            part.seed,
            trainer.plan.precision,
        )
        if diagnose(step).origin != "nowhere":
            return part
    return None


def _of_validation(trainer: Trainer) -> StillroomError:
    diagnosis = diagnose_weights(trainer.validated)
    why = f": {diagnosis.words}" if diagnosis is not None else ""
    error = StillroomError(
        f"The validation loss of {trainer.name} is not finite at step {trainer.done}{why}.",
        "Lower lr, or set precision=fp32, and run again.",
    )
    return trainer.world.shared(error)
