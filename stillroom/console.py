"""What commands print: results on standard output, errors on standard error, as plain text.

Progress and notes are logged instead (`train.engine.progress`), so that -q hides them.
"""

from __future__ import annotations

import sys

__all__ = ["show", "show_error"]


def show(text: str) -> None:
    """Print lines of a result."""
    sys.stdout.write(f"{text}\n")


def show_error(text: str) -> None:
    """Print lines about what went wrong, at once."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
