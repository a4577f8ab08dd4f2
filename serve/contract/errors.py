"""The one exception tree of stillroom.

* StillroomError             message, next step, exit code
  - UsageError               wrong input or wrong call: exit 2, nothing was written over
    · DatasetError           the folder of images
    · RecipeError            a recipe file or a key=value override
    · RunError               a run folder
    · CheckpointError        weights or a checkpoint that does not fit
    · ArtifactError          an artifact that must not be served
    · EngineError            TensorRT or its GPU cannot be used, or a plan of it
  - GateError                a gate said no: exit 1 (parity, verification, SLO)
  - MeasurementError         a measurement that means nothing: exit 3
  - Interrupted              stopped by a signal after saving: exit 75
  - LostRank                 another process of the same training is gone: exit 1
  - ServiceError             a running service refused, failed or cannot be reached: exit 2
  - ImageError               not an acceptable image: exit 2, an HTTP status and a slug
    · EmptyImage             400 empty-body
    · UnsupportedImage       415 unsupported-image
    · TooLargeImage          413 too-many-bytes
    · TooManyPixels          413 too-many-pixels
    · TruncatedImage         422 truncated-image
    · UndecodableImage       422 undecodable-image
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ArtifactError",
    "CheckpointError",
    "DatasetError",
    "EmptyImage",
    "EngineError",
    "GateError",
    "ImageError",
    "Interrupted",
    "LostRank",
    "MeasurementError",
    "RecipeError",
    "RunError",
    "ServiceError",
    "StillroomError",
    "TooLargeImage",
    "TooManyPixels",
    "TruncatedImage",
    "UndecodableImage",
    "UnsupportedImage",
    "UsageError",
]


class StillroomError(Exception):
    """What went wrong, and what to do next.

    Args:
        message: the value, and what was expected instead; one line.
        next_step: the command or action that helps; empty where there is none.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".rstrip()


class UsageError(StillroomError):
    """Wrong input or a wrong call."""

    exit_code = 2


class DatasetError(UsageError):
    """The folder of images cannot be used as it is."""


class RecipeError(UsageError):
    """A recipe file or an override is wrong."""


class RunError(UsageError):
    """A run folder is missing, busy or of another dataset."""


class CheckpointError(UsageError):
    """Weights are missing, damaged or of another model."""


class ArtifactError(UsageError):
    """An artifact is damaged, foreign or of an unknown version, and must not be served."""


class EngineError(UsageError):
    """TensorRT is missing or refuses a model, no GPU can be used, or a plan must not be loaded."""


class GateError(StillroomError):
    """A gate failed: nothing is published."""

    exit_code = 1


class MeasurementError(StillroomError):
    """A measurement that means nothing."""

    exit_code = 3


class Interrupted(StillroomError):
    """A signal stopped the work after its state was saved."""

    exit_code = 75


class LostRank(StillroomError):
    """Another process of the same training ended, or does not answer."""

    exit_code = 1


class ServiceError(StillroomError):
    """A running service refused a request, failed, or cannot be reached.

    Args:
        message: as StillroomError.
        next_step: as StillroomError.
        status: HTTP status; 0 when no response came.
        slug: the problem's name, for example "truncated-image"; empty when no response came.
    """

    exit_code = 2

    def __init__(
        self, message: str, next_step: str = "", *, status: int = 0, slug: str = ""
    ) -> None:
        super().__init__(message, next_step)
        self.status = status
        self.slug = slug


class ImageError(StillroomError):
    """Bytes that are not an acceptable image.

    `message` is safe to show to a stranger: it never holds a path or an exception's text.
    """

    exit_code = 2
    status: ClassVar[int] = 422
    slug: ClassVar[str] = "undecodable-image"
    title: ClassVar[str] = "The image cannot be decoded"


class EmptyImage(ImageError):
    """No bytes at all."""

    status = 400
    slug = "empty-body"
    title = "The body is empty"


class UnsupportedImage(ImageError):
    """A format, mode or animation that the contract does not accept."""

    status = 415
    slug = "unsupported-image"
    title = "The image format is not supported"


class TooLargeImage(ImageError):
    """More bytes than the limit."""

    status = 413
    slug = "too-many-bytes"
    title = "The image file is too large"


class TooManyPixels(ImageError):
    """More pixels, or a longer side, than the limit; found before decoding."""

    status = 413
    slug = "too-many-pixels"
    title = "The image has too many pixels"


class TruncatedImage(ImageError):
    """The file ends before the image does."""

    status = 422
    slug = "truncated-image"
    title = "The image file is cut short"


class UndecodableImage(ImageError):
    """The decoder refused the bytes."""
