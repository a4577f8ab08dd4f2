"""One suite for every Runner. A new one joins by a line in RUNNERS, under its marker."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from serve.contract.artifact import Artifact, open_artifact
from serve.contract.errors import ArtifactError, EngineError, UsageError
from serve.contract.preprocess import preprocess
from serve.engines.cuda_memory import find_gpu
from serve.engines.library import find_engine_library
from serve.model.golden_check import load_golden
from serve.runners import onnxruntime_runner as session_runner
from serve.runners.base import Runner, largest_batch
from serve.runners.open import BACKENDS, open_runner

RUNNERS = [
    "onnxruntime-cpu",
    "fake tensorrt-fp32",  # our half of the runner; says nothing about TensorRT
    pytest.param("onnxruntime-cuda", marks=pytest.mark.gpu),
    pytest.param("tensorrt-fp32", marks=[pytest.mark.tensorrt, pytest.mark.gpu]),
]
SIDE = 32


@pytest.fixture(params=RUNNERS)
def runner(request, artifact_copy: Path) -> Iterator[Runner]:
    if request.param.startswith("fake"):
        request.getfixturevalue("fake_machine")
    elif request.param.startswith("tensorrt"):
        skip_without_tensorrt()
    backend = request.param.removeprefix("fake ")
    with open_runner(open_artifact(artifact_copy), backend=backend) as opened:
        yield opened


def skip_without_tensorrt() -> None:
    try:
        find_engine_library()
        find_gpu()
    except EngineError as error:
        pytest.skip(str(error))


def batch(count: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), np.uint8)


def test_logits_do_not_depend_on_batch_mates(runner: Runner) -> None:
    images = batch(8)
    together = runner.infer(images)
    alone = np.concatenate([runner.infer(image[None]) for image in images])
    assert together.dtype == np.float32
    assert together.shape == (8, 4)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_golden_images_are_answered_as_stored(runner: Runner, tiny_artifact: Path) -> None:
    artifact = open_artifact(tiny_artifact)
    for image in load_golden(artifact):
        pixels = preprocess(image.path.read_bytes(), artifact.preprocess)
        np.testing.assert_allclose(runner.infer(pixels[None])[0], image.logits, atol=1e-4)


def test_different_pictures_get_different_answers(runner: Runner) -> None:
    logits = runner.infer(np.stack([np.full((SIDE, SIDE, 3), v, np.uint8) for v in (0, 90, 255)]))
    assert abs(logits[0] - logits[1]).max() > 0.1
    assert abs(logits[1] - logits[2]).max() > 0.1


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (batch(2).astype(np.float32), "float32"),
        (batch(2, side=16), r"expected uint8 \(1\.\.8, 32, 32, 3\)"),
        (batch(1)[0], r"\(32, 32, 3\)"),
        (batch(9), "a batch of 9 images"),
        (batch(0), "a batch of 0 images"),
    ],
)
def test_a_wrong_batch_is_refused(runner: Runner, images: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        runner.infer(images)


def test_the_runner_says_what_it_is(runner: Runner) -> None:
    facts = runner.describe()
    assert runner.backend in BACKENDS
    assert facts["backend"] == runner.backend
    assert facts["threads"] == 1
    assert facts["reason"] == runner.reason
    assert facts["max_batch_size"] == runner.max_batch_size == 8
    name, version = facts["library"].split()
    assert version[0].isdigit()
    if runner.backend.startswith("onnxruntime"):
        assert facts["provider"].endswith("ExecutionProvider")
        assert name.startswith("onnxruntime")
    else:
        assert name.endswith(("tensorrt", "tensorrt_rtx"))
        assert facts["profile"] == [1, 8, 8]
        assert len(facts["plan_sha256"]) == 64


@pytest.fixture
def artifact(tiny_artifact: Path) -> Artifact:
    return open_artifact(tiny_artifact)


def test_a_session_does_not_keep_the_file_that_it_was_made_of(
    artifact: Artifact, monkeypatch
) -> None:
    freed = []

    class File(bytes):
        def __del__(self):
            freed.append(True)

    read = session_runner.model_bytes
    monkeypatch.setattr(session_runner, "model_bytes", lambda artifact: File(read(artifact)))
    with open_runner(artifact, backend="onnxruntime-cpu") as runner:
        assert freed
        assert runner.infer(batch(1)).shape == (1, 4)


def test_the_largest_batch_is_the_one_wanted_or_what_suits_the_backend(artifact: Artifact) -> None:
    for wanted, found in ((0, 4), (3, 3)):
        with open_runner(artifact, backend="onnxruntime-cpu", max_batch_size=wanted) as runner:
            assert runner.max_batch_size == found
    assert largest_batch("onnxruntime-cuda", 0) == largest_batch("tensorrt-fp16", 0) == 8


def test_auto_falls_back_to_the_cpu_and_says_why(artifact: Artifact, monkeypatch) -> None:
    monkeypatch.setattr(session_runner, "_available_providers", lambda: ["CPUExecutionProvider"])
    with open_runner(artifact) as runner:
        assert runner.backend == "onnxruntime-cpu"
        assert "no CUDA provider" in runner.reason
        assert "TensorRT" in runner.reason


def test_a_silent_fallback_is_noticed(artifact: Artifact, monkeypatch) -> None:
    """ONNX Runtime lists CUDA, takes the request, and runs on the CPU."""
    import onnxruntime

    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    session = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    with monkeypatch.context() as patch:
        patch.setattr(onnxruntime, "get_available_providers", lambda: both)
        patch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: session)
        with pytest.raises(UsageError, match="fell back to CPUExecutionProvider"):
            open_runner(artifact, backend="onnxruntime-cuda")
    real = onnxruntime.InferenceSession

    def like_onnxruntime(model, options, providers):
        return session if "CUDAExecutionProvider" in providers else real(model, options, providers)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    monkeypatch.setattr(onnxruntime, "InferenceSession", like_onnxruntime)
    monkeypatch.setattr(session_runner, "_available_providers", lambda: both)
    monkeypatch.setitem(session_runner.PROVIDERS, "onnxruntime-cpu", "CPUExecutionProvider")
    with open_runner(artifact) as runner:
        assert runner.backend == "onnxruntime-cpu"
        assert "fell back" in runner.reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "cuda"}, "backend = 'cuda': expected auto or one of tensorrt-fp16"),
        ({"threads": 0}, "threads = 0"),
        ({"max_batch_size": -1}, "max_batch_size = -1"),
    ],
)
def test_wrong_options_are_refused(artifact: Artifact, options, message) -> None:
    with pytest.raises(UsageError, match=message):
        open_runner(artifact, **options)


def test_a_missing_provider_is_refused(artifact: Artifact, monkeypatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UsageError, match=r"CUDAExecutionProvider does not work here.*\.\[gpu\]"):
        open_runner(artifact, backend="onnxruntime-cuda")


@pytest.mark.parametrize(
    ("labels", "side", "message"),
    [(3, 32, r"outputs .*\[3\].*4 labels"), (4, 16, r"inputs .*16.*\(N, 32, 32, 3\)")],
)
def test_a_graph_that_does_not_fit_is_refused(
    artifact_copy: Path, make_model, rewrite_manifest, labels: int, side: int, message: str
) -> None:
    (artifact_copy / "model.onnx").write_bytes(make_model(0, side, labels))
    rewrite_manifest(artifact_copy)
    with pytest.raises(ArtifactError, match=message):
        open_runner(open_artifact(artifact_copy))


def test_what_is_no_onnx_is_refused(artifact_copy: Path, rewrite_manifest) -> None:
    (artifact_copy / "model.onnx").write_bytes(b"not a graph")
    rewrite_manifest(artifact_copy)
    with pytest.raises(ArtifactError, match="cannot load"):
        open_runner(open_artifact(artifact_copy))


def test_a_file_that_changed_after_it_was_verified_is_refused(artifact_copy: Path) -> None:
    artifact = open_artifact(artifact_copy)
    (artifact_copy / "model.onnx").write_bytes(b"other")
    with pytest.raises(ArtifactError, match="changed after it was verified"):
        open_runner(artifact)


@pytest.mark.parametrize(
    ("installed", "message"),
    [
        (set(), 'not installed.*uv sync --extra cpu.*pip install "\\.\\[cpu\\]"'),
        ({"onnxruntime", "onnxruntime-gpu"}, "overwrite one another.*Uninstall both"),
    ],
)
def test_none_or_two_onnxruntimes_are_refused(monkeypatch, installed, message) -> None:
    def version(name: str) -> str:
        if name in installed:
            return "1.0"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(UsageError, match=message):
        session_runner.installed_onnxruntime()
