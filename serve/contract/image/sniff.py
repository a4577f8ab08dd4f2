"""What a file is, by its first bytes: a name for what is refused, so that nobody looks for damage.

Names only; whether a file is taken decides the decoder. Nothing here parses more than a header.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from serve.contract.errors import ImageError, TruncatedImage, UndecodableImage, UnsupportedImage

__all__ = ["FileKind", "ending_is_missing", "image_error", "kind_of", "unsupported"]

HEAD = 1024  # bytes that are looked at
CONVERT = "Convert it to JPEG, PNG or WebP."
AGAIN = "Fetch the file itself again."


class FileKind(NamedTuple):
    """What a file is.

    Args:
        name: with its article, as in "This is ..."; empty where nobody knows.
        next_step: what helps.
    """

    name: str
    next_step: str = CONVERT


UNKNOWN = FileKind("", "Send the bytes of an image file.")
BEGINNINGS = (  # longer ones before those they begin with
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\0\x10\0\0\0CR", "a raw file of a camera (CR2)"),
    (b"II*\0", "a TIFF image, or a raw file of a camera"),
    (b"MM\0*", "a TIFF image, or a raw file of a camera"),
    (b"II+\0", "a TIFF image (BigTIFF)"),
    (b"MM\0+", "a TIFF image (BigTIFF)"),
    (b"II\xbc", "a JPEG XR image"),
    (b"FUJIFILMCCD-RAW", "a raw file of a camera (RAF)"),
    (b"IIRO", "a raw file of a camera (ORF)"),
    (b"IIRS", "a raw file of a camera (ORF)"),
    (b"MMOR", "a raw file of a camera (ORF)"),
    (b"IIU\0", "a raw file of a camera (RW2)"),
    (b"FOVb", "a raw file of a camera (X3F)"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
    (b"8BPS", "a Photoshop document"),
    (b"gimp xcf", "a GIMP document"),
    (b"\0\0\1\0", "a Windows icon"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"DDS ", "a DDS texture"),
    (b"qoif", "a QOI image"),
    (b"SIMPLE  =", "a FITS image"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x8aMNG", "an MNG animation"),
    (b"%PDF-", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM)"),
    (b"\0\0\1\xba", "a video (MPEG)"),
    (b"\0\0\1\xb3", "a video (MPEG)"),
    (b"FLV", "a video (Flash)"),
    (b"PK\x03\x04", "a zip archive, or a document that is one"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\0\x05\x16\x07", "what macOS keeps beside a file (AppleDouble)"),
    (b"L\0\0\0\x01\x14\x02\0", "a Windows shortcut"),
)
RIFF = {b"AVI ": "a video (AVI)", b"WAVE": "a sound file (WAV)"}
BRANDS = (  # of ISO media files: the major one, or one that it is compatible with
    ((b"avif", b"avis"), "an AVIF image"),
    ((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "a HEIC image"),
    ((b"crx ",), "a raw file of a camera (CR3)"),
    ((b"jxl ",), "a JPEG XL image"),
)
TEXTS = (  # what matches first, without blanks and a byte order mark before it
    (
        rb"version https://git-lfs\.github\.com/",
        "a Git LFS pointer (git lfs pull fetches the file)",
        AGAIN,
    ),
    (rb"\S*/annex/objects/", "a git-annex pointer (git annex get fetches the file)", AGAIN),
    (rb"/9j/|iVBORw0KGgo|UklGR|data:image/", "an image in base64", "Decode it from base64 first."),
    (rb"<(?s:.*)<svg[\s>:/]|<svg[\s>:/]", "an SVG drawing", CONVERT),
    (rb"(?is:<(.*<)?(!doctype html|html|head|body|script|title)[\s>/])", "an HTML page", AGAIN),
    (rb"<\?xml", "an XML document", AGAIN),
    (rb'[\[{]\s*["\[{]', "a JSON document", AGAIN),
)
PORTABLE = re.compile(rb"P[1-7][\s#]")
BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
FRAME = re.compile(rb"\xff([\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf\xf7])..(.)....(.)", re.DOTALL)
LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])(..)", re.DOTALL)


def kind_of(data: bytes) -> FileKind:
    """What a file is. Of a JPEG the name says what is uncommon in it; else JPEG, PNG, WebP: none.

    Args:
        data: the file, or at least its first HEAD bytes; of a JPEG all of it.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return _kind_of_jpeg(data)
    head = data[:HEAD]
    if head.startswith(b"RIFF"):
        return FileKind(RIFF.get(head[8:12], ""))
    if head[4:8] == b"ftyp":
        return _kind_of_media(head)
    for beginning, name in BEGINNINGS:
        if head.startswith(beginning):
            return FileKind(name)
    if head[128:132] == b"DICM":
        return FileKind("a DICOM image")
    if head[257:262] == b"ustar":
        return FileKind("a tar archive")
    if PORTABLE.match(head):
        return FileKind("a portable image (PNM)")
    if head and not head.strip(b"\0"):
        return FileKind("a file of zeros", AGAIN)
    return _kind_of_text(head)


def _kind_of_text(head: bytes) -> FileKind:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for pattern, name, next_step in TEXTS:
        if re.match(pattern, text):
            return FileKind(name, next_step)
    if not text or BINARY.search(text):
        return UNKNOWN
    try:
        text.decode()
    except UnicodeDecodeError as error:
        if error.end < len(text):  # else the head ends within a character
            return UNKNOWN
    return FileKind("a text file", AGAIN)


def _kind_of_media(head: bytes) -> FileKind:
    size = min(int.from_bytes(head[:4]), len(head))
    brands = [head[at : at + 4] for at in (8, *range(16, size, 4))]
    for names, kind in BRANDS:
        if any(brand in names for brand in brands):
            return FileKind(kind)
    return FileKind("a video (MP4 or QuickTime)")


def _kind_of_jpeg(data: bytes) -> FileKind:
    """By the header of its frame; the segments before it are passed over."""
    at = 2
    while found := MARKER.match(data, at):
        if frame := FRAME.match(data, at):
            return _kind_of_frame(frame[1][0], bits=frame[2][0], channels=frame[3][0])
        at += 2 + max(2, int.from_bytes(found[2]))
    return FileKind("")


def _kind_of_frame(code: int, *, bits: int, channels: int) -> FileKind:
    if code == 0xF7:
        return FileKind("a JPEG-LS image")
    if code in LOSSLESS:
        return FileKind("a lossless JPEG image")
    if code in (0xC5, 0xC6, 0xCD, 0xCE):
        return FileKind("a hierarchical JPEG image")
    if bits != 8:
        return FileKind(f"a JPEG image of {bits} bits a channel, and 8 are read")
    if channels not in (1, 3, 4):
        return FileKind(f"a JPEG image of {channels} channels")
    return FileKind("")


def image_error(error: Exception, data: bytes) -> ImageError:
    """What a decoder's exception says of a file: not supported, cut short, or damaged."""
    if kind_of(data).name:
        return unsupported(data)
    if _says_truncated(error) or ending_is_missing(data):
        return TruncatedImage("The image file ends before the image does.", "Send the whole file.")
    return UndecodableImage("The image data is damaged.", "Check that the file opens elsewhere.")


def unsupported(data: bytes) -> UnsupportedImage:
    """The refusal of a file that is not an image of the kinds that are read; names what it is."""
    name, next_step = kind_of(data)
    what = f"{name}, not a JPEG, PNG or WebP image" if name else "not a JPEG, PNG or WebP image"
    return UnsupportedImage(f"This is {what}.", next_step)


def _says_truncated(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, EOFError) or any(
        word in text for word in ("truncated", "end of", "unexpected eof", "premature")
    )


def ending_is_missing(data: bytes) -> bool | None:
    """Whether a file that starts as one of FORMATS lacks its end; None when it starts otherwise."""
    if data.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" not in data[-64:]  # cameras pad after the end marker
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in data[-64:]
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return None
