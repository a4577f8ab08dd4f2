"""Quiet: no library below may report to its maker what runs here.

`serve/__init__.py` calls it before anything else is imported, and every other package of ours
imports that first, so that commands, workers and child processes are all covered by this table.
"""

from __future__ import annotations

import sys
from collections.abc import MutableMapping

__all__ = ["SWITCHES", "switch_reports_off"]

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime from 1.29 on: a device id, events and a look-up
    "BENTOML_DO_NOT_TRACK": "True",
    "HF_HUB_DISABLE_TELEMETRY": "1",  # what timm fetches weights with
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",  # donottrack.sh, for those that come later
}


def switch_reports_off(environ: MutableMapping[str, str]) -> None:
    """Set the variables, over any that would turn reports on.

    Spans and curves that a user asks for go where the user says; they are no reports.
    """
    environ.update(SWITCHES)
    asked = sys.modules.get("bentoml._internal.utils.analytics.usage_stats")
    if asked is not None:  # `bentoml serve` has looked already, and keeps what it saw
        asked.do_not_track.cache_clear()
