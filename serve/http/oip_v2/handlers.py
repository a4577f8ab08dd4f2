"""Handlers of the Open Inference Protocol, version 2 over HTTP.

One model, one input of two kinds: `image`, pixels that went through the preprocess spec, or
`image_bytes`, image files that the service preprocesses itself. One output: `logits`.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from importlib import metadata
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve.http.admission import EXPIRED
from serve.http.handlers import budget_ms_of, served_model, wait_or_disconnect, with_problems
from serve.http.oip_v2.tensors import (
    FILES,
    HEADER_LENGTH,
    LOGITS,
    PIXELS,
    inference_of,
    response_of,
)
from serve.http.problems import Problem, RequestError, problem_of_status
from serve.model.batcher import InferenceResult
from serve.model.served_model import ServedModel

__all__ = ["infer", "live", "model_metadata", "model_ready", "ready", "server"]

MOST = 32  # images in one request
SMALL_BYTES = 256 * 2**10  # of a body that is read beside others


async def server(request: Request) -> Response:
    """The server, its version and extensions."""
    extensions = ["binary_tensor_data"]
    version = metadata.version("bentoml")
    return JSONResponse(
        {"name": "stillroom", "version": f"bentoml {version}", "extensions": extensions}
    )


async def live(request: Request) -> Response:
    """The process lives."""
    return JSONResponse({"live": True})


@with_problems
async def ready(request: Request) -> Response:
    """The service answers, and is not about to end."""
    _check_staying(request)
    served_model(request)
    return JSONResponse({"ready": True})


@with_problems
async def model_metadata(request: Request) -> Response:
    """Names, types and shapes of the model's tensors."""
    model = _named(request)
    size_px = model.artifact.preprocess.size_px
    return JSONResponse(
        {
            "name": model.artifact.name,
            "versions": [model.artifact.version],
            "platform": model.runner.backend,
            "inputs": [
                {"name": PIXELS, "datatype": "UINT8", "shape": [-1, size_px, size_px, 3]},
                {"name": FILES, "datatype": "BYTES", "shape": [-1]},
            ],
            "outputs": [
                {"name": LOGITS, "datatype": "FP32", "shape": [-1, len(model.artifact.labels)]}
            ],
            "parameters": {"labels": list(model.artifact.labels), "digest": model.artifact.digest},
        }
    )


@with_problems
async def model_ready(request: Request) -> Response:
    """As `ready`, for the one model."""
    _check_staying(request)
    return JSONResponse({"name": _named(request).artifact.name, "ready": True})


@with_problems
async def infer(request: Request) -> Response:
    """Pixels or image files in, logits out."""
    model = _named(request)
    body, length = await request.body(), request.headers.get(HEADER_LENGTH)
    size_px = model.artifact.preprocess.size_px
    # Megabytes of JSON take a tenth of a second, and ten times their size in memory.
    async with request.app.state.reading if len(body) > SMALL_BYTES else nullcontext():
        if budget_ms_of(request, model) <= 0:
            raise RequestError(EXPIRED)
        inference = await asyncio.to_thread(inference_of, body, length, size_px, MOST)
    if inference.files:
        await asyncio.to_thread(model.check_together, inference.files)
    budget_ms = budget_ms_of(request, model)
    waiting: list[asyncio.Future[InferenceResult]] = []
    try:
        for pixels in inference.pixels if inference.pixels is not None else ():
            waiting.append(model.batcher.submit_pixels(pixels, budget_ms=budget_ms))  # noqa: PERF401 - those before an error must be cancelled
        for file in inference.files or ():
            waiting.append(model.batcher.submit(file, budget_ms=budget_ms))  # noqa: PERF401
    except RequestError:
        for one in waiting:
            one.cancel()
        raise
    rows = []
    for found in await wait_or_disconnect(request, waiting):
        if isinstance(found, BaseException):
            raise found  # the protocol has no response for a part of a batch
        rows.append(found.logits)
    artifact = model.artifact
    data, headers = response_of(inference, artifact.name, artifact.version, np.stack(rows))
    return Response(data, headers=headers)


def _check_staying(request: Request) -> None:
    """As /readyz: a service that is about to end answers, and asks for no more.

    Raises:
        RequestError: 503, it is about to end.
    """
    if request.app.state.leaving():
        raise RequestError(problem_of_status(503))


def _named(request: Request) -> ServedModel:
    """The model, if the path means it.

    Raises:
        RequestError: 404, it names another model or version.
    """
    model = served_model(request)
    wanted: dict[str, Any] = request.path_params
    version = wanted.get("version", model.artifact.version)
    if (wanted["name"], version) != (model.artifact.name, model.artifact.version):
        raise RequestError(
            Problem(
                404,
                "unknown-model",
                "There is no such model here",
                f"Served is {model.artifact.name}, version {model.artifact.version}.",
            )
        )
    return model
