"""What a recipe may say about export and its parity gate."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from export.parity.tolerances import LIMITS, Tolerances
from train.options import check_at_least

__all__ = ["REDUCED", "ExportOptions", "ParityLimits", "deciding_export"]

REDUCED = ("fp16", "int8", "int8-tensorrt")  # precisions that are made of the fp32 file


@dataclass(frozen=True)
class ParityLimits:
    """How many images are needed, and what a faithful candidate of each precision may differ by."""

    min_images: int = 300  # fewer prove too little: the verdict is then "inconclusive"
    fp32: Tolerances = LIMITS["fp32"]
    fp16: Tolerances = LIMITS["fp16"]
    int8: Tolerances = LIMITS["int8"]

    def __post_init__(self) -> None:
        check_at_least(self, 0, "min_images")

    def of(self, precision: str) -> Tolerances:
        """Those of fp32, fp16 or int8."""
        limits: Tolerances = getattr(self, precision)
        return limits


@dataclass(frozen=True)
class ExportOptions:
    """Which model is exported, and how strictly it is judged."""

    source: Literal["fixres", "student", "teacher"] = "fixres"  # the stage that is exported
    opset: int = 20  # of ONNX
    golden_images: int = 16  # stored with the artifact; replayed at every start of the server
    max_batch_size: int = 16  # largest batch that is checked; 0 takes what suits the backend
    strict: bool = False  # refuse an fp32 file, too, that too few images were there to prove
    # Built beside fp32 by `stillroom run`: fp16, int8 (for CPUs), int8-tensorrt.
    precisions: tuple[str, ...] = ()
    calibration_images: int = 128  # training images that int8's ranges are measured on
    parity: ParityLimits = field(default_factory=ParityLimits)

    def __post_init__(self) -> None:
        for name in self.precisions:
            if name not in REDUCED:
                raise ValueError(
                    f"precisions = {list(self.precisions)}: expected some of {', '.join(REDUCED)}; "
                    "fp32 is always built"
                )
        check_at_least(self, 1, "calibration_images", "golden_images", "opset")
        check_at_least(self, 0, "max_batch_size")
        if len(set(self.precisions)) < len(self.precisions):
            raise ValueError(f"precisions = {list(self.precisions)}: one is named twice")


def deciding_export(options: ExportOptions, precision: str = "fp32") -> dict[str, Any]:
    """The options that decide what an artifact of one precision holds, as JSON."""
    values = asdict(options)
    del values["precisions"]
    if not precision.startswith("int8"):
        del values["calibration_images"]
    return values
