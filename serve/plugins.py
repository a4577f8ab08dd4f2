"""Plugins: the optional parts of the service, by name; imported only where a setting asks for one.

Nothing else in the core names their modules (`tests/serve/test_core.py`). Runners have a table of
their own, `serve.runners.open`.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

__all__ = ["PLUGINS", "load_plugin"]

PLUGINS = {
    # STILLROOM_CONTROL, which `stillroom serve` sets, or STILLROOM_WATCH_S
    "hot_reload": "serve.process.hot_reload.reloadable_model:ReloadableModel",
    "control_folder": "serve.process.hot_reload.admin:make_control_folder",
    "artifact_copies": "serve.process.hot_reload.artifact_copies:copies_of",
    # STILLROOM_OIP, STILLROOM_DRIFT and STILLROOM_TRACING
    "oip_v2": "serve.http.oip_v2.routes:OIP_V2",
    "drift": "serve.telemetry.drift:Drift",
    "tracing": "serve.telemetry.tracing:traced",
}


def load_plugin(name: str) -> Any:
    """What PLUGINS names; its module is imported now.

    Raises:
        KeyError: PLUGINS has no such name.
    """
    return resolve_name(PLUGINS[name])
