"""serve: an artifact becomes an HTTP service. Never imports torch, nor any other folder of ours.

Whatever of ours a process imports, this comes first: what holds for every process is settled here.
`open_artifact` verifies an artifact, `preprocess` turns an image file into what its model sees,
`open_runner` computes logits. `running_server` starts a service for the time of a `with` block;
`classify` and `describe_model` ask one.
"""

import os
from pkgutil import resolve_name
from typing import Any

from serve.process.environment import settle_home, switch_reports_off

switch_reports_off(os.environ)
settle_home(os.environ)

_PUBLIC = {
    "Artifact": "serve.contract.artifact:Artifact",
    "PreprocessSpec": "serve.contract.spec:PreprocessSpec",
    "Runner": "serve.runners.base:Runner",
    "Settings": "serve.settings:Settings",
    "StillroomError": "serve.contract.errors:StillroomError",
    "classify": "serve.client:classify",
    "describe_model": "serve.client:describe_model",
    "open_artifact": "serve.contract.artifact:open_artifact",
    "open_runner": "serve.runners.open:open_runner",
    "preprocess": "serve.contract.preprocess:preprocess",
    "running_server": "serve.process.launch:running_server",
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve_name(_PUBLIC[name])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
