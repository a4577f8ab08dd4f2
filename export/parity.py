"""The parity verdict: does a candidate answer as the reference does, on real images?

Numbers, decisions and labels are compared, in this order of strictness, because a mean over many
images hides what flips: a wrong resize filter can even gain accuracy.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binomtest

from export.options import ParityLimits
from serve.contract.errors import GateError
from train.evaluate import Predictions

__all__ = ["Flip", "Verdict", "judge", "require_pass", "write_flips"]

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Flip:
    """An image whose answer changed.

    Args:
        path: of the image in the dataset.
        sha256: of its bytes.
        label: the truth.
        reference: the reference's answer.
        candidate: the candidate's answer.
        margin: the reference's logit of its answer minus its logit of the candidate's answer.
    """

    path: str
    sha256: str
    label: str
    reference: str
    candidate: str
    margin: float


@dataclass(frozen=True)
class Verdict:
    """Outcome of one comparison.

    Args:
        status: passed, failed, or inconclusive (too few images to say).
        reasons: what failed, each with its number and limit.
        images: number of images compared.
        agreement: share with equal answers.
        agreement_low: one-sided 95 % lower bound of the true share (Clopper-Pearson).
        max_abs_diff: largest difference of any logit.
        sd: standard deviation of the reference logits.
        snr_db: signal to noise of the logits; 999 where they are equal.
        flips: every image whose answer changed, widest margin first.
        reference_top1: share right by the labels.
        candidate_top1: likewise.
        mcnemar_p: exact two-sided p of lost against gained images.
    """

    status: Literal["passed", "failed", "inconclusive"]
    reasons: tuple[str, ...]
    images: int
    agreement: float
    agreement_low: float
    max_abs_diff: float
    sd: float
    snr_db: float
    flips: tuple[Flip, ...]
    reference_top1: float
    candidate_top1: float
    mcnemar_p: float

    def to_dict(self) -> dict[str, Any]:
        """JSON form; the flips are counted here and listed in flips.csv."""
        value = asdict(self)
        return {**value, "flips": len(self.flips), "reasons": list(self.reasons)}


def judge(reference: Predictions, candidate: Logits, limits: ParityLimits) -> Verdict:
    """Compare a candidate's logits with the reference's.

    Args:
        reference: N images with (N, K) logits of the reference model.
        candidate: (N, K) float32 logits of the same images in the same order.
        limits: what may differ.

    Raises:
        ValueError: shapes differ.
    """
    if candidate.shape != reference.logits.shape:
        raise ValueError(f"logits {candidate.shape} against {reference.logits.shape}.")
    expected = reference.logits.astype(np.float64)
    diff = candidate.astype(np.float64) - expected
    finite = bool(np.isfinite(diff).all())
    sd = float(expected.std())
    max_diff = float(np.abs(diff).max()) if finite else math.inf
    snr = snr_db(expected, diff) if finite else -math.inf
    flips = _flips(reference, candidate)
    n = len(expected)
    agree = n - len(flips)
    targets = reference.targets
    before, after = reference.answers == targets, candidate.argmax(1) == targets
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    reasons = []
    if not finite:
        reasons.append("the candidate's logits are not finite")
    if snr < limits.min_snr_db:
        reasons.append(f"SNR {snr:.1f} dB < {limits.min_snr_db:g} dB")
    if max_diff > limits.max_diff_sd * sd:
        worst = reference.photos[int(np.abs(diff).max(axis=1).argmax())]
        reasons.append(
            f"largest difference {max_diff:.3g} > {limits.max_diff_sd * sd:.3g} "
            f"({limits.max_diff_sd:g} sd) at {worst.path}"
        )
    if flips and flips[0].margin > limits.max_flip_margin:
        reasons.append(f"flip margin {flips[0].margin:.3g} > {limits.max_flip_margin:g} logits")
    status: Literal["passed", "failed", "inconclusive"] = "failed" if reasons else "passed"
    if status == "passed" and n < limits.min_images:
        status = "inconclusive"
        reasons.append(f"{n} images < {limits.min_images}")
    return Verdict(
        status=status,
        reasons=tuple(reasons),
        images=n,
        agreement=agree / n,
        agreement_low=agreement_lower_bound(agree, n),
        max_abs_diff=max_diff if finite else -1.0,
        sd=sd,
        snr_db=snr if finite else -999.0,
        flips=tuple(flips),
        reference_top1=float(before.mean()),
        candidate_top1=float(after.mean()),
        mcnemar_p=mcnemar_p(lost, gained),
    )


def snr_db(signal: NDArray[np.float64], noise: NDArray[np.float64]) -> float:
    """10 log10 of the ratio of mean squares; 999 where there is no noise."""
    power = float((noise**2).mean())
    if power == 0:
        return 999.0
    return 10 * math.log10(max(float((signal**2).mean()), 1e-300) / power)


def agreement_lower_bound(agree: int, count: int) -> float:
    """One-sided 95 % lower bound of a share. Source: Clopper and Pearson 1934."""
    return float(beta.ppf(0.05, agree, count - agree + 1)) if agree else 0.0


def mcnemar_p(lost: int, gained: int) -> float:
    """Exact two-sided p that lost and gained images are equally likely. Source: McNemar 1947."""
    if lost + gained == 0:
        return 1.0
    return float(binomtest(lost, lost + gained, 0.5).pvalue)


def require_pass(verdict: Verdict, *, what: str) -> None:
    """Stop where the verdict failed.

    Args:
        verdict: of the comparison.
        what: the candidate, for the message.

    Raises:
        GateError: names the numbers, the limits and the worst images.
    """
    if verdict.status != "failed":
        return
    agree = verdict.images - len(verdict.flips)
    worst = "; ".join(
        f"{flip.path} {flip.reference!r} -> {flip.candidate!r} (margin {flip.margin:.3g})"
        for flip in verdict.flips[:3]
    )
    raise GateError(
        f"PARITY FAIL {what}: {'; '.join(verdict.reasons)}. "
        f"{agree} of {verdict.images} answers agree ({verdict.agreement:.1%}, at least "
        f"{verdict.agreement_low:.1%}); top-1 {verdict.reference_top1:.1%} -> "
        f"{verdict.candidate_top1:.1%} (McNemar p = {verdict.mcnemar_p:.2g})."
        + (f" Worst flips: {worst}." if worst else " No answer flipped."),
        "Nothing was published. Usual causes: channel order, mean/std, a damaged weight.",
    )


def write_flips(path: Path, verdicts: Mapping[str, Verdict]) -> None:
    """Write flips.csv: every image whose answer changed, by what it was asked for."""
    names = ["asked_for", "path", "sha256", "label", "reference", "candidate", "margin"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        for asked_for, verdict in verdicts.items():
            writer.writerows({"asked_for": asked_for, **asdict(flip)} for flip in verdict.flips)


def _flips(reference: Predictions, candidate: Logits) -> list[Flip]:
    changed = np.flatnonzero(reference.answers != candidate.argmax(1))
    flips = []
    for i in changed:
        before, after = int(reference.answers[i]), int(candidate[i].argmax())
        photo, row = reference.photos[i], reference.logits[i]
        margin = float(row[before]) - float(row[after])
        names = reference.labels
        flips.append(
            Flip(photo.path, photo.sha256, photo.label, names[before], names[after], margin)
        )
    return sorted(flips, key=lambda flip: -flip.margin)
