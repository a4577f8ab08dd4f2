"""One request before the load, so that a wrong address fails at once and in words."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from loadtest.errors import ServiceError
from loadtest.plan.corpus import CorpusImage
from loadtest.plan.reply import ReplyPrediction
from loadtest.plan.target import STILLROOM, Target

__all__ = ["PreflightReply", "probe_service"]

WRONG_ADDRESS_STATUSES = frozenset({301, 302, 303, 307, 308, 404, 405, 410, 501})
NO_ACCESS_STATUSES = frozenset({401, 403})
NOT_UNDERSTOOD_STATUSES = frozenset({400, 415, 422})


@dataclass(frozen=True, slots=True)
class PreflightReply:
    """The reply to the probe.

    Attributes:
        status: of the HTTP response.
        elapsed_ms: from connecting to the last byte.
        prediction: None if the status is not 200.
    """

    status: int
    elapsed_ms: float
    prediction: ReplyPrediction | None


def probe_service(
    url: str, image: CorpusImage, *, timeout_s: float, target: Target = STILLROOM
) -> PreflightReply:
    """Classify one image.

    A status such as 500 or 503 does not stop anything here: a load test counts those.

    Raises:
        ServiceError: unreachable, no such route, no access, the image was not understood, or status
            200 and no classification.
    """
    begun = time.perf_counter()
    try:
        status, body = _post(url, target, image, timeout_s)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ServiceError(
            f"no service at {url} ({reason})",
            "start one with: stillroom serve RUN"
            if target.is_stillroom
            else "check its address, and whether it is up",
        ) from error
    elapsed_ms = (time.perf_counter() - begun) * 1000
    if status in WRONG_ADDRESS_STATUSES:
        raise ServiceError(
            f"{url}{target.route} answers {status}",
            "give the base address of a stillroom service, such as http://127.0.0.1:3000, or the "
            "--route of another"
            if target.is_stillroom
            else "check --route, the path of the POST",
        )
    if status in NO_ACCESS_STATUSES:
        raise ServiceError(
            f"{url}{target.route} answers {status}",
            "give its credentials with --header 'Authorization: ...'",
        )
    if status in NOT_UNDERSTOOD_STATUSES:
        raise ServiceError(
            f"{url}{target.route} answers {status} to {image.path!r}: {body[:100]!r}",
            "check --field, the name of the form field, and that image",
        )
    prediction = target.prediction_of(body) if status == 200 else None
    if status == 200 and prediction is None:
        raise ServiceError(
            f"{url}{target.route} answers 200 with {body[:40]!r}, not with a classification",
            "give the base address of a stillroom service"
            if target.is_stillroom
            else "check --answer, the JSON pointer to the label",
        )
    return PreflightReply(status=status, elapsed_ms=elapsed_ms, prediction=prediction)


def _post(url: str, target: Target, image: CorpusImage, timeout_s: float) -> tuple[int, bytes]:
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        body, headers = target.request_of(image)
        connection.request("POST", parts.path + target.route, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
