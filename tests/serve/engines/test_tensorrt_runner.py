"""The TensorRT runner on stand-ins of TensorRT and CUDA; the contract is in test_runner.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from serve.contract.artifact import Artifact, open_artifact
from serve.contract.errors import ArtifactError, EngineError
from serve.contract.manifest import write_manifest
from serve.engines import cuda_memory, tensorrt_runner
from serve.engines.library import find_engine_library
from serve.model.served_model import open_served_model
from serve.runners.open import open_runner
from serve.settings import Settings
from tests.serve import fake_tensorrt
from tests.serve.fake_tensorrt import FAKE_GPU, FakeMachine

BACKEND = "tensorrt-fp32"
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)


@pytest.fixture
def artifact(artifact_copy: Path) -> Artifact:
    return open_artifact(artifact_copy)


def plans(artifact: Artifact) -> list[Path]:
    return sorted((artifact.root / "engines").glob("*.plan"))


def test_auto_takes_tensorrt_first(artifact: Artifact, fake_machine: FakeMachine) -> None:
    with open_runner(artifact) as runner:
        assert runner.backend == BACKEND
        assert runner.reason == "auto: the fastest that works here"


def test_a_run_on_the_fake_says_so(artifact: Artifact, fake_machine: FakeMachine) -> None:
    with open_runner(artifact) as runner:
        facts = runner.describe()
    assert facts["library"] == "fake_tensorrt 0.0.0"
    assert facts["gpu"] == FAKE_GPU
    assert "fake" in facts["gpu"]
    assert plans(artifact)[0].read_bytes().startswith(b"NOT A TENSORRT PLAN")


def test_no_plan_of_the_fake_is_found_by_a_real_library(
    artifact: Artifact, fake_machine: FakeMachine
) -> None:
    """The key holds library, version and GPU."""
    with open_runner(artifact):
        (entry,) = (artifact.root / "engines").glob("*.plan.json")
    key = json.loads(entry.read_bytes())["key"]
    assert key["tensorrt_version"] == "fake_tensorrt 0.0.0"
    assert key["gpu_name"] == FAKE_GPU


def test_everything_is_given_back(artifact: Artifact, fake_machine: FakeMachine) -> None:
    with open_runner(artifact, backend=BACKEND) as runner:
        first = runner.infer(IMAGES)
        second = runner.infer(IMAGES[::-1])
        assert not fake_machine.cuda.is_clean
    assert fake_machine.cuda.is_clean
    np.testing.assert_array_equal(first, second[::-1])  # its own memory, also after the runner's
    with pytest.raises(ValueError, match="closed"):
        runner.infer(IMAGES)


def test_closing_twice_is_harmless(artifact: Artifact, fake_machine: FakeMachine) -> None:
    runner = open_runner(artifact, backend=BACKEND)
    for _ in range(2):
        runner.__exit__(None, None, None)
    assert fake_machine.cuda.is_clean


def test_too_little_memory_leaves_nothing_behind(
    artifact: Artifact, fake_machine: FakeMachine
) -> None:
    fake_machine.cuda.memory_bytes = 2 * IMAGES.nbytes + 100  # the images fit, the logits do not
    with pytest.raises(EngineError, match="cudaErrorMemoryAllocation"):
        open_runner(artifact, backend=BACKEND)
    assert fake_machine.cuda.is_clean


def test_strided_images_are_taken(artifact: Artifact, fake_machine: FakeMachine) -> None:
    with open_runner(artifact, backend=BACKEND) as runner:
        flipped = IMAGES[:, :, ::-1]
        expected = runner.infer(np.ascontiguousarray(flipped))
        np.testing.assert_array_equal(runner.infer(flipped), expected)


def test_a_batch_outside_the_profile_is_refused_with_its_bounds(
    artifact: Artifact, fake_machine: FakeMachine
) -> None:
    with (
        open_runner(artifact, backend=BACKEND, max_batch_size=3) as runner,
        pytest.raises(ValueError, match=r"a batch of 4 images; expected uint8 \(1\.\.3, "),
    ):
        runner.infer(IMAGES[:4])


def test_a_gpu_that_fails_is_an_error(artifact: Artifact, fake_machine: FakeMachine) -> None:
    with open_runner(artifact, backend=BACKEND) as runner:
        fake_machine.trt.wrong = "execute"
        with pytest.raises(EngineError, match="cannot run: nothing was enqueued"):
            runner.infer(IMAGES)
        fake_machine.trt.wrong, fake_machine.cuda.fails = "", True
        with pytest.raises(EngineError, match="cudaStreamSynchronize says cudaErrorIllegalAdd"):
            runner.infer(IMAGES)


def test_the_second_start_finds_the_plan(artifact: Artifact, fake_machine: FakeMachine) -> None:
    with open_runner(artifact) as runner:
        assert runner.describe()["plan_origin"] == "built"
    with open_runner(artifact) as runner:
        facts = runner.describe()
    assert (facts["plan_origin"], facts["plan_note"]) == ("cache", "")
    assert fake_machine.trt.builds == 1


def test_plans_do_not_change_the_artifact(artifact: Artifact, fake_machine: FakeMachine) -> None:
    with open_runner(artifact):
        pass
    assert open_artifact(artifact.root).digest == artifact.digest
    kept = {k: v for k, v in artifact.manifest.items() if k not in ("digest", "files")}
    assert write_manifest(artifact.root, kept)["files"] == artifact.manifest["files"]


@pytest.mark.parametrize(
    "other",
    [
        {"name": "Another GPU", "capability": "8.6"},
        {"capability": "8.9"},
        {"version": "0.0.1"},
        {"ahead_of_time": True},
    ],
)
def test_the_plan_of_another_machine_is_not_loaded(
    artifact: Artifact, fake_machine: FakeMachine, other: dict
) -> None:
    with open_runner(artifact) as runner:
        first = runner.infer(IMAGES)
    fake_machine.use(**other)
    with open_runner(artifact, backend=BACKEND) as runner:
        assert runner.describe()["plan_origin"] == "built"
        assert f"only for {FAKE_GPU} (8.6), fake_tensorrt 0.0.0" in runner.describe()["plan_note"]
        np.testing.assert_array_equal(runner.infer(IMAGES), first)
    assert len(plans(artifact)) == 2


def test_tensorrt_rtx_takes_a_plan_for_its_capability_whatever_the_card_is_called(
    artifact: Artifact, fake_machine: FakeMachine
) -> None:
    fake_machine.use(ahead_of_time=True, name="one")
    with open_runner(artifact, backend=BACKEND):
        pass
    fake_machine.use(ahead_of_time=True, name="two")
    with open_runner(artifact, backend=BACKEND) as runner:
        assert runner.describe()["plan_origin"] == "cache"
        assert runner.describe()["gpu"] == "two"


def test_a_kept_plan_that_tensorrt_refuses_is_built_again(
    artifact: Artifact, fake_machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Digest and key are right, and yet: after another driver was installed, say."""
    with open_runner(artifact):
        pass
    real, calls = fake_tensorrt.Runtime.deserialize_cuda_engine, []

    def refuse_the_first(runtime, plan):
        calls.append(plan)
        return real(runtime, plan if len(calls) > 1 else b"")

    monkeypatch.setattr(fake_tensorrt.Runtime, "deserialize_cuda_engine", refuse_the_first)
    with open_runner(artifact) as runner:
        assert runner.describe()["plan_origin"] == "built"
        assert "does not load the plan: the plan is damaged" in runner.describe()["plan_note"]
    assert (fake_machine.trt.builds, len(calls)) == (2, 2)


def test_another_precision_is_refused_with_the_right_name(
    artifact: Artifact, fake_machine: FakeMachine
) -> None:
    with pytest.raises(EngineError, match=r"is fp32, and runs as tensorrt-fp32.*Take backend"):
        open_runner(artifact, backend="tensorrt-fp16")


@pytest.mark.parametrize("wrong", ["labels", "size"])
def test_a_model_that_does_not_fit_is_refused(
    artifact_copy: Path, fake_machine: FakeMachine, make_model, rewrite_manifest, wrong: str
) -> None:
    side, labels = (32, 3) if wrong == "labels" else (16, 4)
    (artifact_copy / "model.onnx").write_bytes(make_model(0, side, labels))
    rewrite_manifest(artifact_copy)
    with pytest.raises(EngineError, match=r"The plan has .*expected .*RUN --tensorrt"):
        open_runner(open_artifact(artifact_copy), backend=BACKEND)
    assert fake_machine.cuda.is_clean


def test_a_file_that_changed_after_it_was_verified_is_refused(
    artifact: Artifact, fake_machine: FakeMachine
) -> None:
    artifact.model_path.write_bytes(b"other")
    with pytest.raises(ArtifactError, match="changed after it was verified"):
        open_runner(artifact)


def test_auto_falls_back_with_what_tensorrt_said(
    artifact: Artifact, fake_machine: FakeMachine
) -> None:
    fake_machine.trt.wrong = "build"
    with open_runner(artifact) as runner:
        assert runner.backend.startswith("onnxruntime")
        assert "no TensorRT (" in runner.reason
        assert "cannot build the engine: no kernel fits, in kernels.cpp" in runner.reason
        assert str(artifact.root) not in runner.reason  # GET /v1/model shows it


def test_auto_survives_bindings_that_behave_otherwise(
    artifact: Artifact, fake_machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("tests.serve.fake_tensorrt.Builder.create_network")
    with open_runner(artifact) as runner:
        assert "fails in an unknown way (AttributeError" in runner.reason


def test_no_gpu_is_said(artifact: Artifact, fake_machine: FakeMachine) -> None:
    fake_machine.use(gpus=0)
    with pytest.raises(EngineError, match=r"No GPU is here\. Look with nvidia-smi"):
        open_runner(artifact, backend=BACKEND)


def test_without_a_gpu_the_library_is_not_imported(
    artifact: Artifact, fake_machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds 120 MiB, for as long as the service runs on the CPU."""
    imported = []
    monkeypatch.setattr(tensorrt_runner, "find_engine_library", lambda: imported.append(True))
    fake_machine.use(gpus=0)
    with open_runner(artifact) as runner:
        assert runner.backend == "onnxruntime-cpu"
    assert not imported


def test_missing_libraries_are_said(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.engines.library.find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r'TensorRT is not installed\..*"\.\[tensorrt\]"'):
        open_runner(artifact, backend=BACKEND)
    with open_runner(artifact) as runner:
        assert runner.reason.startswith("auto: no TensorRT (TensorRT is not installed)")
    with pytest.raises(EngineError, match=r'not here, is not installed.*"\.\[tensorrt-rtx\]"'):
        find_engine_library(ahead_of_time=True)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(EngineError, match="cuda-bindings, by which the GPU is reached"):
        cuda_memory.find_gpu()


def test_a_library_that_does_not_load_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError("/opt/secret/libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr("serve.engines.library.find_spec", lambda name: name == "tensorrt" or None)
    monkeypatch.setattr("serve.engines.library.import_module", broken)
    with pytest.raises(EngineError, match=r"tensorrt is installed but does not load \(libnvinf"):
        find_engine_library()


def test_the_service_starts_on_it(artifact: Artifact, fake_machine: FakeMachine) -> None:
    """Golden images and warm-up run on the very runner that serves."""
    with open_served_model(Settings(artifact=artifact.root, max_batch=4)) as served:
        assert served.identity["backend"] == BACKEND
        assert served.golden.max_logit_diff < 1e-5
        assert served.describe()["runner"]["profile"] == [1, 4, 4]
    assert fake_machine.cuda.is_clean


def test_a_server_that_may_not_write_starts(artifact: Artifact, fake_machine: FakeMachine) -> None:
    """A file where the folder should be: root, as whom tests may run, can write anywhere else."""
    (artifact.root / "engines").write_text("")
    with open_runner(artifact, backend=BACKEND) as runner:
        assert runner.infer(IMAGES).shape == (8, 4)
        assert "the plan is not kept" in runner.describe()["plan_note"]
