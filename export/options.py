"""What a recipe may say about export and its parity gate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["ExportOptions", "ParityLimits"]


@dataclass(frozen=True)
class ParityLimits:
    """What a faithful export may differ by. The defaults are for fp32."""

    min_images: int = 300  # fewer prove too little: the verdict is then "inconclusive"
    min_snr_db: float = 80.0  # of the logits; faithful fp32 exports reach 110 and more
    max_diff_sd: float = 1e-3  # largest difference, in standard deviations of the logits
    max_flip_margin: float = 1e-3  # reference's lead of its answer, in logits, that may flip


@dataclass(frozen=True)
class ExportOptions:
    """Which model is exported, and how strictly it is judged."""

    source: Literal["fixres", "student", "teacher"] = "fixres"
    opset: int = 20
    golden_images: int = 16  # stored with the artifact; replayed at every start of the server
    max_batch_size: int = 16  # largest batch that is checked
    parity: ParityLimits = field(default_factory=ParityLimits)
