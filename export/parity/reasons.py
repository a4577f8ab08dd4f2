"""What a verdict's numbers are against the limits, in words. Needs no torch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from export.parity.accuracy import AccuracyChange
from export.parity.statistics import images_to_show
from export.parity.tolerances import Tolerances
from export.parity.verdict import Verdict

__all__ = ["reasons_to_fail", "why_not_shown"]

Logits = NDArray[np.float32]
SIGNIFICANT = 0.05  # a drop of top-1 that chance explains better is not a failure
CLASS_SIGNIFICANT = 0.01  # adjusted for the number of classes


def reasons_to_fail(
    verdict: Verdict, limits: Tolerances, worst: str, blank: tuple[Logits, Logits] | None
) -> list[str]:
    """Every limit that is broken, with its number.

    Args:
        verdict: whose status and reasons are not read.
        limits: of the candidate's precision.
        worst: name of the image with the largest difference.
        blank: (2, K) logits of blank images, the reference's and the candidate's.
    """
    return [
        *_numeric_reasons(verdict, limits, worst),
        *_blank_reasons(verdict, limits, blank),
        *_decision_reasons(verdict, limits),
        *_accuracy_reasons(verdict.accuracy, limits),
    ]


def why_not_shown(verdict: Verdict, limits: Tolerances) -> str:
    """Enough predictions agree, yet on so few images that the true share may be below the limit."""
    wanted = images_to_show(verdict.agreement, limits.min_agreement)
    return (
        f"{verdict.agreement:.1%} of {verdict.images} predictions agree, which shows "
        f"{verdict.agreement_low:.1%} only, not {limits.min_agreement:.1%}"
        + (f": give about {math.ceil(wanted / 10) * 10} images" if wanted else "")
    )


def _numeric_reasons(verdict: Verdict, limits: Tolerances, worst: str) -> list[str]:
    reasons, sd = [], verdict.sd
    if verdict.max_abs_diff < 0:
        reasons.append(f"the candidate's logits are not finite, first at {worst}")
    if verdict.snr_db < limits.min_snr_db:
        reasons.append(f"SNR {verdict.snr_db:.1f} dB < {limits.min_snr_db:g} dB")
    if verdict.max_abs_diff > limits.max_diff_sd * sd:
        reasons.append(
            f"largest difference {verdict.max_abs_diff:.3g} > {limits.max_diff_sd * sd:.3g} "
            f"({limits.max_diff_sd:g} sd) at {worst}"
        )
    batch, allowed = verdict.batch_max_diff, limits.max_batch_diff_sd * sd
    if batch is not None and batch < 0 <= verdict.max_abs_diff:
        reasons.append("an image's logits are not finite where it is alone in its batch")
    if batch is not None and batch > allowed:
        reasons.append(
            f"an image's logits change by {batch:.3g} > {allowed:.3g} "
            f"({limits.max_batch_diff_sd:g} sd) with the batch that it is in"
        )
    return reasons


def _blank_reasons(
    verdict: Verdict, limits: Tolerances, blank: tuple[Logits, Logits] | None
) -> list[str]:
    if blank is None or verdict.blank_max_diff is None:
        return []
    if verdict.blank_max_diff < 0:
        return ["logits of an all-black or all-white image are not finite"]
    # Far from any image logits grow, and rounding with them.
    size = max(verdict.sd, float(np.sqrt((blank[0].astype(np.float64) ** 2).mean())))
    allowed = limits.max_blank_diff_sd * size
    if verdict.blank_max_diff <= allowed:
        return []
    return [
        f"an all-black or all-white image differs by {verdict.blank_max_diff:.3g} > {allowed:.3g}"
    ]


def _decision_reasons(verdict: Verdict, limits: Tolerances) -> list[str]:
    reasons = []
    if verdict.agreement < limits.min_agreement:
        reasons.append(f"agreement {verdict.agreement:.1%} < {limits.min_agreement:.1%}")
    if verdict.flip_margin > limits.max_flip_margin:
        unit = "logits"
        if verdict.margin_scale != 1:
            unit = f"sd of {verdict.margin_scale:.3g} logits"
        reasons.append(f"flip margin {verdict.flip_margin:.3g} > {limits.max_flip_margin:g} {unit}")
    return reasons


def _accuracy_reasons(accuracy: AccuracyChange | None, limits: Tolerances) -> list[str]:
    if accuracy is None:
        return []
    reasons = []
    if -accuracy.top1_change > limits.max_top1_drop and accuracy.mcnemar_p < SIGNIFICANT:
        reasons.append(
            f"top-1 drops by {-100 * accuracy.top1_change:.2g} points > "
            f"{100 * limits.max_top1_drop:.2g} (p = {accuracy.mcnemar_p:.2g})"
        )
    for change in accuracy.classes:
        if change.adjusted_p < CLASS_SIGNIFICANT and change.lost > change.gained:
            reasons.append(
                f"class {change.label!r} loses {change.lost} of {change.images} and gains "
                f"{change.gained} (adjusted p = {change.adjusted_p:.2g})"
            )
            break  # the others are in parity.json
    return reasons
