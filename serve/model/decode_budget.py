"""DecodeRoom: a bound on the memory that decoding takes at once, over all threads that decode.

One image may take up to 200 MB while it is decoded, and its file may have 40 bytes. The decoders
would need several times that together; so the largest wait for one another.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

__all__ = ["DecodeBudget"]

SMALL_BYTES = 4 * 2**20  # of an image that never waits


class DecodeBudget:
    """Memory for images; who waits is next, so a large image is not passed for ever.

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
