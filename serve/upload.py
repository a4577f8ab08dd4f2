"""Upload: the image bytes in a request, raw or as the multipart field "image".

The media type decides only how the body is wrapped. What the image is, its content says: a PNG
labelled image/jpeg is a PNG. A client's file name is never looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serve.problem import Problem, RequestError

__all__ = ["FIELD", "MAX_FILES", "image_from_request", "images_from_form"]

FIELD = "image"
MAX_FIELDS = 16
MAX_FILES = 32  # of a batch; their bytes together are bounded by the guard
PIECE_BYTES = 64 * 2**10
ACCEPTED = "Send the image file itself with Content-Type: image/jpeg, image/png or image/webp"


class _InMemoryParser(MultiPartParser):
    spool_max_size = 2**62  # never to disk: the guard has bounded the body already


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
            f'{ACCEPTED}, or as multipart/form-data with a file field named "{FIELD}".',
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
                f'Send multipart/form-data with file fields named "{FIELD}".',
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
    """The files in the fields named "image"."""
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
        files = [value for value in form.getlist(FIELD) if isinstance(value, UploadFile)]
        return [await file.read() for file in files]
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


def _too_many(most: int) -> Problem:
    return Problem(
        400, "too-many-images", "The form holds too many files", f"At most {most} are taken."
    )


def _missing_image(count: int) -> Problem:
    return Problem(
        400,
        "missing-image",
        "The form holds no image, or more than one",
        f'Expected one file field named "{FIELD}", found {count}. '
        'With curl: -F "image=@photo.jpg".',
    )
