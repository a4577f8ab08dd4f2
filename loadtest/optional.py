"""The optional parts of a load test, by name: loaded when one is asked for.

The core imports nothing of `loadtest.extras` but through this table.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

__all__ = ["OPTIONAL", "load_optional"]

OPTIONAL = {
    "workers": "loadtest.extras.distributed.master:run_fleet",  # --workers, --bind, --doubling
    "service_watch": "loadtest.extras.host_monitor.service_watch:ServiceWatch",  # --service-pid
    "gpu_watch": "loadtest.extras.host_monitor.gpu_watch:watched_gpus",  # --service-pid
    "saturate": "loadtest.extras.scaling.saturation:saturate",  # --scenario saturation
    "describe_saturation": "loadtest.extras.scaling.saturation:describe_saturation",
    "junit": "loadtest.extras.junit:JunitFile",  # --junit
}


def load_optional(name: str) -> Any:
    """The function or class of an optional part.

    Args:
        name: a key of OPTIONAL.
    """
    return resolve_name(OPTIONAL[name])
