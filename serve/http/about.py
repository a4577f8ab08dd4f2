"""What the service says of itself: /v1/model, /openapi.json, and a page to try it at /."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve.http.handlers import served_model, with_problems
from serve.http.openapi import openapi_document

__all__ = ["model", "openapi", "page"]


@with_problems
async def model(request: Request) -> Response:
    """Name, digest, labels, backend and lineage of the model."""
    return JSONResponse(served_model(request).describe())


async def openapi(request: Request) -> Response:
    """The description of all routes."""
    return JSONResponse(openapi_document(request.app.state.routes))


async def page(request: Request) -> Response:
    """A page for people, under a policy that lets a browser run only what is written in it."""
    html, policy = _page_and_policy()
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
    return Response(html, media_type="text/html", headers=headers)


@cache
def _page_and_policy() -> tuple[str, str]:
    """The page, and the policy: hashes of its style and of its script."""
    html = resources.files("serve.http").joinpath("page.html").read_text(encoding="utf-8")
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
