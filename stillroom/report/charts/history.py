"""metrics.jsonl: how a training went, epoch by epoch, over one or two phases."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

__all__ = ["History", "read_history"]


@dataclass(frozen=True)
class History:
    """One training.

    Args:
        title: of the model.
        phases: name and number of epochs of each, in order.
        train_loss: of each epoch over all phases; of the objective, so not always cross-entropy.
        val_loss: likewise, cross-entropy.
        train_top1: fractions, measured on augmented views during the epoch.
        val_top1: fractions.
        val_agreement: fractions of val answered as the teacher does; NaN without a teacher.
    """

    title: str
    phases: tuple[tuple[str, int], ...]
    train_loss: tuple[float, ...]
    val_loss: tuple[float, ...]
    train_top1: tuple[float, ...]
    val_top1: tuple[float, ...]
    val_agreement: tuple[float, ...] = ()

    @property
    def epochs(self) -> int:
        """Of all phases together."""
        return len(self.val_loss)


def read_history(path: Path, title: str) -> History:
    """Read metrics.jsonl; a value that is absent or not finite becomes NaN, a gap in the curve."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    phases: dict[str, int] = {}
    for record in records:
        phases[record["phase"]] = phases.get(record["phase"], 0) + 1

    def column(name: str) -> tuple[float, ...]:
        values = [float(record.get(name, math.nan)) for record in records]
        return tuple(value if math.isfinite(value) else math.nan for value in values)

    return History(
        title=title,
        phases=tuple(phases.items()),
        train_loss=column("loss"),
        val_loss=column("val_loss"),
        train_top1=column("train_top1"),
        val_top1=column("val_top1"),
        val_agreement=column("val_agreement"),
    )
