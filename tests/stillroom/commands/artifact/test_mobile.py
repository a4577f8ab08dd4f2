"""`stillroom export --mobile`."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from export import mobile
from serve.contract.artifact import open_artifact


def test_an_artifact_gets_its_form_for_devices(stillroom, artifact_copy: Path) -> None:
    before = open_artifact(artifact_copy).digest
    done = stillroom("export", artifact_copy, "--mobile")
    assert done.code == 0, done.err
    path = artifact_copy / "mobile" / "fp32.ort"
    assert f"{path}: 0.0" in done.out
    assert onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert open_artifact(artifact_copy).digest == before


def test_a_false_one_is_not_kept(
    stillroom, artifact_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mobile, "ATOL_SD", -1.0)
    done = stillroom("export", artifact_copy, "--mobile")
    assert done.code == 1
    assert "PARITY FAIL ORT format" in done.err
    assert list((artifact_copy / "mobile").iterdir()) == []


def test_a_checkpoint_is_exported_first(stillroom, tmp_path: Path) -> None:
    done = stillroom(
        "export", "--mobile", "--checkpoint", "w.pt", "--model", "resnet18", "--labels", "l.txt"
    )
    assert done.code == 2
    assert "are for a run or an artifact folder" in done.err
