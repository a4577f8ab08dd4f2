"""`python -m loadtest.compare A B`: two results of load tests against one another."""

from __future__ import annotations

import sys

from loadtest.extras.compare.command import differing_fields, main

__all__ = ["differing_fields", "main"]

if __name__ == "__main__":
    sys.exit(main())
