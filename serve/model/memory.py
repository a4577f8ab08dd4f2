"""Memory: what of a container's memory one worker may spend on requests, and who has it now.

The processes and the model are there first. Of what is left, divided by the workers, a third holds
bodies that have arrived, and the rest images that are being decoded: `memory_share`. One image may
take up to 200 MB while it is decoded, and its file may have 40 bytes. The decoders would need
several times that together; so the largest wait for one another: `DecodeBudget`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import psutil

from serve.contract.image.decode_cost import JPEG_BYTES
from serve.settings import Settings

__all__ = ["DecodeBudget", "MemoryShare", "memory_share", "private_bytes"]

MIB = 2**20
USABLE = 0.9  # of the limit; the kernel counts its own buffers and the files that are read
PARENTS_BYTES = 120 * MIB  # `stillroom serve` and BentoML's process above the workers
MOST_HELD_BYTES = 256 * MIB
LEAST_BYTES = 16 * MIB  # for images, and for bodies: whatever the limit is, small ones are answered
SMALL_BYTES = 4 * 2**20  # of an image that never waits


@dataclass(frozen=True)
class MemoryShare:
    """Of one worker.

    Args:
        image_bytes: that decoding one image may take.
        decode_bytes: of all images that are decoded at once.
        held_bytes: of bodies that have arrived and have no response yet.
    """

    image_bytes: int
    decode_bytes: int
    held_bytes: int

    @property
    def megapixels(self) -> float:
        """Of the largest JPEG that fits."""
        return self.image_bytes / JPEG_BYTES / 1e6


def memory_share(settings: Settings, *, limit: int | None, used: int) -> MemoryShare:
    """Divide what is left.

    Args:
        settings: workers, threads that decode, and the largest image.
        limit: bytes that all processes of the service may use; None where nothing limits them.
        used: bytes of this worker now, with its model loaded.
    """
    image = int(settings.max_megapixels * 1e6) * JPEG_BYTES
    decode, held = image * settings.decode_threads, MOST_HELD_BYTES
    if limit is not None:
        free = (int(limit * USABLE) - PARENTS_BYTES) // settings.workers - used
        held = min(held, max(free // 3, LEAST_BYTES))
        decode = min(decode, max(free - held, LEAST_BYTES))
    return MemoryShare(min(image, decode), decode, held)


def private_bytes() -> int:
    """Memory of this process that the kernel cannot take back."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))


class DecodeBudget:
    """Memory for images; who waits is next, so a large image is never overtaken without end.

    Args:
        size: bytes of all images inside, together; a larger one is inside alone.
    """

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._turn = threading.Lock()
        self._left = threading.Condition()

    def of(self, charge: int) -> AbstractContextManager[object]:
        """Room for an image that takes so many bytes, while the block runs."""
        return nullcontext() if charge <= SMALL_BYTES else self._taken(min(charge, self._size))

    @contextmanager
    def _taken(self, charge: int) -> Iterator[None]:
        with self._turn, self._left:
            self._left.wait_for(lambda: self._free >= charge)
            self._free -= charge
        try:
            yield
        finally:
            with self._left:
                self._free += charge
                self._left.notify_all()
