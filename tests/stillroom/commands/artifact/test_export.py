"""`stillroom export RUN --precision`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from stillroom.commands.artifact.export_run import NOT_WORTH_IT


@pytest.fixture
def run_copy(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def test_an_unknown_precision_is_refused(stillroom, run_copy: Path) -> None:
    done = stillroom("export", run_copy, "--precision", "int4")
    assert done.code == 2
    assert "--precision int4: expected fp16, int8, int8-tensorrt" in done.err


def test_fp16_gets_an_artifact_and_its_speed_is_the_exit_code(stillroom, run_copy: Path) -> None:
    done = stillroom("export", run_copy, "--precision", "fp16")
    benefit = json.loads((run_copy / "artifact-fp16" / "benefit.json").read_bytes())["benefit"]
    slow = benefit["verdict"] != "worth it"
    assert done.code == (NOT_WORTH_IT if slow else 0), done.err
    assert ("not faster than fp32 here" in done.err) == slow
    assert f"stillroom report {run_copy} shows it" in done.err
    assert stillroom("report", run_copy).code == 0
    assert 'id="precisions"' in (run_copy / "report" / "index.html").read_text(encoding="utf-8")
    verified = stillroom("verify", run_copy)
    assert verified.code == 0, verified.err
    assert "ok   fp16      16 golden images answered as stored" in verified.out
    again = stillroom("export", run_copy, "--precision", "fp16")
    assert "fp16: done" in again.err
    assert again.code == done.code


def test_one_changed_byte_of_it_is_found(stillroom, run_copy: Path) -> None:
    stillroom("export", run_copy, "--precision", "fp16")
    path = run_copy / "artifact-fp16" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    done = stillroom("verify", run_copy)
    assert done.code == 1
    assert "fp16: damaged: model.onnx" in done.err


def test_precisions_are_not_for_checkpoints(stillroom, tmp_path: Path) -> None:
    done = stillroom(
        "export", "--precision", "fp16", "--checkpoint", "w.pt", "--model", "m", "--labels", "l"
    )
    assert done.code == 2
    assert "--precision is for a run" in done.err
