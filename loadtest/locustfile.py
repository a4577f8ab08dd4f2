"""For people who know Locust: the closed-loop client without our report.

    STILLROOM_CORPUS=photos locust -f loadtest/locustfile.py --host http://127.0.0.1:3000 \
        --headless -u 8 -t 30s

Without `--headless`, add `--web-host 127.0.0.1`: Locust's page asks for no password and listens on
every network otherwise. Its users wait for their replies, so its percentiles hide queueing; quote
those of `python -m loadtest`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from loadtest.errors import CorpusError
from loadtest.generator.users import ClosedLoopUser
from loadtest.plan.corpus import load_corpus

VARIABLE = "STILLROOM_CORPUS"

try:
    if not os.environ.get(VARIABLE):
        raise CorpusError(f"{VARIABLE} is not set", f"try {VARIABLE}=photos locust -f ...")
    PHOTOS = load_corpus(Path(os.environ[VARIABLE]))
except CorpusError as error:
    sys.stderr.write(f"error: {error}\n")
    sys.exit(error.exit_code)  # raised on, it would be a traceback of Locust


class PhotoClient(ClosedLoopUser):
    """Classifies random photos of the corpus without pause."""

    photos = PHOTOS
