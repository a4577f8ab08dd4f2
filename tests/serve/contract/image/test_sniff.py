"""What is refused is named by what it is, and only damage is called damage."""

from __future__ import annotations

import io
import zipfile

import pytest
from PIL import Image

from serve.contract.errors import ImageError, TruncatedImage, UndecodableImage, UnsupportedImage
from serve.contract.preprocess import decode


def saved(kind: str, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (32, 24)).save(buffer, kind)
    return buffer.getvalue()


def media(brand: bytes, *others: bytes) -> bytes:
    body = b"ftyp" + brand + bytes(4) + b"".join(others)
    return (len(body) + 4).to_bytes(4) + body + bytes(100)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("photo.jpg", b"...")
    return buffer.getvalue()


def jpeg_frame(*, code: int = 0xC0, bits: int = 8, channels: int = 3) -> bytes:
    data = bytearray(saved("JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4], data[at + 9] = code, bits, channels
    return bytes(data)


NAMED = {
    "GIF": (saved("GIF"), "a GIF image"),
    "BMP": (saved("BMP"), "a BMP image"),
    "TIFF": (saved("TIFF"), "a TIFF image"),
    "TIFF of floats": (saved("TIFF", "F"), "a TIFF image"),
    "JPEG 2000": (saved("JPEG2000"), "a JPEG 2000 image"),
    "icon": (saved("ICO"), "a Windows icon"),
    "PDF": (saved("PDF"), "a PDF document"),
    "PPM": (saved("PPM"), "a portable image"),
    "AVIF": (media(b"avif"), "an AVIF image"),
    "AVIF by another brand": (media(b"mif1", b"mif1", b"avif"), "an AVIF image"),
    "HEIC": (media(b"heic"), "a HEIC image"),
    "HEIC by another brand": (media(b"mif1", b"mif1", b"heic"), "a HEIC image"),
    "CR3": (media(b"crx "), "a raw file of a camera (CR3)"),
    "CR2": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(99), "a raw file of a camera (CR2)"),
    "RAF": (b"FUJIFILMCCD-RAW 0201" + bytes(99), "a raw file of a camera (RAF)"),
    "video": (media(b"isom", b"mp41"), "a video (MP4 or QuickTime)"),
    "WebM": (b"\x1a\x45\xdf\xa3" + bytes(99), "a video"),
    "AVI": (b"RIFF\0\1\0\0AVI LIST" + bytes(99), "a video (AVI)"),
    "JPEG XL": (b"\xff\x0a" + bytes(99), "a JPEG XL image"),
    "PSD": (b"8BPS\0\1" + bytes(99), "a Photoshop document"),
    "DICOM": (bytes(128) + b"DICM" + bytes(99), "a DICOM image"),
    "zip": (zipped(), "a zip archive"),
    "SVG": (b'<?xml version="1.0"?>\n<svg xmlns="x"></svg>', "an SVG drawing"),
    "HTML": (b"\n<!DOCTYPE html><title>404</title>", "an HTML page"),
    "JSON": (b'{"error": "no such key"}', "a JSON document"),
    "S3's error": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML"),
    "LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n",
        "Git LFS pointer",
    ),
    "base64": (b"/9j/4AAQSkZJRgABAQ", "an image in base64"),
    "text": ("nach München gefahren\n".encode(), "a text file"),
    "zeros": (bytes(5000), "a file of zeros"),
    "AppleDouble": (b"\0\x05\x16\x07\0\2\0\0Mac OS X", "what macOS keeps beside a file"),
    "12-bit JPEG": (jpeg_frame(code=0xC1, bits=12), "a JPEG image of 12 bits a channel"),
    "lossless JPEG": (jpeg_frame(code=0xC3), "a lossless JPEG image"),
    "JPEG-LS": (jpeg_frame(code=0xF7), "a JPEG-LS image"),
    "hierarchical JPEG": (jpeg_frame(code=0xC5), "a hierarchical JPEG image"),
    "JPEG of two channels": (jpeg_frame(channels=2), "a JPEG image of 2 channels"),
}


@pytest.mark.parametrize("case", NAMED)
def test_what_is_no_acceptable_image_is_named(case: str) -> None:
    data, name = NAMED[case]
    with pytest.raises(UnsupportedImage) as caught:
        decode(data)
    assert name in caught.value.message
    assert caught.value.message.endswith(", not a JPEG, PNG or WebP image.")
    assert caught.value.next_step
    assert (caught.value.status, caught.value.slug) == (415, "unsupported-image")


def test_a_pointer_says_how_to_get_the_file() -> None:
    with pytest.raises(UnsupportedImage, match="git lfs pull"):
        decode(NAMED["LFS"][0])


@pytest.mark.parametrize("data", [b"\x93\x88\x01garbage\0\xff", b"\xff\xd8", b"\x00\x01\x02\x03"])
def test_what_nobody_knows_has_no_name(data: bytes) -> None:
    with pytest.raises(UnsupportedImage, match=r"^This is not a JPEG, PNG or WebP image\."):
        decode(data)


def test_damage_is_still_damage() -> None:
    jpeg = saved("JPEG")
    with pytest.raises(TruncatedImage):
        decode(jpeg[:-20])
    at = jpeg.index(b"\xff\xc4")
    with pytest.raises(UndecodableImage):
        decode(jpeg[:at] + jpeg[at : at + 4] + b"\xff" * 30 + jpeg[at + 34 :])


@pytest.mark.parametrize("case", NAMED)
@pytest.mark.parametrize("length", [1, 3, 5, 9, 17, 200])
def test_the_beginning_of_anything_is_an_image_error(case: str, length: int) -> None:
    with pytest.raises(ImageError):
        decode(NAMED[case][0][:length])
