"""Tensors on the wire of the Open Inference Protocol (KServe, Triton), version 2 over HTTP.

A request is JSON, or JSON followed by the tensors' bytes (the extension for binary tensor data):
the header Inference-Header-Content-Length then says where the JSON ends, and `binary_data_size` in
a tensor's parameters how many bytes are its own. Each element of a BYTES tensor begins with its
length, four bytes, little endian; in JSON it is base64.

Source: KServe's Open Inference Protocol, version 2, and Triton's extension for binary tensor data.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.http.problems import Problem, RequestError

__all__ = ["HEADER_LENGTH", "Inference", "inference_of", "response_of"]

HEADER_LENGTH = "inference-header-content-length"
MOST_BRACKETS = 2**18  # 3 bytes can make a list of 64, and none but this thread runs meanwhile
PIXELS, FILES, LOGITS = "image", "image_bytes", "logits"


@dataclass(frozen=True)
class Inference:
    """A request, read.

    Args:
        id: of the client; "" where it gave none.
        pixels: (N, size_px, size_px, 3) uint8; None where files were sent.
        files: N image files; None where pixels were sent.
        binary: whether the response's tensor is to follow the JSON.
    """

    id: str
    pixels: NDArray[np.uint8] | None
    files: list[bytes] | None
    binary: bool

    @property
    def count(self) -> int:
        """N."""
        return len(self.pixels if self.pixels is not None else self.files or ())


def inference_of(body: bytes, header_length: str | None, size_px: int, most: int) -> Inference:
    """Read a request.

    Args:
        body: of the request.
        header_length: value of the header; None where there is none.
        size_px: side of the model's images.
        most: images in one request.

    Raises:
        RequestError: 400, says what was expected.
    """
    head, rest = _split(body, header_length)
    if head.count(b"[") + head.count(b"{") > MOST_BRACKETS:
        raise _bad('The JSON is too deep or too long. Send "data" flat, or as binary data.')
    try:
        request = json.loads(head)
        tensors = request["inputs"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise _bad('Expected a JSON object with "inputs".') from None
    if not (isinstance(tensors, list) and len(tensors) == 1 and isinstance(tensors[0], dict)):
        raise _bad(f'Expected one input, "{PIXELS}" or "{FILES}".')
    tensor = tensors[0]
    raw = _own_bytes(tensor, rest)
    name, datatype = tensor.get("name"), tensor.get("datatype")
    pixels, files = None, None
    if (name, datatype) == (PIXELS, "UINT8"):
        pixels = _pixels(tensor, raw, size_px, most)
    elif (name, datatype) == (FILES, "BYTES"):
        files = _files(tensor, raw, most)
    else:
        raise _bad(f'Expected the input "{PIXELS}" of UINT8, or "{FILES}" of BYTES.')
    identifier = request.get("id", "")
    if not (isinstance(identifier, str) and len(identifier) <= 200):
        raise _bad('Expected a short text as "id".')
    return Inference(identifier, pixels, files, _wants_binary(request))


def response_of(
    inference: Inference, model: str, version: str, logits: NDArray[np.float32]
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the response.

    Args:
        inference: the request.
        model: name.
        version: of the model.
        logits: (N, K).
    """
    output: dict[str, Any] = {"name": LOGITS, "datatype": "FP32", "shape": list(logits.shape)}
    data = logits.astype("<f4").tobytes() if inference.binary else b""
    if inference.binary:
        output["parameters"] = {"binary_data_size": len(data)}
    else:
        output["data"] = [float(value) for value in logits.ravel()]
    body: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": [output]}
    if inference.id:
        body["id"] = inference.id
    head = json.dumps(body).encode()
    if not inference.binary:
        return head, {"content-type": "application/json"}
    return head + data, {
        "content-type": "application/octet-stream",
        HEADER_LENGTH: str(len(head)),
    }


def _split(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    if header_length is None:
        return body, b""
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 10):
        raise _bad("Inference-Header-Content-Length is not a number.")
    end = int(header_length)
    if end > len(body):
        raise _bad("Inference-Header-Content-Length is larger than the body.")
    return body[:end], body[end:]


def _own_bytes(tensor: Mapping[str, Any], rest: bytes) -> bytes | None:
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return None
    if not (isinstance(size, int) and size == len(rest)):
        raise _bad(f"binary_data_size is not the {len(rest)} bytes that follow the JSON.")
    return rest


def _pixels(
    tensor: Mapping[str, Any], raw: bytes | None, size_px: int, most: int
) -> NDArray[np.uint8]:
    shape = _shape(tensor, most)
    if shape[1:] != [size_px, size_px, 3]:
        raise _bad(f"Expected the shape [N, {size_px}, {size_px}, 3].")
    wanted = shape[0] * size_px * size_px * 3
    if raw is not None:
        values = np.frombuffer(raw, np.uint8)
    else:
        try:
            wide = np.asarray(tensor.get("data"))
        except ValueError:
            raise _bad('"data" is not rectangular.') from None
        if wide.dtype.kind not in "iu" or (wide.size and (wide.min() < 0 or wide.max() > 255)):
            raise _bad('Expected whole numbers from 0 to 255 as "data".')
        values = wide.astype(np.uint8).ravel()
    if values.size != wanted:
        raise _bad(f"Expected {wanted} values, found {values.size}.")
    return values.reshape(shape)


def _files(tensor: Mapping[str, Any], raw: bytes | None, most: int) -> list[bytes]:
    shape = _shape(tensor, most)
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
        raise _bad("Expected the shape [N].")
    found = _elements(raw) if raw is not None else _decoded(tensor.get("data"))
    if len(found) != shape[0]:
        raise _bad(f"Expected {shape[0]} elements, found {len(found)}.")
    return found


def _shape(tensor: Mapping[str, Any], most: int) -> list[int]:
    shape = tensor.get("shape")
    whole = isinstance(shape, list) and all(type(side) is int for side in shape)
    if not (whole and shape and 1 <= shape[0] <= most):
        raise _bad(f"Expected a shape that begins with 1 to {most} images.")
    return list(shape)


def _elements(raw: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(raw):
        if at + 4 > len(raw):
            raise _bad("A BYTES tensor ends within a length.")
        (length,) = struct.unpack_from("<I", raw, at)
        at += 4
        if at + length > len(raw):
            raise _bad("A BYTES tensor ends within an element.")
        found.append(raw[at : at + length])
        at += length
    return found


def _decoded(data: Any) -> list[bytes]:
    if isinstance(data, list) and len(data) and all(isinstance(one, list) for one in data):
        data = [one for row in data for one in row]
    if not (isinstance(data, list) and all(isinstance(one, str) for one in data)):
        raise _bad('Expected base64 texts as "data".')
    try:
        return [base64.b64decode(one, validate=True) for one in data]
    except (binascii.Error, ValueError):
        raise _bad('"data" is not base64.') from None


def _wants_binary(request: Mapping[str, Any]) -> bool:
    """Of the only output; where none is named, of all."""
    outputs, parameters = request.get("outputs"), request.get("parameters")
    if outputs:
        one = outputs[0] if isinstance(outputs, list) and len(outputs) == 1 else None
        if not isinstance(one, dict) or one.get("name") != LOGITS:
            raise _bad(f'The only output is "{LOGITS}".')
        parameters, key = one.get("parameters"), "binary_data"
    else:
        key = "binary_data_output"
    return isinstance(parameters, dict) and parameters.get(key) is True


def _bad(detail: str) -> RequestError:
    return RequestError(
        Problem(400, "invalid-tensor", "The inference request cannot be read", detail)
    )
