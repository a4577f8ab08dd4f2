"""App: the service's own resources, an ASGI app that BentoML mounts and the guard wraps.

POST /v1/classify        an image -> labels with probabilities
POST /v1/classify/batch  several images in a form
GET  /v1/model           what is served, where it came from, and on what backend
GET  /openapi.json       the description of all this
GET  /v2 ...             the Open Inference Protocol
GET  /                   a page to try it
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources

from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Receive, Scope, Send

from serve.http.batch_route import classify_batch
from serve.http.handlers import budget_ms_of, served_model, wait_or_disconnect, with_problems
from serve.http.oip_v2.routes import V2_ROUTES
from serve.http.openapi import openapi_document
from serve.http.upload import image_from_request
from serve.model.predictions import top_k_of, top_predictions
from serve.model.served_model import ServedModel
from serve.telemetry.metrics import Metrics

__all__ = ["App", "build_app"]


class App:
    """Routes, and what they share; a Starlette app without the layers for errors.

    Every error is the guard's, and those layers cost a twentieth of the CPU time around an answer.

    Attributes:
        state: `model`, `metrics`, `leaving`, `reading` (held by who reads a large tensor).
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self.state = State()
        self._router = Router(routes, default=Response(status_code=404))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["app"] = self  # `request.app`
        await self._router(scope, receive, send)


def build_app(
    model: ServedModel | None = None,
    metrics: Metrics | None = None,
    leaving: Callable[[], bool] = lambda: False,
) -> App:
    """The app; runs behind `Guard`, which renders its errors.

    Args:
        model: what answers; `app.state.model` may be set later. Until then answers are 503.
        metrics: where stage times are counted; not at all when None.
        leaving: whether the process is about to end, and clients should go elsewhere.
    """
    app = App(
        [
            Route("/v1/classify", _classify, methods=["POST"]),
            Route("/v1/classify/batch", classify_batch, methods=["POST"]),
            Route("/v1/model", _model, methods=["GET"]),
            Route("/", _page, methods=["GET"]),
            Route("/openapi.json", _openapi, methods=["GET"]),
            *V2_ROUTES,
        ]
    )
    app.state.model = model
    app.state.metrics = metrics
    app.state.leaving = leaving
    app.state.reading = asyncio.Lock()
    return app


@with_problems
async def _classify(request: Request) -> Response:
    start = time.perf_counter()
    model = served_model(request)
    top_k = top_k_of(request.query_params.get("top_k"), len(model.artifact.labels))
    data = await image_from_request(request)
    waiting = model.batcher.submit(data, budget_ms=budget_ms_of(request, model))
    (answer,) = await wait_or_disconnect(request, [waiting])
    if isinstance(answer, BaseException):
        raise answer
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


@with_problems
async def _model(request: Request) -> Response:
    return JSONResponse(served_model(request).describe())


async def _openapi(request: Request) -> Response:
    return JSONResponse(openapi_document())


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
