"""Request log: one line of JSON per request on stdout, and nothing else per request."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

__all__ = ["fault_line", "log_request", "start_request_log"]

MAX_PATH = 200  # a path is a stranger's text


def start_request_log() -> None:
    """Leave the log of requests to these lines: libraries say nothing more about one."""
    # They warn of every malformed body and request; ours names the problem.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


def log_request(
    *,
    method: str,
    path: str,
    status: int,
    started_at: float,
    request_id: str,
    error: str,
    fault: str,
) -> None:
    """Write the line, straight to stdout: the machinery of `logging` costs more than the line.

    Args:
        method: HTTP method.
        path: of the request; cut after 200 characters.
        status: as answered; 499 when the client had gone.
        started_at: `time.perf_counter()` at the first byte.
        request_id: as in the answer.
        error: slug of the problem, or empty.
        fault: exception and place of a 500, for the operator only; or empty.
    """
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "method": method[:16],
        "path": path[:MAX_PATH],
        "status": status,
        "ms": round((time.perf_counter() - started_at) * 1e3, 2),
        "id": request_id,
    }
    if error:
        line["error"] = error
    if fault:
        line["fault"] = fault
    with suppress(OSError, ValueError):  # a reader that went away is no request's fault
        sys.stdout.write(json.dumps(line, ensure_ascii=True) + "\n")
        sys.stdout.flush()


def fault_line(error: BaseException) -> str:
    """An unexpected exception in one line: type, message, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{where}"[:500]
