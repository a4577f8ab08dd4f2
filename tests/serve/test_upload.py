from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request

from serve.upload import PIECE_BYTES, images_from_form

HEAD = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'


def test_a_form_that_is_hard_to_read_holds_up_nobody() -> None:
    """What is nearly the boundary, over and over, makes the parser look at each byte."""
    content = b"\r\n--ba" * (10 * PIECE_BYTES // 6)
    turns = 0

    async def receive() -> dict[str, Any]:
        return {
            "type": "http.request",
            "body": HEAD + content + b"\r\n--b--\r\n",
            "more_body": False,
        }

    async def test() -> list[bytes]:
        nonlocal turns
        headers = [(b"content-type", b"multipart/form-data; boundary=b")]
        request = Request({"type": "http", "headers": headers}, receive)
        reading = asyncio.create_task(images_from_form(request))
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
        return await reading

    assert asyncio.run(test()) == [content]
    assert turns > 10
