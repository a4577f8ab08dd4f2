"""What a user says of a foreign model's preprocessing, where nothing else says it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from serve.contract.errors import UsageError
from serve.contract.preprocess import PreprocessSpec

__all__ = ["PreprocessChoice", "Triple", "build_spec", "parse_triple"]

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class PreprocessChoice:
    """Values from the command line; None where nothing was said.

    Args:
        size_px: side of the square that the model sees.
        crop_pct: as in `PreprocessSpec`.
        interpolation: as in `PreprocessSpec`.
        mean: of RGB in [0, 1].
        std: likewise.
    """

    size_px: int | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    mean: Triple | None = None
    std: Triple | None = None

    def over(self, known: PreprocessChoice) -> PreprocessChoice:
        """What was said here, and for the rest what is known otherwise."""
        said = {name: value for name, value in vars(self).items() if value is not None}
        return replace(known, **said)


def parse_triple(option: str, text: str | None) -> Triple | None:
    """Read "0.5,0.5,0.5", or one number for all three channels.

    Raises:
        UsageError: neither; a number outside [0, 1], as of pixels in 0 to 255; or a std of 0.
    """
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    least = math.ulp(0.0) if option == "--std" else 0.0
    if len(values) not in (1, 3) or not all(least <= value <= 1 for value in values):
        raise UsageError(
            f"{option} {text!r}: expected three numbers of RGB in [0, 1], with commas.",
            f"For example {option} 0.5,0.5,0.5; divide those of pixels in 0 to 255 by 255.",
        )
    red, green, blue = values if len(values) == 3 else values * 3
    return red, green, blue


def build_spec(choice: PreprocessChoice) -> PreprocessSpec:
    """The spec of a choice of size, crop and filter.

    Raises:
        UsageError: one of them is not known, or out of range; names the options.
    """
    needed = {"--size": choice.size_px, "--crop-pct": choice.crop_pct}
    if missing := [option for option, value in needed.items() if value is None]:
        raise UsageError(
            f"Nothing says {' and '.join(missing)}.",
            "Say it as the model was evaluated, for example --size 224 --crop-pct 0.875 "
            "(1.0 keeps the whole shorter side).",
        )
    values = (choice.size_px, choice.crop_pct, choice.interpolation or "bicubic")
    try:
        return PreprocessSpec(*values)  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(
            f"The preprocessing cannot be done: {str(error).rstrip('.')}.",
            "Say it with --size, --crop-pct and --interpolation.",
        ) from error
