"""The Open Inference Protocol, by its text: what KServe's and Triton's HTTP clients send."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import time
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.contract.preprocess import preprocess
from serve.http.app import build_app
from serve.http.guard import Guard
from serve.http.oip_v2 import handlers
from serve.http.oip_v2.tensors import inference_of
from serve.http.problems import Problem, RequestError

INFER = "/v2/models/tiny/infer"


@pytest.fixture
def pixels(served, make_picture, encode) -> np.ndarray:
    blobs = [encode(make_picture(seed), "PNG") for seed in (1, 2, 3)]
    return np.stack([preprocess(blob, served.artifact.preprocess) for blob in blobs])


def tensor(name: str, datatype: str, shape: list[int], **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, **more}


def with_bytes(request: dict[str, Any], data: bytes) -> dict[str, Any]:
    """Content and headers of a request with binary tensor data."""
    head = json.dumps(request).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return {"content": head + data, "headers": headers}


def logits_of(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    length = answer.headers.get("inference-header-content-length")
    if length is None:
        (output,) = answer.json()["outputs"]
        values = np.array(output["data"], np.float32)
    else:
        head = json.loads(answer.content[: int(length)])
        (output,) = head["outputs"]
        raw = answer.content[int(length) :]
        assert output["parameters"]["binary_data_size"] == len(raw)
        values = np.frombuffer(raw, "<f4")
    assert (output["name"], output["datatype"]) == ("logits", "FP32")
    return values.reshape(output["shape"])


def test_pixels_in_logits_out_in_json_and_in_bytes(ask, served, pixels: np.ndarray) -> None:
    expected = served.runner.infer(pixels)
    shape = list(pixels.shape)
    plain = {"id": "7", "inputs": [tensor("image", "UINT8", shape, data=pixels.tolist())]}
    answer = ask("POST", INFER, json=plain)
    assert answer.json()["id"] == "7"
    assert answer.json()["model_version"] == served.artifact.version
    np.testing.assert_allclose(logits_of(answer), expected, atol=1e-5)
    flat = {"inputs": [tensor("image", "UINT8", shape, data=pixels.ravel().tolist())]}
    np.testing.assert_allclose(logits_of(ask("POST", INFER, json=flat)), expected, atol=1e-5)
    sized = tensor("image", "UINT8", shape, parameters={"binary_data_size": pixels.nbytes})
    for outputs in (
        {},
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "logits", "parameters": {"binary_data": True}}]},
    ):
        request = with_bytes({"inputs": [sized], **outputs}, pixels.tobytes())
        answer = ask("POST", f"/v2/models/tiny/versions/{served.artifact.version}/infer", **request)
        np.testing.assert_allclose(logits_of(answer), expected, atol=1e-5)
        assert ("inference-header-content-length" in answer.headers) == bool(outputs)


def test_files_in_logits_out(ask, served, jpeg: bytes, make_picture, encode) -> None:
    files = [jpeg, encode(make_picture(8), "PNG")]
    expected = served.runner.infer(
        np.stack([preprocess(file, served.artifact.preprocess) for file in files])
    )
    texts = [base64.b64encode(file).decode() for file in files]
    plain = {"inputs": [tensor("image_bytes", "BYTES", [2], data=texts)]}
    np.testing.assert_allclose(logits_of(ask("POST", INFER, json=plain)), expected, atol=1e-5)
    raw = b"".join(struct.pack("<I", len(file)) + file for file in files)
    sized = tensor("image_bytes", "BYTES", [2, 1], parameters={"binary_data_size": len(raw)})
    answer = ask("POST", INFER, **with_bytes({"inputs": [sized]}, raw))
    np.testing.assert_allclose(logits_of(answer), expected, atol=1e-5)


def test_what_is_there_is_described(ask, served) -> None:
    assert ask("GET", "/v2").json()["extensions"] == ["binary_tensor_data"]
    assert ask("GET", "/v2/health/live").json() == {"live": True}
    assert ask("GET", "/v2/health/ready").json() == {"ready": True}
    described = ask("GET", "/v2/models/tiny").json()
    assert described["versions"] == [served.artifact.version]
    assert described["inputs"][0]["shape"] == [-1, 32, 32, 3]
    assert described["outputs"][0]["shape"] == [-1, 4]
    assert ask("GET", "/v2/models/tiny/ready").json()["ready"] is True


def test_a_service_that_is_leaving_is_not_ready(open_client, served, jpeg) -> None:
    leaving = Guard(build_app(served, leaving=lambda: True))

    async def test() -> None:
        async with open_client(leaving) as client:
            for path in ("/v2/health/ready", "/v2/models/tiny/ready"):
                answer = await client.get(path)
                assert (answer.status_code, list(answer.json())) == (503, ["error"])
            request = {
                "inputs": [
                    tensor("image_bytes", "BYTES", [1], data=[base64.b64encode(jpeg).decode()])
                ]
            }
            assert (await client.post(INFER, json=request)).status_code == 200

    asyncio.run(test())


def test_errors_are_those_of_the_protocol(ask, served, jpeg: bytes) -> None:
    def refused(answer: httpx.Response, status: int, word: str) -> None:
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/json"
        assert list(answer.json()) == ["error"]
        assert word in answer.json()["error"]

    refused(ask("GET", "/v2/models/other"), 404, "Served is tiny")
    refused(ask("GET", "/v2/models/tiny/versions/0"), 404, "version")
    refused(ask("GET", "/v2/nothing"), 404, "not-found")
    refused(ask("GET", INFER), 405, "method-not-allowed")
    refused(ask("POST", INFER, content=b"{"), 400, "inputs")
    cut = base64.b64encode(jpeg[:200]).decode()
    good = base64.b64encode(jpeg).decode()
    request = {"inputs": [tensor("image_bytes", "BYTES", [2], data=[good, cut])]}
    refused(ask("POST", INFER, json=request), 422, "truncated-image")
    served.batcher._max_queue = 0
    answer = ask("POST", INFER, json=request)
    refused(answer, 503, "overloaded")
    assert answer.headers["retry-after"] == "1"


BAD: list[tuple[Any, str]] = [
    ([], "JSON object"),
    ({"inputs": []}, "one input"),
    ({"inputs": [1]}, "one input"),
    ({"inputs": [tensor("x", "UINT8", [1, 2, 2, 3])]}, "Expected the input"),
    ({"inputs": [tensor("image", "FP32", [1, 2, 2, 3])]}, "Expected the input"),
    ({"inputs": [tensor("image", "UINT8", [1, 4, 4, 3], data=[])]}, "shape"),
    ({"inputs": [tensor("image", "UINT8", [0, 2, 2, 3], data=[])]}, "1 to 8 images"),
    ({"inputs": [tensor("image", "UINT8", [9, 2, 2, 3], data=[])]}, "1 to 8 images"),
    ({"inputs": [tensor("image", "UINT8", "12", data=[])]}, "1 to 8 images"),
    ({"inputs": [tensor("image", "UINT8", [True, 2, 2, 3], data=[])]}, "1 to 8 images"),
    ({"inputs": [tensor("image", "UINT8", [1, 2, 2, 3], data=[1] * 11)]}, "12 values"),
    ({"inputs": [tensor("image", "UINT8", [1, 2, 2, 3], data=[256] * 12)]}, "0 to 255"),
    ({"inputs": [tensor("image", "UINT8", [1, 2, 2, 3], data=[0.5] * 12)]}, "whole numbers"),
    ({"inputs": [tensor("image", "UINT8", [1, 2, 2, 3], data=[[1], [1, 2]])]}, "rectangular"),
    ({"inputs": [tensor("image", "UINT8", [1, 2, 2, 3])]}, "whole numbers"),
    ({"inputs": [tensor("image_bytes", "BYTES", [1], data=["%"])]}, "not base64"),
    ({"inputs": [tensor("image_bytes", "BYTES", [2], data=["AA=="])]}, "2 elements"),
    ({"inputs": [tensor("image_bytes", "BYTES", [1], data=[1])]}, "base64 texts"),
    ({"id": 5, "inputs": [tensor("image_bytes", "BYTES", [1], data=["AA=="])]}, "id"),
    (
        {
            "outputs": [{"name": "x"}],
            "inputs": [tensor("image_bytes", "BYTES", [1], data=["AA=="])],
        },
        "only output",
    ),
    *(
        (
            {"outputs": outputs, "inputs": [tensor("image_bytes", "BYTES", [1], data=["AA=="])]},
            "only",
        )
        for outputs in (5, True, "logits", {"name": "logits"}, [5], [{"name": "logits"}] * 2)
    ),
]


@pytest.mark.parametrize(("request_", "message"), BAD)
def test_what_is_wrong_is_said(request_: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        inference_of(json.dumps(request_).encode(), None, size_px=2, most=8)
    assert (caught.value.problem.status, caught.value.problem.slug) == (400, "invalid-tensor")


@pytest.mark.parametrize("length", ["-1", "x", "99", "²"])
def test_a_header_length_that_cannot_be(length: str) -> None:
    with pytest.raises(RequestError, match="Inference-Header-Content-Length"):
        inference_of(b"{}", length, size_px=2, most=8)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(
    st.sampled_from(["id", "outputs", "parameters", "inputs"])
    | st.sampled_from(["name", "datatype", "shape", "data"]).map(lambda key: ("inputs", key)),
    JSON_VALUES,
)
def test_no_value_of_a_member_does_more_than_be_refused(at: Any, value: Any) -> None:
    request: dict[str, Any] = {"inputs": [tensor("image", "UINT8", [1, 2, 2, 3], data=[7] * 12)]}
    place = request["inputs"][0] if isinstance(at, tuple) else request
    place[at[1] if isinstance(at, tuple) else at] = value
    try:
        found = inference_of(json.dumps(request).encode(), None, size_px=2, most=8)
    except RequestError:
        return
    assert found.count == 1


@given(st.binary(max_size=200))
def test_no_bytes_of_a_tensor_do_more_than_be_refused(raw: bytes) -> None:
    sized = tensor("image_bytes", "BYTES", [1], parameters={"binary_data_size": len(raw)})
    head = json.dumps({"inputs": [sized]}).encode()
    try:
        found = inference_of(head + raw, str(len(head)), size_px=2, most=8)
    except RequestError:
        return
    assert found.files is not None
    assert struct.pack("<I", len(found.files[0])) + found.files[0] == raw


def test_a_document_of_too_many_lists_is_refused_unread() -> None:
    """Each is 64 bytes of memory, and time in which nothing else runs."""
    image = tensor("image", "UINT8", [1, 2, 2, 3], data=[[[[7] * 3] * 2] * 2])
    fits = {"inputs": [image], "parameters": {"x": [[]] * (2**18 - 100)}}
    assert inference_of(json.dumps(fits).encode(), None, size_px=2, most=8).count == 1
    fits["parameters"] = {"x": [[]] * 2**18}
    with pytest.raises(RequestError, match="flat, or as binary"):
        inference_of(json.dumps(fits).encode(), None, size_px=2, most=8)


def test_large_requests_are_read_one_at_a_time(
    guarded, open_client, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, most = 0, 0

    def slowly(body: bytes, *_: object) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.02)
        inside -= 1
        raise RequestError(Problem(400, "read", "It is read"))

    async def ask_with(size: int) -> int:
        nonlocal most
        most = 0
        async with open_client(guarded) as client:
            sent = (client.post(INFER, content=b"x" * size) for _ in range(6))
            assert {answer.status_code for answer in await asyncio.gather(*sent)} == {400}
        return most

    async def test() -> tuple[int, int]:
        return await ask_with(handlers.SMALL_BYTES + 1), await ask_with(10)

    monkeypatch.setattr(handlers, "SMALL_BYTES", 1000)
    monkeypatch.setattr(handlers, "inference_of", slowly)
    large, small = asyncio.run(test())
    assert large == 1
    assert small > 1


def test_a_deep_document_is_refused() -> None:
    with pytest.raises(RequestError):
        inference_of(b"[" * 100_000, None, size_px=2, most=8)
