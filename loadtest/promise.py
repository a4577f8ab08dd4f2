"""`python -m loadtest.promise URL --slo p99=50ms`: the max rate of a service."""

from __future__ import annotations

import sys

from loadtest.max_rate.command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
