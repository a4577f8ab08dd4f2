"""The bearer token of a guarded service, from the variables that the service itself reads."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from loadtest.errors import UsageError

__all__ = ["auth_header"]


@cache
def auth_header() -> dict[str, str]:
    """Authorization, where STILLROOM_TOKEN or STILLROOM_TOKEN_FILE is set; else nothing.

    Raises:
        UsageError: the file cannot be read.
    """
    token, file = os.environ.get("STILLROOM_TOKEN", ""), os.environ.get("STILLROOM_TOKEN_FILE", "")
    if file and not token:
        try:
            token = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            message = f"STILLROOM_TOKEN_FILE={file!r} cannot be read ({type(error).__name__})"
            raise UsageError(message, "name a file that holds the token") from None
    return {"Authorization": f"Bearer {token}"} if token else {}
