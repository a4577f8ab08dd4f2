"""`python -m loadtest.promise URL --slo p99=50ms`: the rate that a service may promise."""

from __future__ import annotations

import sys

from loadtest.max_rate.command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
