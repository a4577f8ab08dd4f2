"""`python -m loadtest.report FOLDER`: write report.html of a result again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.errors import LoadTestError
from loadtest.plan.arguments import OneLineParser
from loadtest.report.page import write_report
from loadtest.terminal import settle_terminal

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; returns the exit code, 0 or 2."""
    settle_terminal()
    parser = OneLineParser(
        prog="python -m loadtest.report", description="Write report.html of a load test again."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="with summary.json")
    try:
        path = write_report(parser.parse_args(arguments).folder)
    except LoadTestError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"written      {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
