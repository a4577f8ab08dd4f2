"""JPEG files that were overwritten in the middle: they decode, from there on to garbage.

A bad disk, card or copy replaces a block of the file. Decoders find their way again, and say
nothing; but then they have read too many or too few blocks, and do not end where the data ends.
So a sequential file is sound if it decodes without its end marker, and does not without its last
bytes. Between restart markers each interval is tried by itself. Of a progressive file only zeros
and markers where none may be are found.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

from PIL import Image

__all__ = ["looks_overwritten"]

CUT_BYTES = 16  # left out at the end, without which a sound file does not decode
SPARE = bytes(8)  # put in place of the end marker: a decoder reads ahead
MOST_INTERVALS = 500  # that are tried; of more, the order of the markers is checked alone
LARGEST_SIDE_PX = 65_500
END_OF_SCAN = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
RESTART = re.compile(rb"\xff+([\xd0-\xd7])")
ZEROS = bytes(64)  # in a row: no encoder writes them in a scan of frequencies
SEQUENTIAL = (0xC0, 0xC1)
PROGRESSIVE = 0xC2
START_OF_SCAN, END, LINES, INTERVAL = 0xDA, 0xD9, 0xDC, 0xDD
BETWEEN_SCANS = frozenset(
    (0xC4, START_OF_SCAN, END, 0xDB, LINES, INTERVAL, 0xFE, *range(0xE0, 0xF0))
)


@dataclass(frozen=True)
class _Header:
    """What stands before the first scan.

    Args:
        code: of the frame.
        frame: where its segment begins.
        scan: where the coded data begins.
        channels: of the image.
        is_whole: whether the first scan has all channels.
        interval: units between restart markers; 0 without.
        interval_at: where that is said.
    """

    code: int
    frame: int
    scan: int
    channels: int
    is_whole: bool
    interval: int
    interval_at: int


def looks_overwritten(data: bytes) -> bool:
    """Whether part of a JPEG that decodes is not what was written; False for what is not a JPEG."""
    header = _header_of(data) if data.startswith(b"\xff\xd8") else None
    if header is None:
        return False
    if header.code in SEQUENTIAL and header.is_whole:
        end = END_OF_SCAN.search(data, header.scan)
        if end is None or end[1][0] not in (END, LINES):
            return True
        return not _is_exact(data, header, data[header.scan : end.start()])
    return header.code == PROGRESSIVE and not _scans_follow(data, header.scan)


def _header_of(data: bytes) -> _Header | None:
    at, code, frame, channels, interval, interval_at = 2, 0, 0, 0, 0, 0
    while at + 10 < len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xFF:
            at += 1
            continue
        following = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if kind in (*SEQUENTIAL, PROGRESSIVE):
            code, frame, channels = kind, at, data[at + 9]
        elif kind == INTERVAL:
            interval, interval_at = int.from_bytes(data[at + 4 : at + 6]), at + 4
        elif kind == START_OF_SCAN:
            whole = data[at + 4] == channels
            return _Header(code, frame, following, channels, whole, interval, interval_at)
        at = following
    return None


def _scans_follow(data: bytes, at: int) -> bool:
    """Whether behind each scan of a progressive file stands what may stand there."""
    of_frequencies = False
    while end := END_OF_SCAN.search(data, at):
        kind, begin = end[1][0], end.end()
        if of_frequencies and ZEROS in data[at : end.start()]:
            return False
        if kind == END or kind not in BETWEEN_SCANS:
            return kind == END
        at = begin + int.from_bytes(data[begin : begin + 2])
        of_frequencies = kind == START_OF_SCAN and data[at - 3] > 0
    return False


def _is_exact(data: bytes, header: _Header, coded: bytes) -> bool:
    if not header.interval:
        return _takes_all(data[: header.scan], coded)
    parts = RESTART.split(coded)
    numbers = [part[0] & 7 for part in parts[1::2]]
    total, width, height = _units(data, header)
    expected = -(-total // header.interval)
    if numbers != [i % 8 for i in range(expected - 1)]:
        return False
    if expected > MOST_INTERVALS or header.interval * width > LARGEST_SIDE_PX:
        return True
    last = total - header.interval * (expected - 1)
    return all(
        _takes_all(_head_of(data, header, units * width, height), part)
        for part, units in zip(parts[::2], [header.interval] * (expected - 1) + [last], strict=True)
    )


def _units(data: bytes, header: _Header) -> tuple[int, int, int]:
    """Coded units of the image, and the width and height of one in pixels."""
    start = header.frame
    size = int.from_bytes(data[start + 7 : start + 9]), int.from_bytes(data[start + 5 : start + 7])
    samplings = [data[start + 11 + 3 * channel] for channel in range(header.channels)]
    alone = header.channels == 1  # then a unit is one block, whatever is said
    across = 8 * (1 if alone else max(one >> 4 for one in samplings))
    down = 8 * (1 if alone else max(one & 15 for one in samplings))
    return -(-size[0] // across) * -(-size[1] // down), across, down


def _head_of(data: bytes, header: _Header, width: int, height: int) -> bytes:
    """The header of an image that is one interval."""
    head = bytearray(data[: header.scan])
    head[header.interval_at : header.interval_at + 2] = bytes(2)
    head[header.frame + 5 : header.frame + 9] = height.to_bytes(2) + width.to_bytes(2)
    return bytes(head)


def _takes_all(head: bytes, coded: bytes) -> bool:
    """Whether an image needs its coded data to the end, and no more."""
    needs_its_end = len(coded) <= 2 * CUT_BYTES or not _decodes(head + coded[:-CUT_BYTES])
    return needs_its_end and _decodes(head + coded + SPARE)


def _decodes(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            image.draft(None, (1, 1))  # an eighth of the size: the coded data is read all the same
            image.load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True
