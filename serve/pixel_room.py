"""PixelRoom: a bound on the pixels that are in memory at once, over all threads that decode.

An image of 40 megapixels takes up to 480 MiB while it is decoded, and its file may have 40 bytes.
The decoders would need several times that together; so the largest wait for one another.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

__all__ = ["PixelRoom"]

SMALL_PX = 2**20  # of an image that never waits


class PixelRoom:
    """Room for the pixels of images; who waits is next, so a large image is not passed for ever.

    Args:
        pixels: of all images inside, together; a larger one is inside alone.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = self._free = pixels
        self._turn = threading.Lock()
        self._left = threading.Condition()

    def of(self, size: tuple[int, int]) -> AbstractContextManager[object]:
        """Room for an image of this width and height, while the block runs."""
        pixels = size[0] * size[1]
        return nullcontext() if pixels <= SMALL_PX else self._taken(min(pixels, self._pixels))

    @contextmanager
    def _taken(self, pixels: int) -> Iterator[None]:
        with self._turn, self._left:
            self._left.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._left:
                self._free += pixels
                self._left.notify_all()
