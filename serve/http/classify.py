"""Classification: an image file in, labels with probabilities out.

POST /v1/classify        one image: the body itself, or in a form
POST /v1/classify/batch  several images in one form, each with its own result or problem
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve.contract.errors import ImageError
from serve.http.exchange import exchange_of, fault_line
from serve.http.handlers import budget_ms_of, served_model, wait_or_disconnect, with_problems
from serve.http.problems import RequestError, problem_from, problem_of_status
from serve.http.upload import image_from_request, images_from_form
from serve.model.batcher import InferenceResult
from serve.model.predictions import top_k_of, top_predictions
from serve.model.served_model import ServedModel

__all__ = ["classify", "classify_batch"]


@with_problems
async def classify(request: Request) -> Response:
    """Labels and probabilities of the one image of a request."""
    start = time.perf_counter()
    model = served_model(request)
    top_k = top_k_of(request.query_params.get("top_k"), len(model.artifact.labels))
    data = await image_from_request(request)
    waiting = model.batcher.submit(data, budget_ms=budget_ms_of(request, model))
    (result,) = await wait_or_disconnect(request, [waiting])
    if isinstance(result, BaseException):
        raise result
    body = {
        "predictions": top_predictions(result.logits, model.artifact.labels, top_k),
        "model": model.identity,
    }
    stages_ms = {
        "decode": result.decode_ms,
        "queue": result.queue_ms,
        "infer": result.infer_ms,
        "total": (time.perf_counter() - start) * 1e3,
    }
    if request.app.state.metrics:
        request.app.state.metrics.observe_stages(stages_ms)
    timing = ", ".join(f"{stage};dur={value:.3f}" for stage, value in stages_ms.items())
    return JSONResponse(body, headers={"server-timing": timing, "cache-control": "no-store"})


@with_problems
async def classify_batch(request: Request) -> Response:
    """Answer a form with up to MAX_FILES parts named "image"; status 200 whatever becomes of each.

    A request that cannot be read, or that finds no place, is refused whole.
    """
    model = served_model(request)
    top_k = top_k_of(request.query_params.get("top_k"), len(model.artifact.labels))
    blobs = await images_from_form(request)
    await asyncio.to_thread(model.check_together, blobs)
    budget_ms = budget_ms_of(request, model)
    waiting: list[asyncio.Future[InferenceResult]] = []
    try:
        waiting += [model.batcher.submit(blob, budget_ms=budget_ms) for blob in blobs]
    except RequestError:
        for one in waiting:
            one.cancel()
        raise
    found = await wait_or_disconnect(request, waiting)
    results = [_result(request, model, one, top_k) for one in found]
    body = {"results": results, "model": model.identity}
    return JSONResponse(body, headers={"cache-control": "no-store"})


def _result(
    request: Request, model: ServedModel, found: InferenceResult | BaseException, top_k: int
) -> dict[str, Any]:
    if isinstance(found, InferenceResult):
        return {"predictions": top_predictions(found.logits, model.artifact.labels, top_k)}
    exchange = exchange_of(request.scope)
    problem = problem_of_status(500)
    if isinstance(found, ImageError | RequestError):
        problem = problem_from(found)
    else:
        exchange.fault = fault_line(found)
    if metrics := request.app.state.metrics:
        metrics.observe_problem(problem.slug)
    return {"problem": problem.members(exchange.request_id)}
