"""Text and colour profiles of a PNG: skipped unread, and nothing else is."""

from __future__ import annotations

import io
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from serve.contract.errors import TruncatedImage, UndecodableImage, UnsupportedImage
from serve.contract.image.decode_cost import without_text
from serve.contract.preprocess import decode

BOMB = zlib.compress(bytes(60 * 2**20), 9)
SIDEWAYS = 'tiff:Orientation="6"'


def chunk(name: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + name + body + zlib.crc32(name + body).to_bytes(4)


def png(image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    (image or Image.fromarray(pixels)).save(buffer, "PNG", **options)
    return buffer.getvalue()


def with_chunk(data: bytes, extra: bytes, *, at_end: bool = False) -> bytes:
    place = data.rindex(b"IEND") - 4 if at_end else 33
    return data[:place] + extra + data[place:]


LARGE = {
    "tEXt": b"Comment\0" + b"a" * 3_000_000,
    "zTXt": b"parameters\0\0" + zlib.compress(b"a" * 2_000_000),
    "iTXt": b"prompt\0\1\0\0\0" + zlib.compress(b"a" * 2_000_000),
    "iCCP": b"profile\0\0" + zlib.compress(bytes(3_000_000)),
    "zTXt bomb": b"x\0\0" + BOMB,
    "iCCP bomb": b"x\0\0" + BOMB,
    "XMP bomb": b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB,
    "EXIF bomb": b"Raw profile type exif\0\0" + BOMB,
    "iCCP of an unknown method": b"x\0\7" + BOMB,
    "tEXt that is not a Latin text, without an end": b"\xff" * 90,
    "zTXt that does not inflate": b"x\0\0garbage",
}
CHUNK = {"XMP bomb": b"iTXt", "EXIF bomb": b"zTXt"}


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("case", LARGE)
def test_whatever_the_text_holds_the_pixels_are_read(case: str, at_end: bool) -> None:
    plain = png()
    name = CHUNK.get(case, case[:4].encode())
    data = with_chunk(plain, chunk(name, LARGE[case]), at_end=at_end)
    tracemalloc.start()
    read = np.asarray(decode(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(read, np.asarray(decode(plain)))
    assert peak < 2 * len(data) + 4 * 2**20


def test_many_small_bombs_cost_one_look_each_keyword() -> None:
    bomb = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(2**20 - 1), 9))
    data = png()
    data = data[:33] + bomb * 3000 + data[33:]
    assert decode(data).size == (30, 20)
    assert len(without_text(data)) < len(png()) + 2 * len(bomb)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "I;16"])
def test_other_chunks_stay_and_a_file_without_text_is_the_same_object(mode: str) -> None:
    clear = {} if mode in ("LA", "RGBA") else {"transparency": (0, 0, 0) if mode == "RGB" else 0}
    plain = png(Image.new(mode, (9, 7)), **clear, dpi=(72, 72), gamma=0.5)
    assert without_text(plain) is plain
    # Pillow keeps texts beside what chunks say: such a keyword was taken for a colour.
    assert without_text(with_chunk(plain, chunk(b"tEXt", b"transparency\0no"))) == plain


def test_the_orientation_stays_wherever_it_is_said() -> None:
    exif = Image.Exif()
    exif[274] = 6
    upright = decode(png(exif=exif))
    assert upright.size == (20, 30)
    packet = SIDEWAYS.encode()
    text = b"\nexif\n%8d\n%s\n" % (len(exif.tobytes()), exif.tobytes().hex().encode())
    for extra in (
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(packet)),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)),
        chunk(b"tEXt", b"Raw profile type exif\0" + text),
    ):
        for at_end in (False, True):
            turned = decode(with_chunk(png(), extra, at_end=at_end))
            assert np.array_equal(np.asarray(turned), np.asarray(upright))


def test_animations_and_damage_are_found_behind_text() -> None:
    text = chunk(b"tEXt", b"Comment\0hello")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    animated = png(frames[0], save_all=True, append_images=frames[1:], duration=50)
    with pytest.raises(UnsupportedImage, match="Animated"):
        decode(with_chunk(animated, text))
    broken = bytearray(with_chunk(png(), text))
    at = broken.index(b"IDAT") + 8
    broken[at : at + 40] = b"\xff" * 40
    with pytest.raises(UndecodableImage):
        decode(bytes(broken))
    whole = with_chunk(png(), chunk(b"tEXt", LARGE["tEXt"]))
    for length in (60, 2_000_000, len(whole) - 30):
        with pytest.raises(TruncatedImage):
            decode(whole[:length])
