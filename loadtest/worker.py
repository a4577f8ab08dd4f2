"""`python -m loadtest.worker HOST:PORT --corpus IMAGES`: one generator of a split load."""

from __future__ import annotations

import sys

from loadtest.extras.distributed.worker import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
