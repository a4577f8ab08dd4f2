"""`stillroom export --tensorrt`: on stand-ins for what needs a GPU, really built where none is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from serve.contract.artifact import open_artifact
from serve.contract.errors import EngineError
from serve.engines.library import EngineLibrary, find_engine_library
from stillroom.commands.artifact import tensorrt as tensorrt_command
from tests.serve.fake_tensorrt import FAKE_GPU, FakeMachine


@pytest.fixture
def no_gpu(fake_machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """No GPU, and a stand-in for TensorRT-RTX."""
    fake_machine.use(ahead_of_time=True, gpus=0)
    monkeypatch.setattr(
        tensorrt_command,
        "find_engine_library",
        lambda *, ahead_of_time: EngineLibrary(fake_machine.trt),
    )
    return fake_machine


@pytest.fixture
def run_copy(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def plans(artifact: Path) -> list[str]:
    return sorted(path.name for path in (artifact / "engines").glob("*.plan"))


def test_without_a_gpu_engines_are_built_and_said_not_to_have_run(
    stillroom, artifact_copy: Path, no_gpu: FakeMachine
) -> None:
    done = stillroom("export", artifact_copy, "--tensorrt", "--gpu", "sm86", "--gpu", "sm89")
    assert done.code == 0, done.err
    assert done.out.count("fake_tensorrt_rtx 0.0.0, built in") == 2
    assert "sm86, fp32, batches 1 to 8" in done.out
    assert "were built and never run" in done.out
    assert f"stillroom export {artifact_copy} --tensorrt" in done.out
    assert "parity" not in done.out
    assert len(plans(artifact_copy)) == 2
    again = stillroom("export", artifact_copy, "--tensorrt", "--gpu", "sm86", "--gpu", "sm86")
    assert again.out.count(", found\n") == 1
    assert no_gpu.trt.builds == 2


def test_what_was_built_ahead_is_what_the_machine_with_that_gpu_loads(
    stillroom, artifact_copy: Path, no_gpu: FakeMachine
) -> None:
    stillroom("export", artifact_copy, "--tensorrt", "--gpu", "sm86")
    no_gpu.use(ahead_of_time=True, name="A card with 8.6, a fake", capability="8.6")
    done = stillroom("export", artifact_copy, "--tensorrt")
    assert done.code == 0, done.err
    assert "fake_tensorrt_rtx 0.0.0, cache" in done.out
    assert no_gpu.trt.builds == 0


def test_the_batches_are_those_of_the_server(
    stillroom, artifact_copy: Path, no_gpu: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLROOM_MAX_BATCH", "3")
    done = stillroom("export", artifact_copy, "--tensorrt", "--gpu", "sm86")
    assert "batches 1 to 3" in done.out


def test_an_unknown_gpu_is_refused_before_anything_is_built(
    stillroom, artifact_copy: Path, no_gpu: FakeMachine
) -> None:
    done = stillroom("export", artifact_copy, "--tensorrt", "--gpu", "sm86", "--gpu", "h100")
    assert done.code == 2
    assert "does not build for 'h100'; it knows sm86, sm89. Name one of these" in done.err
    assert no_gpu.trt.builds == 0


def test_gpu_without_tensorrt_is_refused(stillroom, artifact_copy: Path) -> None:
    done = stillroom("export", artifact_copy, "--gpu", "sm86")
    assert done.code == 2
    assert "--gpu belongs to --tensorrt" in done.err


def test_a_missing_library_is_said(
    stillroom, artifact_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.engines.library.find_spec", lambda name: None)
    done = stillroom("export", artifact_copy, "--tensorrt", "--gpu", "sm86")
    assert done.code == 2
    assert 'is not installed. From a checkout: pip install ".[tensorrt-rtx]"' in done.err


def test_a_folder_that_cannot_be_written_is_an_error_here(
    stillroom, artifact_copy: Path, no_gpu: FakeMachine
) -> None:
    (artifact_copy / "engines").write_bytes(b"")
    done = stillroom("export", artifact_copy, "--tensorrt", "--gpu", "sm86")
    assert done.code == 2
    assert "is not kept" in done.err
    assert "Check its rights and the space" in done.err


def test_no_artifact_is_said(stillroom, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    done = stillroom("export", tmp_path, "--tensorrt")
    assert done.code == 2
    assert "holds no manifest.json" in done.err


def test_with_a_gpu_an_artifact_is_run_on_its_golden_images(
    stillroom, artifact_copy: Path, fake_machine: FakeMachine
) -> None:
    done = stillroom("export", artifact_copy, "--tensorrt")
    assert done.code == 0, done.err
    assert f"tensorrt-fp32 on {FAKE_GPU}, fake_tensorrt 0.0.0, built" in done.out
    assert "golden images: 6 answered" in done.out
    assert "parity: not judged" in done.out
    assert not list((artifact_copy / "engines").glob("*.parity.json"))


def test_an_engine_with_wrong_answers_is_removed(
    stillroom, artifact_copy: Path, fake_machine: FakeMachine
) -> None:
    fake_machine.trt.wrong = "answers"
    done = stillroom("export", artifact_copy, "--tensorrt")
    assert done.code == 1
    assert "The engine was removed. Serve with STILLROOM_BACKEND=onnxruntime-cuda" in done.err
    assert plans(artifact_copy) == []


def test_every_precision_but_that_of_onnxruntime_gets_engines(
    stillroom, artifact_copy: Path, no_gpu: FakeMachine, rewrite_manifest
) -> None:
    run = artifact_copy.parent
    for name in ("artifact-fp16", "artifact-int8", "artifact-int8-tensorrt"):
        shutil.copytree(artifact_copy, run / name)
        rewrite_manifest(run / name, precision=name.split("-")[1])
    tensorrt_command.build_engines(run, ["sm86"])
    assert plans(run / "artifact")[0].startswith("fp32-")
    assert plans(run / "artifact-fp16")[0].startswith("fp16-")
    assert plans(run / "artifact-int8-tensorrt")[0].startswith("int8-")
    assert plans(run / "artifact-int8") == []


def test_parity_of_a_run_is_judged_and_kept_with_where_it_ran(
    stillroom, run_copy: Path, fake_machine: FakeMachine
) -> None:
    artifact = run_copy / "artifact"
    digest = open_artifact(artifact).digest
    done = stillroom("export", run_copy, "--tensorrt")
    assert done.code == 0, done.err
    assert "parity passed: 615 of 615 predictions agree" in done.out
    (report,) = (artifact / "engines").glob("*.parity.json")
    found = json.loads(report.read_bytes())
    assert found["status"] == "passed"
    assert found["runner"]["gpu"] == FAKE_GPU  # nobody can take it for a GPU's verdict
    assert found["runner"]["library"] == "fake_tensorrt 0.0.0"
    assert open_artifact(artifact).digest == digest
    assert "export: done" in stillroom("export", run_copy).err


def test_answers_mixed_up_within_a_batch_fail_parity(
    stillroom, run_copy: Path, fake_machine: FakeMachine
) -> None:
    """Golden images are replayed one by one: they cannot see it."""
    fake_machine.trt.wrong = "batches"
    done = stillroom("export", run_copy, "--tensorrt")
    assert done.code == 1
    assert "PARITY FAIL tensorrt-fp32" in done.err
    assert "The engine was removed" in done.err
    assert plans(run_copy / "artifact") == []


def test_tensorrt_rtx_builds_a_served_model(stillroom, artifact_copy: Path) -> None:
    """The real library. Whether its engines answer rightly needs a GPU."""
    try:
        find_engine_library(ahead_of_time=True)
    except EngineError as error:
        pytest.skip(str(error))
    done = stillroom("export", artifact_copy, "--tensorrt", "--gpu", "sm86", "--gpu", "sm120")
    assert done.code == 0, done.err
    assert done.out.count("tensorrt_rtx 1.") == 2
    assert len(plans(artifact_copy)) == 2
