from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from serve.contract import preprocess as contract
from serve.contract.errors import (
    EmptyImage,
    ImageError,
    TooLargeImage,
    TooManyPixels,
    TruncatedImage,
    UndecodableImage,
    UnsupportedImage,
)
from serve.contract.preprocess import (
    DecodeLimits,
    PreprocessSpec,
    crop_and_resize,
    decode,
    preprocess,
    read_size,
)

SPEC = PreprocessSpec(size_px=16, crop_pct=1.0)


def png(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def png_header_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_an_rgb_png_of_the_right_size_passes_unchanged(make_picture) -> None:
    image = make_picture(1, 16, 16)
    pixels = preprocess(png(image), SPEC)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (16, 16, 3)
    np.testing.assert_array_equal(pixels, np.asarray(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, encode) -> None:
    quadrants = np.zeros((16, 16, 3), np.uint8)
    quadrants[:8, :8], quadrants[:8, 8:], quadrants[8:, :8] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(quadrants), "JPEG", exif=exif, quality=95, subsampling=0)
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: np.rot90,
    }
    expected = undo[orientation](quadrants).astype(int)
    got = np.asarray(decode(data)).astype(int)
    assert abs(got[2:6, 2:6] - expected[2:6, 2:6]).max() < 20
    assert abs(got[2:6, 10:14] - expected[2:6, 10:14]).max() < 20


def test_cmyk_is_converted(encode) -> None:
    data = encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    red, green, blue = np.asarray(decode(data))[4, 4].astype(int)
    assert red > 240
    assert max(green, blue) < 15


def test_16_bit_grey_is_rescaled_not_clipped() -> None:
    levels = np.array([[0, 257, 32896, 65535]], np.uint16)
    pixels = np.asarray(decode(png(Image.fromarray(levels))))
    np.testing.assert_array_equal(pixels[0, :, 0], [0, 1, 128, 255])
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_alpha_is_composited_on_the_background() -> None:
    hidden = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert np.asarray(decode(png(hidden)))[0, 0].tolist() == [255, 255, 255]
    assert np.asarray(decode(png(hidden), background=(1, 2, 3)))[0, 0].tolist() == [1, 2, 3]
    assert np.asarray(decode(png(half)))[0, 0].tolist() == [127, 127, 127]


def test_palette_and_its_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert np.asarray(decode(png(image)))[0].tolist() == [[10, 20, 30], [200, 100, 50]]
    transparent = np.asarray(decode(png(image, transparency=0)))[0].tolist()
    assert transparent == [[255, 255, 255], [200, 100, 50]]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (4, 4), 77), [77, 77, 77]),
        (Image.new("1", (4, 4), 1), [255, 255, 255]),
        (Image.new("LA", (4, 4), (50, 255)), [50, 50, 50]),
    ],
)
def test_grey_is_repeated(image: Image.Image, expected: list[int]) -> None:
    assert np.asarray(decode(png(image)))[1, 1].tolist() == expected


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_animations_are_refused(kind: str, make_picture, encode) -> None:
    frames = [make_picture(seed) for seed in (1, 2)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    with pytest.raises(UnsupportedImage, match="Animated"):
        decode(data)


def test_a_phones_mpo_gives_its_first_picture(make_picture, encode) -> None:
    first, second = make_picture(1), make_picture(2)
    data = encode(first, "MPO", save_all=True, append_images=[second], quality=95)
    wanted = np.asarray(decode(encode(first, "JPEG", quality=95))).astype(int)
    assert abs(np.asarray(decode(data)).astype(int) - wanted).max() <= 2


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP"])
def test_other_formats_are_refused_by_content(kind: str, make_picture, encode) -> None:
    with pytest.raises(UnsupportedImage, match="not a JPEG, PNG or WebP"):
        decode(encode(make_picture(1), kind))


@pytest.mark.parametrize("data", [b"hello", b"<svg/>", b"%!PS-Adobe", b"\0" * 999, b"\xff\xd8"])
def test_what_is_no_image_is_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        decode(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("percent", [1, 10, 50, 99])
def test_truncated_files_are_called_truncated(kind: str, percent: int, encode) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    data = encode(Image.fromarray(noise), kind)
    with pytest.raises(TruncatedImage):
        preprocess(data[: len(data) * percent // 100], SPEC)


def test_a_complete_but_damaged_file_is_undecodable(make_picture) -> None:
    data = bytearray(png(make_picture(1)))
    place = data.index(b"IDAT") + 8
    data[place : place + 40] = b"\xff" * 40
    with pytest.raises(UndecodableImage):
        decode(bytes(data))


def test_limits_hold_before_anything_is_decoded(monkeypatch, jpeg: bytes) -> None:
    def never(*_):
        pytest.fail("pixels were decoded")

    monkeypatch.setattr(Image.Image, "load", never)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    with pytest.raises(TooManyPixels, match="60000 x 60000 pixels are more than the limit"):
        decode(png_header_claiming(60000, 60000))
    with pytest.raises(TooManyPixels, match="9000 x 9000 pixels are more than the limit"):
        decode(png_header_claiming(9000, 9000))
    with pytest.raises(TooManyPixels):
        decode(png_header_claiming(20000, 10))
    with pytest.raises(TooLargeImage, match=r"limit of 10\."):
        decode(jpeg, limits=DecodeLimits(max_bytes=10))
    with pytest.raises(EmptyImage):
        decode(b"")
    assert read_size(jpeg) == (60, 40)


@pytest.mark.parametrize("size", [(40, 30), (30, 41), (16, 16), (200, 17), (1, 60), (60, 1)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875, 0.5])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_every_shape_gives_the_square(size, crop_pct, interpolation, make_picture) -> None:
    spec = PreprocessSpec(size_px=16, crop_pct=crop_pct, interpolation=interpolation)
    assert crop_and_resize(make_picture(3, *size), spec).size == (16, 16)


@pytest.mark.parametrize("size", [(400, 300), (300, 410), (513, 512)])
def test_crop_and_resize_equals_resizing_all_then_cropping(size, make_picture) -> None:
    image = make_picture(7, *size)
    spec = PreprocessSpec(size_px=64, crop_pct=0.875)
    side = round(64 / 0.875)
    ratio = side / min(size)
    whole = image.resize((round(size[0] * ratio), round(size[1] * ratio)), Image.Resampling.BICUBIC)
    left, top = round((whole.width - 64) / 2), round((whole.height - 64) / 2)
    reference = np.asarray(whole.crop((left, top, left + 64, top + 64))).astype(int)
    diff = abs(np.asarray(crop_and_resize(image, spec)).astype(int) - reference)
    assert diff.max() <= 2  # the reference rounds its crop to whole pixels


def test_the_spec_round_trips_and_its_digest_sees_every_field() -> None:
    spec = PreprocessSpec(size_px=224)
    assert PreprocessSpec.from_dict(spec.to_dict()) == spec
    others = [
        PreprocessSpec(size_px=225),
        PreprocessSpec(size_px=224, crop_pct=1.0),
        PreprocessSpec(size_px=224, interpolation="bilinear"),
        PreprocessSpec(size_px=224, background=(0, 0, 0)),
    ]
    assert len({spec.digest, *(other.digest for other in others)}) == 5


MUTATIONS = st.lists(
    st.tuples(st.floats(0, 1), st.binary(min_size=0, max_size=6), st.integers(0, 12)),
    min_size=1,
    max_size=8,
)


@pytest.fixture(scope="module")
def corpus(make_picture, encode) -> dict[str, bytes]:
    image = make_picture(1, 24, 20)
    files = {kind: encode(image, kind) for kind in ("JPEG", "PNG", "WEBP")}
    return {**files, "progressive": encode(image, "JPEG", progressive=True)}


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(kind=st.sampled_from(["JPEG", "PNG", "WEBP", "progressive"]), changes=MUTATIONS)
def test_mutated_files_decode_or_raise_an_image_error(corpus, kind: str, changes) -> None:
    data = corpus[kind]
    for place, insert, drop in changes:
        at = int(place * len(data))
        data = data[:at] + insert + data[at + drop :]
    with contextlib.suppress(ImageError):  # and nothing else
        assert preprocess(data, SPEC).shape == (16, 16, 3)


def test_all_is_complete() -> None:
    assert all(hasattr(contract, name) for name in contract.__all__)


@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    size_px=st.integers(1, 400),
    crop_pct=st.floats(0.05, 1.0),
)
@settings(max_examples=400, deadline=None)
def test_any_size_can_be_cropped_and_resized(width, height, size_px, crop_pct):
    image = Image.new("RGB", (width, height))
    spec = PreprocessSpec(size_px=size_px, crop_pct=crop_pct)
    assert crop_and_resize(image, spec).size == (size_px, size_px)


def test_more_alphas_than_a_palette_has_colours_are_damage() -> None:
    """Pillow finds that out when it converts, after it has decoded."""
    plain = png(Image.new("P", (8, 8)))
    at = plain.index(b"IDAT") - 4
    alphas = b"tRNS" + b"\0" * 300
    chunk = struct.pack(">I", 300) + alphas + struct.pack(">I", zlib.crc32(alphas))
    with pytest.raises(UndecodableImage):
        preprocess(plain[:at] + chunk + plain[at:], SPEC)


def test_no_warning_of_pillow_reaches_the_user(tmp_path: Path) -> None:
    odd = Image.new("RGB", (64, 48))
    buffer = io.BytesIO()
    odd.save(buffer, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12\0\x03\0\0")
    (tmp_path / "odd.jpg").write_bytes(buffer.getvalue())
    palette = Image.new("P", (64, 48))
    palette.putpalette([level for level in range(256) for _ in "RGB"])
    palette.save(tmp_path / "palette.png", transparency=bytes(range(200)))
    code = (
        "import sys; from pathlib import Path; from concurrent.futures import ThreadPoolExecutor\n"
        "from serve.contract.preprocess import decode\n"
        "data = [Path(name).read_bytes() for name in sys.argv[1:]] * 150\n"
        "with ThreadPoolExecutor(8) as pool: print(len(list(pool.map(decode, data))))"
    )
    files = sorted(str(path) for path in tmp_path.iterdir())
    for options in ([], ["-W", "error"]):
        command = [sys.executable, *options, "-c", code, *files]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("300\n", "")
