from __future__ import annotations

import struct
import time

import numpy as np
import pytest

from serve.contract.errors import UndecodableImage
from serve.contract.image.decode_cost import MOST_SCANS, scans_of
from serve.contract.preprocess import PreprocessSpec, preprocess

SPEC = PreprocessSpec(size_px=16)
END = b"\xff\xd9"


@pytest.fixture
def progressive(make_picture, encode) -> bytes:
    return encode(make_picture(1), "JPEG", progressive=True)


def last_scan(data: bytes) -> bytes:
    return data[data.rindex(b"\xff\xda") : -len(END)]


def test_what_encoders_write_is_no_bomb(progressive: bytes) -> None:
    assert progressive.count(b"\xff\xda") == 10
    assert scans_of(progressive) <= MOST_SCANS
    at_most = progressive[:-2] + last_scan(progressive) * (MOST_SCANS - 10) + END
    assert scans_of(at_most) <= MOST_SCANS
    assert preprocess(at_most, SPEC).shape == (16, 16, 3)


def test_one_scan_too_many_is_refused_undecoded(progressive: bytes) -> None:
    bomb = progressive[:-2] + last_scan(progressive) * (MOST_SCANS - 9) + END
    with pytest.raises(UndecodableImage, match="more than 64 scans"):
        preprocess(bomb, SPEC)


def test_a_bomb_costs_no_time(make_picture, encode) -> None:
    """Without the limit this one takes a decoder a minute or more."""
    data = encode(make_picture(1, 4000, 3000), "JPEG", progressive=True, quality=20)
    start = time.monotonic()
    with pytest.raises(UndecodableImage):
        preprocess(data[:-2] + last_scan(data) * 3000 + END, SPEC)
    assert time.monotonic() - start < 1


def test_empty_scans_of_a_plain_jpeg_count_too(make_picture, encode) -> None:
    data = encode(make_picture(1), "JPEG")
    at = data.index(b"\xff\xda")
    header = data[at : at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]]
    assert scans_of(data[:-2] + header * MOST_SCANS + END) > MOST_SCANS


def test_a_film_behind_the_photograph_is_none_of_it(progressive: bytes) -> None:
    film = np.random.default_rng(0).bytes(10**5) + b"\xff\xda" * 1000
    assert scans_of(progressive + film) <= MOST_SCANS
    assert preprocess(progressive + film, SPEC).shape == (16, 16, 3)


def test_what_a_segment_holds_is_no_scan(progressive: bytes) -> None:
    preview = b"\xff\xda\0\x08" * 1000
    segment = b"\xff\xe5" + struct.pack(">H", 2 + len(preview)) + preview
    assert scans_of(progressive[:2] + segment + progressive[2:]) <= MOST_SCANS


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\x89PNG" + b"\xff\xda" * 100])
def test_what_is_no_jpeg_is_left_to_others(data: bytes) -> None:
    assert scans_of(data) <= MOST_SCANS


def test_filling_without_end_takes_no_time(progressive: bytes) -> None:
    """The search holds the interpreter: whoever made it slow would stop all requests."""
    filled = progressive[:-2] + b"\xff" * 10**6 + b"\0" + b"\xff\xda" * (MOST_SCANS + 1)
    start = time.perf_counter()
    scans_of(filled)
    assert time.perf_counter() - start < 1.0


def test_scans_behind_a_marker_that_has_no_length_are_counted(progressive: bytes) -> None:
    """Within a scan a decoder passes over such a marker alone, not over what seems its length."""
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00\x00"
    hidden = b"\x00\xff\x02\xff\xff" + scan * (MOST_SCANS + 1)
    assert scans_of(progressive[:-2] + hidden + END) > MOST_SCANS
