"""`python -m loadtest.report FOLDER`: write report.html of a result again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.console import print_error, print_result
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
        print_error(error)
        return error.exit_code
    print_result(f"written      {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
