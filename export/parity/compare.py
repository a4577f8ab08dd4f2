"""The parity judge: does a candidate answer as the reference does, on real images?

Numbers, decisions and labels are compared, in this order of strictness, because a mean over many
images hides what flips: a wrong resize filter can even gain accuracy. Needs numpy only, so that the
machine that serves can judge too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from export.parity.accuracy import accuracy_change, softmax
from export.parity.reasons import reasons_to_fail, why_not_shown
from export.parity.statistics import agreement_lower_bound
from export.parity.tolerances import Tolerances
from export.parity.verdict import Flip, Verdict, require_pass, write_flips
from serve.contract.errors import GateError

__all__ = [
    "Flip",
    "ModelOutputs",
    "Verdict",
    "compare_outputs",
    "require_pass",
    "snr_db",
    "write_flips",
]

Logits = NDArray[np.float32]
USUAL_SD = (0.3, 5.0)  # of logits after cross-entropy; elsewhere margins are counted in sd


@dataclass(frozen=True)
class ModelOutputs:
    """What a reference predicts on N images.

    Args:
        names: N, shown in messages; for example paths in the dataset.
        sha256: N, of the files' bytes.
        labels: K class names.
        logits: (N, K) float32.
        targets: (N,) class numbers; None where the truth is not known.
    """

    names: tuple[str, ...]
    sha256: tuple[str, ...]
    labels: tuple[str, ...]
    logits: Logits
    targets: NDArray[np.int64] | None

    def __post_init__(self) -> None:
        shape = (len(self.names), len(self.labels))
        counts = {len(self.names), len(self.sha256)}
        if self.targets is not None:
            counts.add(len(self.targets))
        if len(counts) != 1 or self.logits.shape != shape:
            raise ValueError(
                f"logits {self.logits.shape} of {len(self.labels)} labels and {sorted(counts)} "
                "images."
            )


def compare_outputs(
    reference: ModelOutputs,
    candidate: Logits,
    limits: Tolerances,
    *,
    min_images: int,
    invariance: float | None = None,
    blank: tuple[Logits, Logits] | None = None,
) -> Verdict:
    """Compare a candidate's logits with the reference's.

    Args:
        reference: N images with (N, K) logits of the reference model.
        candidate: (N, K) float32 logits of the same images in the same order.
        limits: what may differ at the candidate's precision.
        min_images: with fewer the verdict is never "passed".
        invariance: largest difference between an image's logits alone and in a mixed batch,
            negative where they are not finite (`export.parity.batching.batch_invariance`).
        blank: (2, K) logits of an all-black and an all-white image: the reference's, and the
            candidate's.

    Raises:
        ValueError: shapes differ, or there are no images.
        GateError: the reference's own logits are not finite.
    """
    if candidate.shape != reference.logits.shape or not len(candidate):
        raise ValueError(f"logits {candidate.shape} against {reference.logits.shape}.")
    _check_reference(reference)
    expected = reference.logits.astype(np.float64)
    diff = candidate.astype(np.float64) - expected
    sd = float(expected.std())
    finite = bool(np.isfinite(diff).all())
    accuracy = None
    if reference.targets is not None:
        accuracy = accuracy_change(reference.logits, candidate, reference.targets, reference.labels)
    flips = _flips(reference, candidate)
    agree = len(expected) - len(flips)
    usual = USUAL_SD[0] <= sd <= USUAL_SD[1] or sd == 0
    measured = Verdict(
        status="passed",
        reasons=(),
        images=len(expected),
        agreement=agree / len(expected),
        agreement_low=agreement_lower_bound(agree, len(expected)),
        max_abs_diff=float(np.abs(diff).max()) if finite else -1.0,
        sd=sd,
        snr_db=snr_db(expected, diff),
        mean_kl=_mean_kl(reference.logits, candidate) if finite else None,
        margin_scale=1.0 if usual else sd,
        flips=flips,
        batch_max_diff=invariance,
        blank_max_diff=None if blank is None else _blank_diff(*blank),
        accuracy=accuracy,
    )
    worst = reference.names[_worst_image(diff)]
    return _decided(measured, limits, reasons_to_fail(measured, limits, worst, blank), min_images)


def snr_db(signal: NDArray[np.float64], noise: NDArray[np.float64]) -> float:
    """10 log10 of the ratio of mean squares; 999 without noise, -999 if it is endless."""
    power = float((noise**2).mean())
    if power == 0:
        return 999.0
    if not math.isfinite(power):
        return -999.0
    return 10 * math.log10(max(float((signal**2).mean()), 1e-300) / power)


def _check_reference(reference: ModelOutputs) -> None:
    bad = np.flatnonzero(~np.isfinite(reference.logits).all(1))
    if len(bad):
        raise GateError(
            f"The reference itself answers {len(bad)} of {len(reference.names)} images with "
            f"logits that are not finite, first {reference.names[bad[0]]}.",
            "Its weights are damaged: train again, or restore the checkpoint.",
        )


def _flips(reference: ModelOutputs, candidate: Logits) -> tuple[Flip, ...]:
    before, after = reference.logits.argmax(1), candidate.argmax(1)
    names, targets = reference.labels, reference.targets
    flips = [
        Flip(
            path=reference.names[i],
            sha256=reference.sha256[i],
            label="" if targets is None else names[targets[i]],
            reference=names[before[i]],
            candidate=names[after[i]],
            margin=float(reference.logits[i, before[i]]) - float(reference.logits[i, after[i]]),
            change="" if targets is None else _change(targets[i], before[i], after[i]),
        )
        for i in np.flatnonzero(before != after)
    ]
    return tuple(sorted(flips, key=lambda flip: -flip.margin))


def _change(truth: int, before: int, after: int) -> Literal["lost", "gained", "other"]:
    if before == truth:
        return "lost"
    return "gained" if after == truth else "other"


def _mean_kl(reference: Logits, candidate: Logits) -> float:
    expected, found = softmax(reference), softmax(candidate)
    tiny = np.finfo(np.float64).tiny
    ratio = np.log(np.maximum(expected, tiny)) - np.log(np.maximum(found, tiny))
    return max(0.0, float((expected * ratio).sum(1).mean()))


def _blank_diff(expected: Logits, found: Logits) -> float:
    diff = np.abs(found.astype(np.float64) - expected)
    return float(diff.max()) if np.isfinite(diff).all() else -1.0


def _worst_image(diff: NDArray[np.float64]) -> int:
    return int(np.nan_to_num(np.abs(diff), nan=np.inf, posinf=np.inf).max(axis=1).argmax())


def _decided(measured: Verdict, limits: Tolerances, reasons: list[str], min_images: int) -> Verdict:
    status: Literal["passed", "failed", "inconclusive"] = "failed" if reasons else "passed"
    if not reasons and measured.images < min_images:
        status = "inconclusive"
        reasons = [f"{measured.images} images < {min_images}"]
    elif not reasons and measured.agreement_low < limits.min_agreement:
        status = "inconclusive"
        reasons = [why_not_shown(measured, limits)]
    return replace(measured, status=status, reasons=tuple(reasons))
