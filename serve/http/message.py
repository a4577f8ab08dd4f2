"""Message: what a request must be before its body is read.

`check_message` asks what RFC 9112 asks beyond what the parser checks. The parser takes a request of
HTTP/0.9, one without Host, and any coding before `chunked`. A proxy that reads such a message
otherwise than we do sends one client's bytes as another's request, so each is refused, and the
connection is closed. The other checks are the service's own: a path and a method that exist, a
token, a body that may be read.
"""

from __future__ import annotations

import hmac
import re

from starlette.types import Scope

from serve.http.problems import Problem, RequestError
from serve.http.routes import Route

__all__ = [
    "check_body_headers",
    "check_message",
    "check_request_line",
    "check_token",
    "too_large",
]

MAX_PATH = 2048
MAX_HEADER_BYTES = 16 * 2**10

# RFC 9110 7.2 and RFC 3986 3.2.2: an IP literal, or a name that may be an IPv4 address; a port.
HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+(?:%[\w.~%-]+)?\]|\[v[0-9A-Fa-f]+\.[\w.~!$&'()*+,;=:-]+\]"
    rb"|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::\d*)?",
    re.ASCII,
)
CHUNKED = b"chunked"
TITLES = {
    400: "The request is malformed",
    501: "The transfer coding is not known",
    505: "The version of HTTP is not supported",
}


def check_message(scope: Scope) -> None:
    """Refuse a request whose version, host or length HTTP/1.1 leaves open.

    Args:
        scope: of ASGI; one without `http_version` is not from a wire, and is not asked for a host.

    Raises:
        RequestError: 400, 501 (a transfer coding that we do not know), or 505.
    """
    version = scope.get("http_version", "")
    if version == "0.9":
        raise _refused(400, "bad-request", "Send the request as HTTP/1.1.")
    if version not in ("", "1.0", "1.1"):
        raise _refused(505, "unsupported-version", "Send the request as HTTP/1.1.")
    _check_host(_values(scope, b"host"), version)
    if codings := _values(scope, b"transfer-encoding"):
        _check_codings(b",".join(codings), version)
        if _values(scope, b"content-length"):
            step = "Send Content-Length or Transfer-Encoding, not both."
            raise _refused(400, "ambiguous-length", step)


def check_request_line(scope: Scope, route: Route | None) -> Route:
    """Refuse a path or method that the table does not hold, and headers of unlikely size.

    Args:
        scope: of ASGI.
        route: the row of its path; None where there is none.

    Returns:
        The row.

    Raises:
        RequestError: 404, 405, 414 or 431.
    """
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        limit = f"The limit is {MAX_HEADER_BYTES} bytes."
        raise RequestError(Problem(431, "headers-too-large", "The headers are too large", limit))
    if len(scope.get("raw_path") or scope["path"]) > MAX_PATH:
        raise RequestError(Problem(414, "path-too-long", "The path is too long"))
    if route is None:
        known = "Send images to POST /v1/classify; see also GET /v1/model."
        raise RequestError(Problem(404, "not-found", "There is no such resource", known))
    if scope["method"] not in route.methods:
        allowed = ", ".join(route.methods)
        raise RequestError(
            Problem(
                405,
                "method-not-allowed",
                "The resource does not support this method",
                f"Allowed here: {allowed}.",
                {"allow": allowed},
            )
        )
    return route


def check_token(scope: Scope, token: bytes) -> None:
    """Refuse a request without the token, in a time that does not tell how much of it was right.

    Raises:
        RequestError: 401.
    """
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    kind, _, rest = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
    if kind.lower() == b"bearer" and hmac.compare_digest(rest.strip(), token):
        return
    raise RequestError(
        Problem(
            401,
            "unauthorized",
            "The request carries no valid token",
            "Send the header Authorization: Bearer, with the token of this service.",
            {"www-authenticate": 'Bearer realm="stillroom"'},
        )
    )


def check_body_headers(scope: Scope, max_body_bytes: int) -> None:
    """Refuse a body by what its headers say, before a byte of it is read.

    Raises:
        RequestError: 413 or 415.
    """
    headers = dict(scope["headers"])
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise RequestError(
            Problem(
                415,
                "unsupported-encoding",
                "Compressed bodies are not accepted",
                "Send the image file as it is, without Content-Encoding.",
            )
        )
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > max_body_bytes:
        raise RequestError(too_large(max_body_bytes))


def too_large(max_body_bytes: int) -> Problem:
    """The refusal of a body over the limit."""
    limit = f"The limit is {max_body_bytes} bytes ({max_body_bytes / 2**20:g} MiB)."
    return Problem(413, "too-many-bytes", "The body is too large", limit)


def _check_host(hosts: list[bytes], version: str) -> None:
    """RFC 9112 3.2: one and a valid one; only HTTP/1.0 may leave it out."""
    if version == "1.0" and hosts in ([], [b""]):
        return
    if len(hosts) > 1 or (hosts and not HOST.fullmatch(hosts[0])) or (version and not hosts):
        raise _refused(400, "invalid-host", "Send one Host header: a name or address, and a port.")


def _check_codings(value: bytes, version: str) -> None:
    """RFC 9112 6.1 and 6.3: `chunked` once and last; what stands before it is not known here."""
    names = [name.strip().lower() for name in value.split(b",")]
    if version == "1.0" or names[-1] != CHUNKED or CHUNKED in names[:-1] or b"" in names:
        step = "Send Transfer-Encoding: chunked, in HTTP/1.1, or Content-Length."
        raise _refused(400, "invalid-transfer-encoding", step)
    if len(names) > 1:
        raise _refused(501, "unknown-transfer-encoding", "Send Transfer-Encoding: chunked alone.")


def _refused(status: int, slug: str, detail: str) -> RequestError:
    return RequestError(Problem(status, slug, TITLES[status], detail, {"connection": "close"}))


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]
