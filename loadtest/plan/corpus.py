"""The images to send: a folder of images, or a CSV file that also knows the labels to expect.

The CSV has the header `path[,label][,expected]`. `path` is relative to the file's own folder or
absolute. `expected` is the label that the service must predict; empty means "do not check". `label`
is the ground truth; a wrong model is not the service's fault, so it may be there and is not read.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shlex
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.errors import CorpusError

__all__ = ["CorpusImage", "content_type_from_bytes", "corpus_sha256", "load_corpus"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"})
MAX_CORPUS_BYTES = 2**31
"""All images are held in memory, so that no disk is measured; 2 GiB is plenty for a load test."""


@dataclass(frozen=True, slots=True)
class CorpusImage:
    """An image, ready to send.

    Attributes:
        path: as the corpus names it.
        body: the encoded image.
        content_type: by the bytes, not by the name.
        expected: the label that the service must predict; empty if unknown.
    """

    path: str
    body: bytes
    content_type: str
    expected: str = ""


def load_corpus(source: Path) -> list[CorpusImage]:
    """Read every image of a folder (recursively, in order of path) or of a CSV file.

    Raises:
        CorpusError: nothing there, no images, a missing file, a malformed row, a file that is
            neither JPEG, PNG nor WebP, or more than 2 GiB in all.
    """
    if source.is_dir():
        rows = _rows_from_folder(source)
    elif source.is_file():
        rows = _rows_from_csv(source)
    else:
        raise CorpusError(
            f"--corpus {str(source)!r} does not exist",
            "give a folder of images, or a CSV file with the header path,label,expected",
        )
    images: list[CorpusImage] = []
    total_bytes = 0
    for name, file, expected in rows:
        images.append(_read_image(name, file, expected))
        total_bytes += len(images[-1].body)
        if total_bytes > MAX_CORPUS_BYTES:
            raise CorpusError(
                f"--corpus {str(source)!r} holds more than {MAX_CORPUS_BYTES // 2**20} MiB",
                "give a sample of it: some hundred images are enough",
            )
    if not images:
        raise CorpusError(
            f"--corpus {str(source)!r} names no images",
            "give a folder or a CSV file with at least one JPEG, PNG or WebP file",
        )
    return images


def content_type_from_bytes(head: bytes) -> str | None:
    """Media type of an encoded image by its first 12 bytes; None for other formats."""
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    return None


def corpus_sha256(images: Sequence[CorpusImage]) -> str:
    """Digest of what is sent and what is expected, in order; paths do not enter.

    SHA-256 over, for each image, the SHA-256 of its bytes (32 bytes) and that of its expected
    label in UTF-8 (32 bytes). So a copied corpus keeps its digest.
    """
    digest = hashlib.sha256()
    for image in images:
        digest.update(hashlib.sha256(image.body).digest())
        digest.update(hashlib.sha256(image.expected.encode()).digest())
    return digest.hexdigest()


def _rows_from_folder(folder: Path) -> Iterator[tuple[str, Path, str]]:
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if file.suffix.lower() in IMAGE_SUFFIXES and not hidden and file.is_file():
            _refuse_unwritable(folder, name)
            yield name.as_posix(), file, ""


def _refuse_unwritable(folder: Path, name: Path) -> None:
    """samples.csv names every image, in UTF-8, one a line."""
    wrong = next((part for part in name.parts if not _is_writable(part)), None)
    if wrong is not None:
        place = folder.joinpath(*name.parts[: name.parts.index(wrong) + 1])
        new = os.fsencode(wrong).decode("cp1252", "replace").translate(dict.fromkeys(range(32)))
        raise CorpusError(
            f"--corpus {str(folder)!r} holds {os.fsencode(wrong)!r}: a name that is not UTF-8, or "
            "with a control character",
            f"rename it: mv -nT -- {_quoted(place)} {_quoted(place.with_name(new))}",
        )


def _is_writable(text: str) -> bool:
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def _quoted(path: Path) -> str:
    """For bash, whatever the name holds."""
    if _is_writable(str(path)):
        return shlex.quote(str(path))
    return "$'" + "".join(f"\\{byte:03o}" for byte in os.fsencode(path)) + "'"


def _rows_from_csv(source: Path) -> Iterator[tuple[str, Path, str]]:
    try:
        with source.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            if "path" not in (reader.fieldnames or ()):
                raise CorpusError(
                    f"--corpus {str(source)!r} has no column 'path' in its header "
                    f"{','.join(reader.fieldnames or ())[:80]!r}",
                    "let its first line be path,label,expected",
                )
            for row in reader:
                if not row["path"]:
                    raise CorpusError(
                        f"{source}, line {reader.line_num}: the path is empty",
                        "remove the line, or name an image",
                    )
                yield row["path"], source.parent / row["path"], row.get("expected") or ""
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(
            f"--corpus {str(source)!r} is not CSV text in UTF-8 ({error})",
            "give a folder of images, or a CSV file with the header path,label,expected",
        ) from error


def _read_image(name: str, file: Path, expected: str) -> CorpusImage:
    try:
        body = file.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CorpusError(
            f"image {str(file)!r} cannot be read ({reason})",
            "paths are relative to the folder of the CSV file",
        ) from error
    content_type = content_type_from_bytes(body[:12])
    if content_type is None:
        raise CorpusError(
            f"image {str(file)!r} begins with {body[:8]!r}: not JPEG, PNG or WebP",
            "convert it, or leave it out of the corpus",
        )
    return CorpusImage(path=name, body=body, content_type=content_type, expected=expected)
