"""`stillroom export --tensorrt`: engines for the GPU that is here, checked; or for others, not run.

Engines are a cache beside an artifact, in its folder engines/: no digest of a run covers them. The
server looks there under the key of its own machine, and builds what it does not find.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serve.contract.artifact import Artifact, open_artifact
from serve.contract.digest import canonical_json, sha256_of_bytes
from serve.contract.errors import ArtifactError, EngineError, GateError
from serve.engines.build import BuiltEngine, Profile, build_engine
from serve.engines.cache import FOLDER, CachedEngine, EngineCache
from serve.engines.cuda_memory import Gpu, find_gpu
from serve.engines.library import find_engine_library
from serve.engines.tensorrt_runner import TensorRTRunner, engine_key, open_tensorrt_runner
from serve.model.golden_check import replay_golden
from serve.runners.base import Runner, largest_batch, model_bytes
from serve.settings import settings_from_env
from stillroom.command_text import command_text
from stillroom.console import show
from stillroom.run.artifacts import artifacts_of
from stillroom.run.folder import RunFolder
from train.data.source import open_source, origin_of, root_of

if TYPE_CHECKING:
    from export.parity.verdict import Verdict

__all__ = ["build_engines"]

GPUS = ("sm86", "sm89", "sm120")  # built for where none is named and none is here
FOR_ONNXRUNTIME = "artifact-int8"  # its biases are quantised, which TensorRT refuses


def build_engines(target: Path, gpus: Sequence[str]) -> None:
    """Build engines of every precision that was exported; print what was built, and what was run.

    Args:
        target: an artifact, or a run folder with one or more.
        gpus: names such as "sm86" to build for without running; empty takes the GPU that is here,
            and where there is none, GPUS.

    Raises:
        EngineError: TensorRT is missing, or refuses a model or a GPU.
        GateError: an engine on the GPU that is here answers otherwise than the model.
        ArtifactError: no artifact, or it is damaged.
    """
    artifacts = [open_artifact(folder) for folder in _buildable(target)]
    max_batch = _max_batch()
    if not gpus:
        try:
            find_gpu()
        except EngineError as error:
            show(f"No engine is run here: {error.message}")
        else:
            for artifact in artifacts:
                _check_here(target, artifact, max_batch)
            return
    for artifact in artifacts:
        _build_ahead(artifact, gpus or GPUS, max_batch)
    show(
        "These engines were built and never run: whether they answer as the model does, and how "
        f"fast, shows on a machine with such a GPU: {command_text('export', target, '--tensorrt')}"
    )


def _build_ahead(artifact: Artifact, gpus: Sequence[str], max_batch: int) -> None:
    library = find_engine_library(ahead_of_time=True)
    onnx, profile = model_bytes(artifact), Profile.up_to(max_batch)
    cache = EngineCache(artifact.root / FOLDER)
    for name in gpus:
        library.require_gpu(name)
    for name in dict.fromkeys(gpus):
        key = engine_key(
            library, Gpu.of_sm(name), sha256_of_bytes(onnx), artifact.precision, profile
        )

        def build(timing_cache: bytes, gpu: str = name) -> BuiltEngine:
            return build_engine(library, onnx, profile, gpu=gpu, timing_cache=timing_cache)

        start = time.perf_counter()
        engine = cache.obtain(key, build)
        seconds = time.perf_counter() - start
        how = "found" if engine.origin == "cache" else f"built in {seconds:.1f} s"
        show(
            f"{artifact.root.name}/{FOLDER}/{key.file_name}: {name}, {artifact.precision}, batches "
            f"1 to {max_batch}, {len(engine.plan) / 2**20:.1f} MiB, {library.version}, {how}"
        )
        _require_kept(cache, engine, artifact)


def _require_kept(cache: EngineCache, engine: CachedEngine, artifact: Artifact) -> None:
    """A server can do without the file; whoever asked for it cannot."""
    try:
        cache.load(engine.key)
    except EngineError as error:
        raise EngineError(
            f"{artifact.root / FOLDER}: {engine.note}.", "Check its rights and the space."
        ) from error


def _check_here(target: Path, artifact: Artifact, max_batch: int) -> None:
    """Open the very runner that would serve, and compare its answers with the stored ones."""
    backend = f"tensorrt-{artifact.precision}"
    with open_tensorrt_runner(artifact, backend=backend, max_batch_size=max_batch) as runner:
        facts = runner.describe()
        with _removed_if_wrong(artifact, runner):
            golden = replay_golden(artifact, runner)
        verdict = _judge(target, artifact, runner)
    plan = f"{artifact.root.name}/{FOLDER}/{facts['plan']}"
    show(f"{plan}: {backend} on {facts['gpu']}, {facts['library']}, {facts['plan_origin']}")
    show(
        f"  golden images: {golden.images} answered, largest logit difference "
        f"{golden.max_logit_diff:.1e} (allowed {golden.atol:.1e})"
    )
    if verdict is None:
        show(f"  parity: not judged, for {target} is not a run with images")
        return
    show(f"  parity {verdict.status}: {'; '.join(verdict.reasons) or _summary(verdict)}")
    report = {"runner": facts, "golden": golden.to_dict(), **verdict.to_dict()}
    path = artifact.root / FOLDER / f"{facts['plan']}.parity.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(canonical_json(report))
    from export.parity.verdict import require_pass

    with _removed_if_wrong(artifact, runner):
        require_pass(verdict, what=f"{backend} {artifact.name}")


def _judge(target: Path, artifact: Artifact, runner: Runner) -> Verdict | None:
    """Parity on the images that the artifact was judged on; None where target is not a run."""
    run = RunFolder(target)
    record = run.record()
    if not record:
        return None
    # Judging needs the training packages; a server that checks an artifact alone has none.
    from export.parity.predictions import outputs_of
    from stillroom.parity.stored_reference import compare_runner, stored_reference
    from train.data.images import read_index
    from train.evaluation import Predictions
    from train.loader.views import pixels_of

    stored = stored_reference(artifact)
    index = read_index(run.stage("data") / "index.csv")
    photos = [photo for photo in index if photo.sha256 in stored]
    logits = np.stack([stored[photo.sha256] for photo in photos])
    origin = origin_of(record["photos"])
    root = root_of(origin) if isinstance(origin, Path) else open_source(origin).root
    reference = outputs_of(Predictions(photos, artifact.labels, logits))
    return compare_runner(artifact, runner, reference, pixels_of(root, photos, artifact.preprocess))


@contextmanager
def _removed_if_wrong(artifact: Artifact, runner: TensorRTRunner) -> Iterator[None]:
    try:
        yield
    except (ArtifactError, GateError) as error:
        EngineCache(artifact.root / FOLDER).drop(runner.key)
        raise GateError(
            error.message,
            "The engine was removed. Serve with STILLROOM_BACKEND=onnxruntime-cuda or "
            "onnxruntime-cpu.",
        ) from error


def _summary(verdict: Verdict) -> str:
    agree = verdict.images - len(verdict.flips)
    return (
        f"{agree} of {verdict.images} predictions agree (at least {verdict.agreement_low:.2%}), "
        f"SNR {verdict.snr_db:.0f} dB, largest difference {verdict.max_abs_diff:.1e}"
    )


def _buildable(target: Path) -> Iterator[Path]:
    for folder in artifacts_of(target):
        if folder.name == FOR_ONNXRUNTIME:
            show(f"{folder.name}: made for ONNX Runtime, no engine is built of it")
        else:
            yield folder


def _max_batch() -> int:
    """A plan is for the batches of the server that will use it."""
    settings = settings_from_env({**os.environ, "STILLROOM_ARTIFACT": "."})
    return largest_batch("tensorrt", settings.max_batch)
