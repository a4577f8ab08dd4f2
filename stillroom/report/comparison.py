"""Paired differences: the same test images through two models, and whether chance explains them."""

from __future__ import annotations

from dataclasses import dataclass

from export.parity.predictions import mcnemar_p
from train.evaluation import Predictions

__all__ = ["Comparison", "compare", "compare_all"]

SIGNIFICANT = 0.05
PAIRS = (("student", "baseline"), ("fixres", "student"), ("fixres", "teacher"))
NAMES = {
    "student": "distilled student",
    "baseline": "student without teacher",
    "fixres": "FixRes",
    "teacher": "teacher",
}
NOT_KEPT = "student at the FixRes size (FixRes was not kept)"


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images.

    Args:
        title: "first − second".
        n: images.
        difference: top-1 of the first minus top-1 of the second; a fraction.
        gained: images that only the first has right.
        lost: images that only the second has right.
        p: exact two-sided McNemar p.
    """

    title: str
    n: int
    difference: float
    gained: int
    lost: int
    p: float

    @property
    def shown(self) -> bool:
        """Whether a difference is shown at the 5 % level."""
        return self.p < SIGNIFICANT

    @property
    def reading(self) -> str:
        """The difference in words."""
        if not self.shown:
            return "no difference shown"
        return "better" if self.difference > 0 else "worse"


def compare(title: str, first: Predictions, second: Predictions) -> Comparison:
    """Compare two models image by image.

    Args:
        title: for people.
        first: N test images.
        second: the same images in the same order.

    Raises:
        ValueError: the images differ.
    """
    if [p.sha256 for p in first.photos] != [p.sha256 for p in second.photos]:
        raise ValueError(f"{title}: the predictions are not of the same images in the same order.")
    targets = first.targets
    a, b = first.predicted == targets, second.predicted == second.targets
    gained, lost = int((a & ~b).sum()), int((b & ~a).sum())
    n = len(targets)
    return Comparison(title, n, (gained - lost) / n, gained, lost, mcnemar_p(lost, gained))


def compare_all(
    predictions: dict[str, Predictions], *, kept: bool = True, distilled: bool = True
) -> tuple[Comparison, ...]:
    """The comparisons that a run is for: distillation, FixRes, and what compression cost.

    Args:
        predictions: by stage.
        kept: whether the fine-tuning of FixRes was.
        distilled: whether the student learnt from its teacher at all.
    """
    names = dict(NAMES)
    if not kept:
        names["fixres"] = NOT_KEPT
    if not distilled:
        names["student"] = "student (kd_weight 0)"
    return tuple(
        compare(
            f"{names[first][0].upper()}{names[first][1:]} − {names[second]}",
            predictions[first],
            predictions[second],
        )
        for first, second in PAIRS
    )
