"""Opening a runner: the table of runners, and the choice of the fastest that works here.

    with open_runner(open_artifact(Path("runs/flowers"))) as runner:
        logits = runner.infer(pixels)
        print(runner.backend, "because", runner.reason)

A new runner is a file with a function like `open_session_runner`, and a row in RUNNERS.
"""

from __future__ import annotations

from importlib.util import find_spec
from pkgutil import resolve_name
from typing import NamedTuple

from serve.contract.artifact import Artifact
from serve.contract.errors import ArtifactError, UsageError
from serve.runners.base import Runner

__all__ = ["BACKENDS", "RUNNERS", "RunnerRow", "open_runner"]


class RunnerRow(NamedTuple):
    """A library that runs models.

    Args:
        name: for people.
        backends: that it has, fastest first.
        opener: "module:function". The function takes what `open_runner` takes, and `why_not`: why
            no faster backend was taken, for "auto". It raises UsageError where its backends do not
            work on this machine, ArtifactError for a model that no backend may serve.
        packages: of which one must be installed; without any, "auto" does not import the module.
    """

    name: str
    backends: tuple[str, ...]
    opener: str
    packages: tuple[str, ...] = ()


# Fastest first. TensorRT's networks are strongly typed, so the artifact's precision says which of
# the three it runs as.
RUNNERS = [
    RunnerRow(
        "TensorRT",
        ("tensorrt-fp16", "tensorrt-int8", "tensorrt-fp32"),
        "serve.engines.tensorrt_runner:open_tensorrt_runner",
        ("tensorrt", "tensorrt_rtx"),
    ),
    RunnerRow(
        "ONNX Runtime",
        ("onnxruntime-cuda", "onnxruntime-cpu"),
        "serve.runners.onnxruntime_runner:open_session_runner",
    ),
]
BACKENDS = tuple(backend for row in RUNNERS for backend in row.backends)


def open_runner(
    artifact: Artifact, *, backend: str = "auto", threads: int = 1, max_batch_size: int = 8
) -> Runner:
    """Load the artifact's model on the fastest backend that works here, or on a named one.

    Args:
        artifact: from `open_artifact`.
        backend: "auto" tries all in the order of RUNNERS; the name of one is taken or refused.
        threads: CPU threads inside one inference.
        max_batch_size: largest batch the caller will send; 0 takes what suits the backend.

    Raises:
        UsageError: unknown backend, or a named one that does not work on this machine.
        ArtifactError: the model does not fit the artifact's labels or preprocess spec.
    """
    rows = [row for row in RUNNERS if backend == "auto" or backend in row.backends]
    if not rows:
        known = ", ".join(name for row in RUNNERS for name in row.backends)
        raise UsageError(
            f"backend = {backend!r}: expected auto or one of {known}.",
            "Leave it at auto to take the fastest that works.",
        )
    if threads < 1 or max_batch_size < 0:
        raise UsageError(
            f"threads = {threads}, max_batch_size = {max_batch_size}: at least 1 and 0 are needed."
        )
    reasons: list[str] = []
    *faster, last = rows
    for row in faster:
        if row.packages and not any(map(find_spec, row.packages)):
            reasons.append(f"no {row.name} ({row.name} is not installed)")
            continue
        try:
            return _opened(row, artifact, backend, threads, max_batch_size, reasons)
        except ArtifactError:
            raise
        except UsageError as error:
            reasons.append(f"no {row.name} ({error.message.rstrip('.')})")
    return _opened(last, artifact, backend, threads, max_batch_size, reasons)


def _opened(
    row: RunnerRow,
    artifact: Artifact,
    backend: str,
    threads: int,
    max_batch_size: int,
    reasons: list[str],
) -> Runner:
    runner: Runner = resolve_name(row.opener)(
        artifact,
        backend=backend,
        threads=threads,
        max_batch_size=max_batch_size,
        why_not="; ".join(reasons),
    )
    return runner
