from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from serve.http.upload import PIECE_BYTES, images_from_form

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


FORM = {"content-type": "multipart/form-data; boundary=b"}


def form_of(*heads: bytes, data: bytes) -> bytes:
    parts = [b"--b\r\nContent-Disposition: " + h + b"\r\n\r\n" + data + b"\r\n" for h in heads]
    return b"".join(parts) + b"--b--\r\n"


NAMES = [
    b"filename=x.jpg",
    b'filename=""',
    b"filename*=utf-8''%E6%97%A5.jpg",
    b"filename*=UTF-8'en'a%20b.jpg",
    b"filename*=iso-8859-1''%e9t%e9.jpg",
    b"filename*=shift_jis''%93%fa.jpg",
    b"filename*=\"utf-8''x.jpg\"",
    b"filename=\"x.jpg\"; filename*=utf-8''%E6%97%A5.jpg",
    b"filename*=utf-8''x.jpg; filename=\"x.jpg\"",
    b"filename*=nonsense",
    b"filename*=utf-8''%zz%",
    b"filename*0*=utf-8''a; filename*1=b.jpg",
    b"FileName*=utf-8''x",
    b"filename * = utf-8''x",
    "filename*=日本.jpg".encode(),
]


@pytest.mark.parametrize("field", ["image", "file"])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_name_in_any_form_makes_a_part_a_file(ask, jpeg, field: str, name: bytes) -> None:
    for head in (
        b'form-data; name="%b"; %b' % (field.encode(), name),
        b"form-data; %b; name=%b" % (name, field.encode()),
    ):
        body = form_of(head, data=jpeg)
        answer = ask("POST", "/v1/classify", content=body, headers=FORM)
        assert answer.status_code == 200, answer.text
        batch = ask("POST", "/v1/classify/batch", content=body, headers=FORM)
        assert list(batch.json()["results"][0]) == ["predictions"]


def test_a_part_with_the_type_of_an_image_is_a_file_without_a_name(ask, jpeg: bytes) -> None:
    """What `requests` sends for files={"image": (None, data, "image/jpeg")}."""
    for kind in ("image/jpeg", "IMAGE/PNG", "application/octet-stream"):
        answer = ask("POST", "/v1/classify", files={"image": (None, jpeg, kind)})
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "head",
    [
        b'form-data; name="image"',
        b'form-data; name="image; filename=x"',
        b'form-data; name="image"; title="; filename*=x"',
        b"form-data; name=images; filename*=utf-8''x",
        b'form-data; name="upload"; filename="x"',
    ],
)
def test_text_and_other_fields_are_no_image_and_the_answer_names_both(
    ask, is_problem, jpeg: bytes, head: bytes
) -> None:
    answer = ask("POST", "/v1/classify", content=form_of(head, data=jpeg), headers=FORM)
    detail = is_problem(answer, 400, "missing-image")["detail"]
    assert 'named "image" or "file", found 0' in detail


@pytest.mark.parametrize("pair", [("image", "file"), ("file", "file"), ("image", "image")])
def test_two_files_are_not_one_image(ask, is_problem, jpeg: bytes, pair) -> None:
    files = [(name, ("x.jpg", jpeg)) for name in pair]
    answer = ask("POST", "/v1/classify", files=files)
    assert "found 2" in is_problem(answer, 400, "missing-image")["detail"]


def test_text_beside_the_file_is_passed_over(ask, jpeg: bytes) -> None:
    answer = ask("POST", "/v1/classify", files={"file": ("x", jpeg)}, data={"image": "text"})
    assert answer.status_code == 200


def test_the_description_names_both_fields_and_wants_one(ask, jpeg: bytes) -> None:
    paths = ask("GET", "/openapi.json").json()["paths"]
    for path, combined in (("/v1/classify", "oneOf"), ("/v1/classify/batch", "anyOf")):
        body = paths[path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert list(body["properties"]) == ["image", "file"]
        assert body[combined] == [{"required": ["image"]}, {"required": ["file"]}]
