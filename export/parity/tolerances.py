"""What a faithful candidate may differ by, for each precision. Needs no torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["LIMITS", "Precision", "Tolerances"]

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class Tolerances:
    """Limits of one precision; "sd" is the standard deviation of the reference's logits.

    Rounding is bounded by its format: fp32 predictions are equal but for the last bits. What int8
    does
    to a logit is not (sound files differ by 3 logits, broken ones by 6), so there the signal to
    noise ratio, the agreement and the flipped margins decide, and `max_diff_sd` only stops the
    absurd.
    """

    min_snr_db: float  # of the logits
    max_diff_sd: float  # largest difference of any logit, in sd
    max_batch_diff_sd: float  # what the other images of a batch may change, in sd
    max_blank_diff_sd: float  # all-black and all-white images, in sd or their own size
    min_agreement: float  # share of equal predictions that must be shown, as a 95 % lower bound
    max_flip_margin: float  # reference's lead of its answer that may flip; logits, or sd (judge.py)
    max_top1_drop: float  # a larger drop fails if chance does not explain it; a fraction

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} = {value}: expected a finite number, 0 or more")
        for name in ("min_agreement", "max_top1_drop"):
            if (value := getattr(self, name)) > 1:
                raise ValueError(f"{name} = {value}: expected a fraction, 0 to 1")


# Faithful files reach 110 dB (fp32), 44 dB (fp16) and 18 dB (int8); broken int8 files stay below
# 11 dB and flip answers with margins of 4 logits and more. Blank images lie outside the ranges that
# an int8 file was calibrated for: their logits must be finite, no more.
LIMITS: dict[Precision, Tolerances] = {
    "fp32": Tolerances(
        min_snr_db=80.0,
        max_diff_sd=1e-3,
        max_batch_diff_sd=1e-3,
        max_blank_diff_sd=1e-2,
        min_agreement=0.0,  # ties within max_flip_margin may fall either way
        max_flip_margin=1e-3,
        max_top1_drop=0.002,
    ),
    "fp16": Tolerances(
        min_snr_db=35.0,
        max_diff_sd=0.5,
        max_batch_diff_sd=0.1,
        max_blank_diff_sd=1.0,
        min_agreement=0.99,
        max_flip_margin=0.25,
        max_top1_drop=0.005,
    ),
    "int8": Tolerances(
        min_snr_db=15.0,
        max_diff_sd=10.0,
        max_batch_diff_sd=0.5,
        max_blank_diff_sd=1e3,
        min_agreement=0.95,
        max_flip_margin=2.0,
        max_top1_drop=0.01,
    ),
}
