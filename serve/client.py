"""Client: send image files to a running service and get its predictions back.

A service that is busy and says when to come back is asked again, and so is one that ends a
connection without a response; four times at most. Where STILLROOM_TOKEN or STILLROOM_TOKEN_FILE is
set, every request carries the token.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from serve.contract.errors import ServiceError
from serve.settings import bearer_from_env

__all__ = ["classify", "classify_many", "describe_model"]

TIMEOUT_S = 30.0
TRIES = 4
LONGEST_WAIT_S = 10.0
CUT_OFF = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
CLASSIFIED = ("predictions", "model")
DESCRIBED = ("name", "version", "digest", "labels", "backend", "lineage")


def classify(
    url: str, data: bytes, *, top_k: int | None = None, client: httpx.Client | None = None
) -> dict[str, Any]:
    """Classify one image file.

    Args:
        url: of the service, for example "http://127.0.0.1:3000".
        data: bytes of a JPEG, PNG or WebP file, sent unchanged.
        top_k: number of predictions, best first; the service's own default when None.
        client: to reuse connections; one is made when None.

    Returns:
        {"predictions": [{"label", "probability"}], "model": {"name", "version", "digest",
        "backend"}}.

    Raises:
        ServiceError: the service refused (its own words), failed, or cannot be reached.
    """
    if client is None:
        with httpx.Client(timeout=TIMEOUT_S) as own:
            return classify(url, data, top_k=top_k, client=own)
    headers = {"content-type": "application/octet-stream"}
    query = "" if top_k is None else f"?top_k={top_k}"
    response = _request(client, "POST", f"{url.rstrip('/')}/v1/classify{query}", data, headers)
    return _members_of(response, CLASSIFIED)


def classify_many(
    url: str, blobs: Sequence[bytes], concurrency: int = 4, *, top_k: int | None = None
) -> list[dict[str, Any]]:
    """Classify many image files, at most `concurrency` at a time.

    Returns:
        One result per blob, in the order of `blobs`.

    Raises:
        ServiceError: as `classify`, for the first blob that fails.
    """
    limits = httpx.Limits(max_connections=concurrency)
    with (
        httpx.Client(timeout=TIMEOUT_S, limits=limits) as client,
        ThreadPoolExecutor(concurrency) as pool,
    ):
        return list(pool.map(lambda data: classify(url, data, top_k=top_k, client=client), blobs))


def describe_model(url: str) -> dict[str, Any]:
    """What GET /v1/model says: name, digest, labels, backend, golden check, lineage.

    Raises:
        ServiceError: as `classify`.
    """
    with httpx.Client(timeout=TIMEOUT_S) as client:
        return _members_of(_request(client, "GET", f"{url.rstrip('/')}/v1/model"), DESCRIBED)


def _request(
    client: httpx.Client,
    method: str,
    url: str,
    data: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    sent = {**_authorization(), **(headers or {})}
    for turn in range(1, TRIES + 1):
        try:
            response = client.request(method, url, content=data, headers=sent)
        except CUT_OFF as error:  # by a worker that died, say; to ask twice changes nothing
            if turn == TRIES:
                raise _no_response(url, error) from error
            continue
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _no_response(url, error) from error
        wait_s = _wait_s(response)
        if wait_s is None or turn == TRIES:
            break
        time.sleep(wait_s)
    return response


def _authorization() -> dict[str, str]:
    """The header for a service that asks for a token; none where no token is set."""
    token = bearer_from_env(os.environ)
    return {"authorization": f"Bearer {token}"} if token else {}


def _wait_s(response: httpx.Response) -> float | None:
    """How long a busy service asks to wait; None where another try is not asked for."""
    asked = response.headers.get("retry-after", "")
    if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or not asked.isdecimal():
        return None
    return min(float(asked), LONGEST_WAIT_S)


def _no_response(url: str, error: Exception) -> ServiceError:
    return ServiceError(
        f"No response from {url} ({type(error).__name__}).",
        "Check the address, and that the service runs: stillroom serve RUN",
    )


def _members_of(response: httpx.Response, members: Sequence[str]) -> dict[str, Any]:
    """The JSON object of a response, which has these members."""
    try:
        value = response.json()
    except ValueError:
        value = None
    body: dict[str, Any] = value if isinstance(value, dict) else {}
    if response.is_success and all(member in body for member in members):
        return body
    answered = f"{response.url} answered {response.status_code}"
    detail = body.get("detail") or body.get("title")
    if response.is_success or not detail:
        raise ServiceError(
            f"{answered}, and not as stillroom's service does.",
            "Give the address that stillroom serve printed.",
            status=response.status_code,
        )
    raise ServiceError(
        f"{answered}: {detail}",
        status=response.status_code,
        slug=str(body.get("type", "")).rpartition(":")[2],
    )
