"""Allotment: how many workers BentoML starts, on how many GPUs, and which worker takes which GPU.

BentoML shows all workers of a service the same GPUs, in CUDA_VISIBLE_DEVICES, and libraries take
the first of those. So each worker keeps one, in turns: six workers on two GPUs are three on each.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from typing import Any

from bentoml import server_context

from serve.contract.errors import UsageError
from serve.settings import settings_from_env

__all__ = ["keep_one_gpu", "service_options"]

VISIBLE = "CUDA_VISIBLE_DEVICES"


def service_options(environ: Mapping[str, str]) -> dict[str, Any]:
    """`workers` and `resources` of the BentoML service, by STILLROOM_WORKERS and STILLROOM_GPUS.

    Wrong settings give one worker, which is never started: the service refuses them in one line
    before its workers, where an error at import would be a traceback.
    """
    try:
        settings = settings_from_env({"STILLROOM_ARTIFACT": ".", **environ})
    except UsageError:
        return {"workers": 1}
    options: dict[str, Any] = {"workers": settings.workers}
    if settings.gpus:
        options["resources"] = {"gpu": settings.gpus}
    return options


def keep_one_gpu(environ: MutableMapping[str, str] = os.environ, worker: int | None = None) -> None:
    """Leave this process one of the GPUs that it sees. Call it before a CUDA library is loaded.

    Args:
        environ: where CUDA_VISIBLE_DEVICES is; without it nothing happens.
        worker: number from 1; BentoML's when None.
    """
    names = [name for name in environ.get(VISIBLE, "").split(",") if name.strip()]
    number = server_context.worker_index if worker is None else worker
    if len(names) > 1:
        environ[VISIBLE] = names[(max(number, 1) - 1) % len(names)].strip()
