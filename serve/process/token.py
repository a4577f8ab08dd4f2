"""Bearer: the token of a guarded service, from a variable or from a file that a platform mounts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from serve.contract.errors import UsageError

__all__ = ["authorization", "check_token_text", "exposure", "token_of"]

VARIABLE, FILE_VARIABLE = "STILLROOM_TOKEN", "STILLROOM_TOKEN_FILE"


def token_of(text: str, file: str) -> str:
    """The token.

    Args:
        text: the token itself; or empty.
        file: path of a file that holds nothing else; or empty.

    Returns:
        The token, without the line's end; empty when neither is given.

    Raises:
        UsageError: both are given; the file cannot be read or is empty; no header can carry it.
    """
    if text and file:
        raise UsageError(f"{VARIABLE} and {FILE_VARIABLE} are both set.", "Unset one of them.")
    if not file:
        return check_token_text(text, VARIABLE)
    try:
        found = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{FILE_VARIABLE}={file!r} cannot be read ({type(error).__name__}).",
            "Name a file that holds the token and nothing else.",
        ) from None
    if not found:
        raise UsageError(f"{FILE_VARIABLE}={file!r} is empty.", "Make one: openssl rand -hex 32")
    return check_token_text(found, FILE_VARIABLE)


def check_token_text(token: str, source: str) -> str:
    """The token as it is.

    Raises:
        UsageError: a header cannot carry it.
    """
    if token.isascii() and token.isprintable() and " " not in token:
        return token
    raise UsageError(
        f"{source} holds a blank or another character that a header cannot carry.",
        "Make one: openssl rand -hex 32",
    )


def authorization(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The header that a client sends to a guarded service; none where no token is set.

    Raises:
        UsageError: as `token_of`.
    """
    token = token_of(environ.get(VARIABLE, ""), environ.get(FILE_VARIABLE, ""))
    return {"authorization": f"Bearer {token}"} if token else {}


def exposure(address: str, *, guarded: bool) -> str:
    """What to say of a service that strangers can reach; nothing of another.

    Args:
        address: IP address that it listens on.
        guarded: whether it asks for a token.
    """
    if guarded or ip_address(address).is_loopback:
        return ""
    return (
        f"warning: {address} can be reached from other machines, and whoever reaches it is "
        "answered. Set STILLROOM_TOKEN, keep it behind a proxy that asks for one, or listen on "
        "this machine alone: --host 127.0.0.1"
    )
