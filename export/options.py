"""What a recipe may say about export and its parity gate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from export.limits import LIMITS, Limits

__all__ = ["ExportOptions", "ParityLimits"]


@dataclass(frozen=True)
class ParityLimits:
    """How many images are needed, and what a faithful candidate of each precision may differ by."""

    min_images: int = 300  # fewer prove too little: the verdict is then "inconclusive"
    fp32: Limits = LIMITS["fp32"]
    fp16: Limits = LIMITS["fp16"]
    int8: Limits = LIMITS["int8"]


@dataclass(frozen=True)
class ExportOptions:
    """Which model is exported, and how strictly it is judged."""

    source: Literal["fixres", "student", "teacher"] = "fixres"
    opset: int = 20
    golden_images: int = 16  # stored with the artifact; replayed at every start of the server
    max_batch_size: int = 16  # largest batch that is checked
    parity: ParityLimits = field(default_factory=ParityLimits)
