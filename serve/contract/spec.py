"""PreprocessSpec: how an image becomes pixels, as data; `serve.contract.preprocess` does it.

Apart from it, so that who only reads an artifact's manifest imports neither Pillow nor NumPy.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from serve.contract.digest import digest_of_json
from serve.contract.errors import ArtifactError

__all__ = ["INTERPOLATIONS", "Interpolation", "PreprocessSpec"]

Interpolation = Literal["bilinear", "bicubic", "lanczos"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)


@dataclass(frozen=True)
class PreprocessSpec:
    """How an image becomes the square the model sees.

    Args:
        size_px: side of the square.
        crop_pct: in (0, 1]; the shorter side is resized to round(size_px / crop_pct), then the
            centre is cropped. 1.0 keeps the whole shorter side.
        interpolation: Pillow's antialiased filter.
        background: RGB under transparent pixels.
        resize: the implementation; "pillow" is the reference and the only one so far.
    """

    size_px: int
    crop_pct: float = 0.875
    interpolation: Interpolation = "bicubic"
    background: tuple[int, int, int] = (255, 255, 255)
    resize: Literal["pillow"] = "pillow"

    def __post_init__(self) -> None:
        if not 1 <= self.size_px <= 4096:
            raise ValueError(f"size_px = {self.size_px}: expected 1 to 4096.")
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct = {self.crop_pct}: expected more than 0, at most 1.")
        if self.interpolation not in INTERPOLATIONS:
            known = ", ".join(INTERPOLATIONS)
            raise ValueError(f"interpolation = {self.interpolation!r}: expected one of {known}.")

    def to_dict(self) -> dict[str, Any]:
        """JSON form; `from_dict` reads it back."""
        return {**asdict(self), "background": list(self.background)}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> PreprocessSpec:
        """Read the JSON form.

        Raises:
            ArtifactError: a key is missing or unknown, or a value is out of range.
        """
        try:
            return cls(**{**value, "background": tuple(value["background"])})
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"The preprocess spec {value!r} cannot be read ({error}).",
                "Export the artifact again with this version of stillroom.",
            ) from error

    @property
    def digest(self) -> str:
        """Hex sha256 of the JSON form: equal digests mean equal pixels."""
        return digest_of_json(self.to_dict())
