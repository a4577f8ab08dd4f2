"""Log of the service's own messages: each is one plain line on stderr.

BentoML sets up the logging of each of its processes, in a form of its own, and switches off the
loggers that were there before.
"""

from __future__ import annotations

import logging

__all__ = ["log_to_stderr"]

PACKAGE = "serve"


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """The message; `error: ` or `warning: ` before what is more than information."""
        text = record.getMessage()
        return text if record.levelno <= logging.INFO else f"{record.levelname.lower()}: {text}"


def log_to_stderr() -> None:
    """Write what our modules log, and nothing else, to stderr; in the processes of a service."""
    package = logging.getLogger(PACKAGE)
    if not any(isinstance(handler.formatter, _Line) for handler in package.handlers):
        handler = logging.StreamHandler()
        handler.setFormatter(_Line())
        package.addHandler(handler)
    package.propagate = False
    package.setLevel(logging.INFO)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(f"{PACKAGE}."):
            logging.getLogger(name).disabled = False
