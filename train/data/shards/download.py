"""Download: the bytes of a URL in blocks, or in a few words why they do not come.

Redirects, the proxies of the environment, a name and a password in the address, and the system's
certificates count as they do for other clients.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator

import httpx

__all__ = ["blocks_of"]

BUSY = frozenset({408, 429, 500, 502, 503, 504})  # statuses that say "try later"
ASKED = 30  # times that a busy server is asked
PAUSE_S = 2.0  # between two of them, unless it says how long
LONGEST_PAUSE_S = 60.0
TIMEOUT = httpx.Timeout(60.0, connect=30.0)  # of silence; a long download may take its time


def blocks_of(url: str, size: int) -> Iterator[bytes]:
    """The bytes of a URL, as the server stores them.

    Args:
        url: http:// or https://.
        size: of a block, bytes; the last may be shorter.

    Raises:
        ConnectionError: it cannot be had, or broke off.
    """
    try:
        with httpx.Client(
            timeout=TIMEOUT,
            follow_redirects=True,
            verify=_trust(),
            headers={"accept-encoding": "identity"},
        ) as client:
            for turn in range(1, ASKED + 1):
                with client.stream("GET", url) as response:
                    if response.status_code in BUSY and turn < ASKED:
                        pause_s = _pause_s(response)
                    elif response.is_success:
                        yield from response.iter_raw(size)
                        return
                    else:
                        words = f"{response.status_code} {response.reason_phrase}".rstrip()
                        raise ConnectionError(f"the server refuses it ({words})")
                time.sleep(pause_s)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConnectionError(_words_for(error)) from error


def _trust() -> ssl.SSLContext:
    """The system's certificates, a company's own too, and those that come with httpx."""
    trust = httpx.create_ssl_context()
    trust.load_default_certs()
    return trust


def _pause_s(response: httpx.Response) -> float:
    asked = response.headers.get("retry-after", "")
    return min(float(asked), LONGEST_PAUSE_S) if asked.isdecimal() else PAUSE_S


def _words_for(error: Exception) -> str:
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    kinds: tuple[tuple[type[BaseException], str], ...] = (
        (httpx.TimeoutException, "it takes too long"),
        (socket.gaierror, "the host is not known"),
        (ssl.SSLCertVerificationError, "the certificate is not trusted"),
        (ssl.SSLError, "no secure connection"),
        (httpx.ConnectError, "nobody answers there"),
        (httpx.RemoteProtocolError, "the transfer broke off"),
        (httpx.NetworkError, "the connection broke off"),
    )
    for kind, words in kinds:
        if any(isinstance(one, kind) for one in causes):
            return words
    return str(error).rstrip(".") or type(error).__name__
