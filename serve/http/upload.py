"""Upload: the image bytes in a request, raw or as the multipart field "image" or "file".

The media type decides only how the body is wrapped. What the image is, its content says: a PNG
labelled image/jpeg is a PNG. Of a client's file name only that there is one counts.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serve.http.problems import Problem, RequestError

__all__ = ["FIELDS", "MAX_FILES", "image_from_request", "images_from_form"]

FIELDS = ("image", "file")
MAX_FIELDS = 16
MAX_FILES = 32  # of a batch; their bytes together are bounded by the guard
PIECE_BYTES = 64 * 2**10
QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
FILE_NAME = re.compile(rb";\s*filename\s*(?:\*[\d*]*\s*)?=", re.IGNORECASE)
NAMED = " or ".join(f'"{name}"' for name in FIELDS)
ACCEPTED = "Send the image file itself with Content-Type: image/jpeg, image/png or image/webp"


class _InMemoryParser(MultiPartParser):
    spool_max_size = 2**62  # never to disk: the guard has bounded the body already

    def on_headers_finished(self) -> None:
        """Take a part for a file as other servers do: by a file name in any form, or by its type.

        The parser knows `filename` alone; clients with a name beyond ASCII may send `filename*`
        (RFC 8187), and some send no name but a Content-Type.
        """
        part = self._current_part
        kind, separator, rest = (part.content_disposition or b"").partition(b";")
        if FILE_NAME.search(QUOTED.sub(b"", separator + rest)) or _is_image(part.item_headers):
            part.content_disposition = kind + b'; filename="x"' + separator + rest
        super().on_headers_finished()


async def image_from_request(request: Request) -> bytes:
    """The bytes of the image file; empty if the client sent none.

    Raises:
        RequestError: 415 for another media type, 400 for multipart without an image.
    """
    content_type = request.headers.get("content-type", "application/octet-stream")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return await _image_from_multipart(request)
    if media_type.startswith("image/") or media_type == "application/octet-stream":
        return await request.body()
    raise RequestError(
        Problem(
            415,
            "unsupported-media-type",
            "The media type of the body is not accepted",
            f"{ACCEPTED}, or as multipart/form-data with a file field named {NAMED}.",
        )
    )


async def images_from_form(request: Request) -> list[bytes]:
    """The bytes of all image files of a form, in their order.

    Raises:
        RequestError: 415 for another media type, 400 for multipart without an image or with more
            than MAX_FILES.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RequestError(
            Problem(
                415,
                "unsupported-media-type",
                "The media type of the body is not accepted",
                f"Send multipart/form-data with file fields named {NAMED}.",
            )
        )
    files = await _files_of(request, MAX_FILES)
    if not files:
        raise RequestError(_missing_image(0))
    return files


async def _image_from_multipart(request: Request) -> bytes:
    files = await _files_of(request, MAX_FIELDS)
    if len(files) != 1:
        raise RequestError(_missing_image(len(files)))
    return files[0]


async def _files_of(request: Request, most: int) -> list[bytes]:
    """The files in the fields named as in FIELDS, in the order of the form."""
    parser = _InMemoryParser(
        request.headers, _in_pieces(request), max_files=most, max_fields=MAX_FIELDS
    )
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        if "Too many files" in str(error):
            raise RequestError(_too_many(most)) from None
        raise RequestError(
            Problem(
                400,
                "malformed-multipart",
                "The multipart body cannot be read",
                'Check the boundary. With curl: -F "image=@photo.jpg".',
            )
        ) from None
    try:
        found = [value for name, value in form.multi_items() if name in FIELDS]
        return [await file.read() for file in found if isinstance(file, UploadFile)]
    finally:
        await form.close()


async def _in_pieces(request: Request) -> AsyncGenerator[bytes, None]:
    """The body, with room for others between its pieces.

    Where a file is full of what looks like the form's boundary, reading 10 MiB takes seconds.
    """
    async for chunk in request.stream():
        for at in range(0, len(chunk), PIECE_BYTES):
            yield chunk[at : at + PIECE_BYTES]
            await asyncio.sleep(0)


def _is_image(headers: list[tuple[bytes, bytes]]) -> bool:
    kind = dict(headers).get(b"content-type", b"").strip().lower()
    return kind.startswith((b"image/", b"application/octet-stream"))


def _too_many(most: int) -> Problem:
    return Problem(
        400, "too-many-images", "The form holds too many files", f"At most {most} are taken."
    )


def _missing_image(count: int) -> Problem:
    return Problem(
        400,
        "missing-image",
        "The form holds no image, or more than one",
        f'Expected one file field named {NAMED}, found {count}. With curl: -F "image=@photo.jpg".',
    )
