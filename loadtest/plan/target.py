"""How to ask a service about an image, and where in its reply the prediction is.

The default is stillroom's own interface; any classifier that takes one image in a POST request and
replies in JSON will do.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from loadtest.errors import UsageError
from loadtest.plan.corpus import CorpusImage
from loadtest.plan.reply import ReplyPrediction, prediction_from_body
from loadtest.plan.token import auth_header

__all__ = ["STILLROOM", "Target", "headers_from_texts", "value_at"]

BOUNDARY = "stillroom-load-4d1f7c2b9e60"
STILLROOM_ROUTE = "/v1/classify"
STILLROOM_POINTER = "/predictions/0/label"
_HEADER = re.compile(r"(?P<name>[A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*(?P<value>[\x20-\x7e]*)")
_OWN_HEADERS = frozenset({"content-type", "content-length", "host", "transfer-encoding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One service's interface.

    Attributes:
        route: path of the request below the base address, with a slash before it.
        field: name of the multipart form field that holds the image; empty to send its bytes as
            the body.
        headers: further headers, such as an authorisation; their values enter no report.
        answer: JSON pointer (RFC 6901) to the most probable label in the reply; empty to take any
            reply of status 200 for right.
    """

    route: str = STILLROOM_ROUTE
    field: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    answer: str = STILLROOM_POINTER

    def __post_init__(self) -> None:
        if not re.fullmatch(r"/[\x21-\x7e]*", self.route):
            raise UsageError(
                f"--route {self.route!r} is not a path", "write it as --route /v1/classify"
            )
        if not re.fullmatch(r"[A-Za-z0-9_.\[\]-]*", self.field):
            raise UsageError(
                f"--field {self.field!r} is not a plain field name", "write it as --field image"
            )
        if self.answer and not self.answer.startswith("/"):
            raise UsageError(
                f"--answer {self.answer!r} is not a JSON pointer",
                f"write it as --answer {STILLROOM_POINTER}",
            )

    @property
    def is_stillroom(self) -> bool:
        """Whether replies have the form of our own service, which also names its model."""
        return self.route == STILLROOM_ROUTE and self.answer == STILLROOM_POINTER

    def request_of(self, image: CorpusImage) -> tuple[bytes, dict[str, str]]:
        """Body and headers that ask about an image."""
        headers = {**(auth_header() if self.is_stillroom else {}), **dict(self.headers)}
        if not self.field:
            return image.body, {"Content-Type": image.content_type, **headers}
        head = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{self.field}"; '
            f'filename="photo"\r\nContent-Type: {image.content_type}\r\n\r\n'
        )
        body = b"".join([head.encode(), image.body, f"\r\n--{BOUNDARY}--\r\n".encode()])
        return body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", **headers}

    def prediction_of(self, body: bytes) -> ReplyPrediction | None:
        """The prediction in a reply of status 200; None if there is none where it should be."""
        if self.is_stillroom:
            return prediction_from_body(body)
        if not self.answer:
            return ReplyPrediction("", None)
        try:
            value = value_at(json.loads(body), self.answer)
        except (ValueError, LookupError, TypeError):
            return None
        known = isinstance(value, str | int | float) and not isinstance(value, bool)
        return ReplyPrediction(str(value), None) if known else None


STILLROOM = Target()


def value_at(document: Any, pointer: str) -> Any:
    """The value that a JSON pointer names.

    Raises:
        LookupError, TypeError, ValueError: there is none.

    Source: RFC 6901, section 4.
    """
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, list):
            if not re.fullmatch(r"0|[1-9][0-9]*", key):
                raise LookupError(f"{key!r} is not an index")
            document = document[int(key)]
        else:
            document = document[key]
    return document


def headers_from_texts(texts: list[str]) -> tuple[tuple[str, str], ...]:
    """Read `Name: value`.

    Raises:
        UsageError: another form, or a header that the request itself sets.
    """
    headers = []
    for text in texts:
        match = _HEADER.fullmatch(text)
        if match is None:  # the value may be a secret: it is not shown
            name, colon, _ = text.partition(":")
            shown = f" {name[:30]!r}" if colon else ""
            raise UsageError(
                f"a --header{shown} is not NAME: VALUE", "write it as --header 'X-Key: value'"
            )
        if match["name"].lower() in _OWN_HEADERS:
            raise UsageError(f"--header {match['name']} is set by the load test", "leave it out")
        headers.append((match["name"], match["value"].strip()))
    return tuple(headers)
