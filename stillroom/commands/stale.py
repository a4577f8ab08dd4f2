"""The note that an old result gets before it is used."""

from __future__ import annotations

import logging
from pathlib import Path

__all__ = ["say_if_stale"]

logger = logging.getLogger(__name__)


def say_if_stale(target: Path) -> None:
    """Say so where a run's artifact is not today's."""
    from stillroom.run.status import stale_note

    if note := stale_note(target):
        logger.warning(note)
