"""JPEG scans: how many passes over all its pixels a file asks for.

A progressive JPEG is a list of scans, ten as encoders write it. Each costs a pass over the whole
image, and may be 14 bytes long: 100 kB can hold a decoder of 40 megapixels for ten minutes.
"""

from __future__ import annotations

import re

__all__ = ["MOST_SCANS", "scans_of"]

MOST_SCANS = 64
START_OF_SCAN = b"\xff\xda"
END = 0xD9
# One byte of filling, however many there are: with more the search would try each run from each
# of its places.
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
NO_LENGTH = 0xC0  # of markers below; within a scan a decoder passes over them, and goes on


def scans_of(data: bytes) -> int:
    """Scans of a JPEG up to the end of the image, or to one more than MOST_SCANS.

    Returns:
        0 for what is no JPEG.
    """
    if not data.startswith(b"\xff\xd8"):
        return 0
    # Behind the image there may be a film, which holds these two bytes by chance.
    found = data.count(START_OF_SCAN)
    return found if found < 2 else _scans(data)


def _scans(data: bytes) -> int:
    """Scans up to the end of the image, or to one more than is allowed."""
    found, at = 0, 2
    while found <= MOST_SCANS and (marker := MARKER.search(data, at)):
        kind = marker[1][0]
        if kind == END:
            break
        if kind < NO_LENGTH:
            at = marker.end()
            continue
        found += kind == START_OF_SCAN[1]
        length = int.from_bytes(data[marker.end() : marker.end() + 2])
        at = marker.end() + max(2, length)
    return found
