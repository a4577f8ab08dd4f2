"""PNG text and colour profiles: not a pixel depends on them, so they are skipped unread.

Editors and image generators write megabytes of them, and a few bytes may inflate to gigabytes.
What says how the image stands (EXIF in text form, XMP) is kept while it is small, since eXIf, the
chunk for it, came late.
"""

from __future__ import annotations

import zlib

__all__ = ["without_text"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SKIPPED = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
ORIENTATION = (b"exif", b"Raw profile type exif", b"XML:com.adobe.xmp")  # keywords that may say it
MOST_KEPT = 2**20  # bytes of such a text, inflated; a decoder refuses more
AROUND = 12  # bytes of a chunk beside its data: length, name and checksum

Place = tuple[int, int]  # where a chunk begins and ends


def without_text(data: bytes) -> bytes:
    """A PNG file without its text and colour profile; any other bytes as they are."""
    if not data.startswith(SIGNATURE) or not any(name in data for name in SKIPPED):
        return data
    pieces, at = [], 0
    for start, end in _skipped(data):
        pieces.append(data[at:start])
        at = end
    return b"".join([*pieces, data[at:]])


def _skipped(data: bytes) -> list[Place]:
    found: list[Place] = []
    kept: dict[bytes, Place] = {}  # of a keyword that comes twice, the last counts for a decoder
    at = len(SIGNATURE)
    while (end := at + AROUND + int.from_bytes(data[at : at + 4])) <= len(data):
        name = data[at + 4 : at + 8]
        if name == b"IEND":
            break
        if name in SKIPPED:
            found.append((at, end))
            keyword = data[at + 8 : at + 88].partition(b"\0")[0]
            if keyword in ORIENTATION:
                kept[keyword] = (at, end)
        at = end
    small = {place for place in kept.values() if _is_small(data[slice(*place)])}
    return [place for place in found if place not in small]


def _is_small(chunk: bytes) -> bool:
    """Whether a text chunk is small, and stays so when it is inflated."""
    name, body = chunk[4:8], chunk[8:-4]
    if len(body) > MOST_KEPT or name == b"iCCP":
        return False
    text = body.partition(b"\0")[2]
    if name == b"zTXt":
        packed = text[1:]
    elif name == b"iTXt" and text[:1] not in (b"", b"\0"):
        packed = text[2:].split(b"\0", 2)[-1]
    else:
        return True
    try:
        inflater = zlib.decompressobj()
        inflater.decompress(packed, MOST_KEPT)
        return not inflater.unconsumed_tail
    except zlib.error:
        return False
