"""Limits for one's own images, which are not those for strangers' that the service has."""

from __future__ import annotations

from dataclasses import replace

from serve.contract.errors import ImageError
from serve.contract.preprocess import DEFAULT_LIMITS, NO_LIMITS, DecodeLimits, read_size
from train.options import DataOptions

__all__ = ["is_refused_by_service", "limits_of"]


def limits_of(options: DataOptions) -> DecodeLimits:
    """What reading one image may cost: its pixels are bounded, its bytes and sides are not."""
    return replace(NO_LIMITS, max_pixels=options.max_megapixels * 1_000_000)


def is_refused_by_service(data: bytes) -> bool:
    """Whether the service, at its default limits, refuses an image that can be read here."""
    try:
        read_size(data, DEFAULT_LIMITS)
    except ImageError:
        return True
    return False
