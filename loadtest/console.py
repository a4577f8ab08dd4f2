"""What the commands of the load test print; used as a library it prints nothing.

Results go to standard output. What is being done goes to the loggers of `loadtest.*`, which a
command shows on standard error; so do errors, always.
"""

from __future__ import annotations

import logging
import sys
from argparse import ArgumentParser, Namespace
from typing import TextIO

__all__ = ["add_verbosity", "open_console", "print_error", "print_result", "progress_stream"]

PACKAGE = "loadtest"


def add_verbosity(parser: ArgumentParser) -> None:
    """The options -q and -v of a command."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-q", "--quiet", action="store_true", help="results and errors alone")
    group.add_argument("-v", "--verbose", action="store_true", help="also what Locust says")


def open_console(options: Namespace) -> None:
    """Show on standard error what is being done, as the options of `add_verbosity` say."""
    shown = [PACKAGE, "locust"] if options.verbose else [] if options.quiet else [PACKAGE]
    for name in (PACKAGE, "locust"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.StreamHandler(sys.stderr)] if name in shown else []
        logger.setLevel(logging.INFO if name in shown else logging.NOTSET)
        logger.propagate = name not in shown


def progress_stream() -> TextIO | None:
    """Standard error for a line that is rewritten; None where nobody is to see it."""
    return sys.stderr if logging.getLogger(PACKAGE).handlers else None


def print_result(text: str) -> None:
    """Print what a command was called for."""
    sys.stdout.write(f"{text}\n")


def print_error(error: object) -> None:
    """Print why a command ends."""
    sys.stderr.write(f"error: {error}\n")
