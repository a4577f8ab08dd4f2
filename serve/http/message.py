"""Message: what RFC 9112 asks of a request beyond what the parser checks.

The parser takes a request of HTTP/0.9, one without Host, and any coding before `chunked`. A proxy
that reads such a message otherwise than we do sends one client's bytes as another's request, so
each is refused, and the connection is closed.
"""

from __future__ import annotations

import re

from starlette.types import Scope

from serve.http.problems import Problem, RequestError

__all__ = ["check_message"]

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
