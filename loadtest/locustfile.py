"""For those who know Locust: the closed-loop client without our report.

    STILLROOM_CORPUS=images locust -f loadtest/locustfile.py --host http://127.0.0.1:3000 \
        --headless -u 8 -t 30s

Without `--headless`, add `--web-host 127.0.0.1`: Locust's page asks for no password and listens on
every network otherwise. Its users wait for their replies, so its percentiles hide queueing; quote
those of `python -m loadtest`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from loadtest.console import print_error
from loadtest.errors import CorpusError
from loadtest.generator.users import ClosedLoopUser
from loadtest.plan.corpus import load_corpus

VARIABLE = "STILLROOM_CORPUS"

try:
    if not os.environ.get(VARIABLE):
        raise CorpusError(f"{VARIABLE} is not set", f"try {VARIABLE}=images locust -f ...")
    IMAGES = load_corpus(Path(os.environ[VARIABLE]))
except CorpusError as error:
    print_error(error)
    sys.exit(error.exit_code)  # raised on, it would be a traceback of Locust


class ImageClient(ClosedLoopUser):
    """Classifies random images of the corpus without pause."""

    images = IMAGES
