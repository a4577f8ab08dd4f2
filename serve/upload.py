"""Upload: the image bytes in a request, raw or as the multipart field "image".

The media type decides only how the body is wrapped. What the image is, its content says: a PNG
labelled image/jpeg is a PNG. A client's file name is never looked at.
"""

from __future__ import annotations

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serve.problem import Problem, RequestError

__all__ = ["FIELD", "image_from_request"]

FIELD = "image"
MAX_FIELDS = 16
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


async def _image_from_multipart(request: Request) -> bytes:
    parser = _InMemoryParser(
        request.headers, request.stream(), max_files=MAX_FIELDS, max_fields=MAX_FIELDS
    )
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError):
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
        if len(files) != 1:
            raise RequestError(_missing_image(len(files)))
        return await files[0].read()
    finally:
        await form.close()


def _missing_image(count: int) -> Problem:
    return Problem(
        400,
        "missing-image",
        "The form holds no image, or more than one",
        f'Expected one file field named "{FIELD}", found {count}. '
        'With curl: -F "image=@photo.jpg".',
    )
