"""Problem: an error response in the form of RFC 9457, application/problem+json.

{"type": "urn:stillroom:problem:truncated-image", "title": "The image file is cut short",
 "status": 422, "detail": "The image file ends before the image does. Send the whole file.",
 "instance": "3f9c2a..."}

`detail` is written for a stranger: it never holds a path, a pid or an exception's text.
`instance` is the request id, which the log line holds too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, TypeVar

from serve.contract.errors import ImageError, StillroomError

__all__ = [
    "CLIENT_GONE",
    "MEDIA_TYPE",
    "Problem",
    "RequestError",
    "problem_from",
    "problem_of_status",
    "without_frames",
]

E = TypeVar("E", bound=BaseException)
MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Problem:
    """One error response.

    Args:
        status: HTTP status.
        slug: last part of the type URN; stable, for programs.
        title: the same for every occurrence, for people.
        detail: this occurrence, and what helps.
        headers: extra response headers, lower-case names.
    """

    status: int
    slug: str
    title: str
    detail: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def members(self, request_id: str) -> dict[str, Any]:
        """The members of the JSON document."""
        return {
            "type": f"urn:stillroom:problem:{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": request_id,
        }

    def body(self, request_id: str) -> bytes:
        """The JSON document."""
        return json.dumps(self.members(request_id), ensure_ascii=False).encode()


class RequestError(StillroomError):
    """A request whose response is a problem.

    Args:
        problem: the response.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem


CLIENT_GONE = Problem(499, "client-gone", "The client closed the connection")
TITLES = {
    400: ("bad-request", "The request is malformed"),
    404: ("not-found", "There is no such resource"),
    405: ("method-not-allowed", "The resource does not support this method"),
    429: ("too-many-requests", "Too many requests"),
    503: ("not-ready", "The service is not ready"),
    504: ("timeout", "The response took too long"),
}
RETRY_AFTER = {429: "1", 503: "1"}


def problem_from(error: ImageError | RequestError) -> Problem:
    """The problem that an error stands for."""
    if isinstance(error, RequestError):
        return error.problem
    return Problem(error.status, error.slug, error.title, str(error))


def without_frames(error: E) -> E:
    """The error without the frames that it came through, once only its words are wanted.

    They hold the image, and the error where it was kept: a circle that only the garbage collector
    opens, long after the request.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def problem_of_status(status: int) -> Problem:
    """A problem for an error response that somebody else wrote: only its status is kept."""
    fallback = ("internal-error", "The service failed") if status >= 500 else TITLES[400]
    slug, title = TITLES.get(status, fallback)
    headers = {"retry-after": RETRY_AFTER[status]} if status in RETRY_AFTER else {}
    return Problem(status, slug, title, headers=headers)
