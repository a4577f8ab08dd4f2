"""App: the service's own resources, a Starlette app that BentoML mounts and the guard wraps.

POST /v1/classify   an image -> labels with probabilities
GET  /v1/model      what is served, where it came from, and on what backend
GET  /              a page to try it
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import time
from functools import cache
from importlib import resources

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serve.batcher import Answer
from serve.contract.errors import ImageError
from serve.exchange import exchange_of
from serve.guard import CLIENT_GONE
from serve.metrics import Metrics
from serve.prediction import top_predictions
from serve.problem import Problem, RequestError, problem_from, problem_of_status
from serve.request_log import fault_line
from serve.served_model import ServedModel
from serve.upload import image_from_request

__all__ = ["build_app"]

DEFAULT_TOP_K = 5


def build_app(model: ServedModel | None = None, metrics: Metrics | None = None) -> Starlette:
    """The app; runs behind `Guard`, which renders its errors.

    Args:
        model: what answers; `app.state.model` may be set later. Until then answers are 503.
        metrics: where stage times are counted; not at all when None.
    """
    app = Starlette(
        routes=[
            Route("/", _page, methods=["GET"]),
            Route("/v1/model", _model, methods=["GET"]),
            Route("/v1/classify", _classify, methods=["POST"]),
        ]
    )
    app.state.model = model
    app.state.metrics = metrics
    return app


async def _classify(request: Request) -> Response:
    # Exceptions stop here: BentoML's timeout layer waits out its whole timeout when one reaches it.
    exchange = exchange_of(request.scope)
    try:
        return await _classified(request)
    except (ImageError, RequestError) as error:
        exchange.problem = problem_from(error)
    except Exception as error:  # noqa: BLE001 - see above
        exchange.problem = problem_of_status(500)
        exchange.fault = fault_line(error)
    return Response(status_code=exchange.problem.status)


async def _classified(request: Request) -> Response:
    start = time.perf_counter()
    model = _served(request)
    top_k = _top_k(request, len(model.artifact.labels))
    answer = await _answer_unless_gone(request, model, await image_from_request(request))
    body = {
        "predictions": top_predictions(answer.logits, model.artifact.labels, top_k),
        "model": model.identity,
    }
    stages_ms = {
        "decode": answer.decode_ms,
        "queue": answer.queue_ms,
        "infer": answer.infer_ms,
        "total": (time.perf_counter() - start) * 1e3,
    }
    if request.app.state.metrics:
        request.app.state.metrics.observe_answer(stages_ms)
    timing = ", ".join(f"{stage};dur={value:.3f}" for stage, value in stages_ms.items())
    return JSONResponse(body, headers={"server-timing": timing, "cache-control": "no-store"})


async def _answer_unless_gone(request: Request, model: ServedModel, data: bytes) -> Answer:
    """Wait for the answer; drop the work as soon as the client hangs up."""
    answer = model.batcher.submit(data)

    async def drop_when_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        answer.cancel()

    watcher = asyncio.create_task(drop_when_gone())
    try:
        return await answer
    except asyncio.CancelledError:
        if not watcher.done():  # not the client: the server itself cancels
            raise
        raise RequestError(CLIENT_GONE) from None
    finally:
        watcher.cancel()


async def _model(request: Request) -> Response:
    try:
        return JSONResponse(_served(request).describe())
    except RequestError as error:
        exchange_of(request.scope).problem = error.problem
        return Response(status_code=error.problem.status)


async def _page(request: Request) -> Response:
    html, policy = _page_and_policy()
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
    return Response(html, media_type="text/html", headers=headers)


@cache
def _page_and_policy() -> tuple[str, str]:
    """The page, and a policy that lets a browser run only what is written in it."""
    html = resources.files("serve").joinpath("page.html").read_text(encoding="utf-8")
    hashes = {}
    for tag in ("style", "script"):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert text is not None  # the page is ours; a test reads it
        digest = hashlib.sha256(text[1].encode()).digest()
        hashes[tag] = f"'sha256-{base64.b64encode(digest).decode()}'"
    policy = (
        f"default-src 'none'; style-src {hashes['style']}; script-src {hashes['script']}; "
        "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return html, policy


def _served(request: Request) -> ServedModel:
    model: ServedModel | None = request.app.state.model
    if model is None:
        raise RequestError(problem_of_status(503))
    return model


def _top_k(request: Request, labels: int) -> int:
    text = request.query_params.get("top_k")
    if text is None:
        return min(DEFAULT_TOP_K, labels)
    if text.isascii() and text.isdigit() and len(text) < 8 and 1 <= int(text) <= labels:
        return int(text)
    raise RequestError(
        Problem(
            400,
            "invalid-top-k",
            "The parameter top_k is out of range",
            f"Expected a whole number from 1 to {labels}, the number of labels.",
        )
    )
