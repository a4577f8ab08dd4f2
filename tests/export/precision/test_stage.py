"""Artifacts of reduced precision."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.options import ExportOptions, ParityLimits
from export.parity.image_choice import calibration_images, gate_images
from export.parity.tolerances import LIMITS
from export.precision import stage as precision_stage
from export.precision.speedup import Benefit, Timing
from export.precision.stage import export_precision
from serve.contract.artifact import open_artifact
from serve.contract.digest import sha256_of_file
from serve.contract.errors import GateError
from serve.contract.manifest import write_manifest
from serve.model.golden_check import load_golden, replay_golden
from serve.runners.open import open_runner
from tests.export.conftest import Exported
from train.loader.views import pixels_of

pytestmark = pytest.mark.e2e

OPTIONS = ExportOptions(golden_images=6, max_batch_size=5, calibration_images=32)


@pytest.fixture(autouse=True)
def canned_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing has its own tests, and takes seconds."""
    one = Timing(1, 0.5, 1.0, 2000.0, 2.0, 1.9, 2.1, 5)
    found = [Benefit("worth it", one, one, "cpu")]
    monkeypatch.setattr(precision_stage, "measure_benefit", lambda *_, **__: found)
    monkeypatch.setattr(precision_stage, "measure_speedup", lambda *_: 2.0)


def make(
    exported: Exported, out: Path, precision: str, options: ExportOptions = OPTIONS
) -> tuple[dict[str, float], dict[str, Any]]:
    fp32 = out.parent / "fp32"
    fp32.mkdir(parents=True)
    (fp32 / "model.onnx").symlink_to(exported.graph)
    out.mkdir()
    return export_precision(
        exported.dataset, exported.folder, fp32, precision, options, name="toys", out=out
    )


@pytest.mark.parametrize("precision", ["fp16", "int8", "int8-tensorrt"])
def test_a_reduced_file_is_an_artifact_of_its_own(
    exported: Exported, tmp_path: Path, precision: str
) -> None:
    out = tmp_path / "out"
    metrics, fields = make(exported, out, precision)
    write_manifest(out, {**fields, "kind": "artifact", "parents": {}, "lineage": []})
    artifact = open_artifact(out)
    assert artifact.precision == precision.partition("-")[0]
    assert artifact.manifest.get("target") == ("tensorrt" if "-" in precision else None)
    parity = json.loads((out / "parity.json").read_bytes())
    assert parity["status"] == "passed"
    assert parity["images_of"] == {"val": 312}
    assert parity["test"]["images"] == 39
    assert metrics["model_bytes"] < exported.graph.stat().st_size
    benefit = json.loads((out / "benefit.json").read_bytes())["benefit"]
    assert (benefit is None) == ("-" in precision)  # nothing here runs TensorRT's
    with open_runner(artifact, max_batch_size=4) as runner:
        assert replay_golden(artifact, runner).max_logit_diff <= artifact.golden_atol


def test_golden_images_are_answered_as_the_reduced_file_does(
    exported: Exported, tmp_path: Path
) -> None:
    """They show that a machine computes this file; parity shows that the file is right."""
    out = tmp_path / "out"
    _, fields = make(exported, out, "int8")
    write_manifest(out, {**fields, "kind": "artifact", "parents": {}, "lineage": []})
    golden = load_golden(open_artifact(out))
    numbers = {photo.sha256: i for i, photo in enumerate(exported.reference.photos)}
    diffs = [
        np.abs(
            np.asarray(one.logits) - exported.reference.logits[numbers[sha256_of_file(one.path)]]
        ).max()
        for one in golden
    ]
    assert max(diffs) > 1e-4


def test_too_few_images_publish_no_reduced_file(exported: Exported, tmp_path: Path) -> None:
    options = ExportOptions(
        golden_images=6, max_batch_size=5, parity=ParityLimits(min_images=10_000)
    )
    for precision in ("fp16", "int8", "int8-tensorrt"):
        name = precision.partition("-")[0]
        match = rf"PARITY INCONCLUSIVE {name}.*unproven {name} file"
        with pytest.raises(GateError, match=match) as caught:
            make(exported, tmp_path / precision / "out", precision, options)
        images = 312 + (39 if precision == "fp16" else 39 - 16)
        assert f"export.parity.min_images={images}" in caught.value.next_step
        assert not list((tmp_path / precision / "out").iterdir())


def test_a_file_that_answers_otherwise_is_diagnosed_and_refused(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(source: Path, path: Path) -> None:
        model = onnx.load(source)
        kernels = [one for one in model.graph.initializer if len(one.dims) == 4]
        worse = numpy_helper.to_array(kernels[0]) * 3
        kernels[0].CopyFrom(numpy_helper.from_array(worse, kernels[0].name))
        onnx.save(model, path)

    monkeypatch.setattr(precision_stage, "write_fp16", spoil)
    out = tmp_path / "out"
    with pytest.raises(GateError, match=r"PARITY FAIL fp16"):
        make(exported, out, "fp16")
    assert json.loads((out / "parity.json").read_bytes())["status"] == "failed"
    assert not (out / "golden").exists()


def test_int8_that_never_passes_says_what_was_tried(exported: Exported, tmp_path: Path) -> None:
    strict = ParityLimits(int8=replace(LIMITS["int8"], min_snr_db=500.0))
    options = ExportOptions(golden_images=6, max_batch_size=5, calibration_images=32, parity=strict)
    with pytest.raises(GateError, match=r"PARITY FAIL int8.*Tried 0 layers in float"):
        make(exported, tmp_path / "out", "int8", options)


def test_calibration_uses_no_image_that_decides(exported: Exported) -> None:
    gate = gate_images(exported.dataset, 300)
    chosen = calibration_images(exported.dataset, 32, list(gate))
    assert len(chosen) == 32
    assert not {p.sha256 for p in chosen} & {p.sha256 for p in gate}
    assert {p.split for p in chosen} == {"train"}
    assert pixels_of(exported.dataset.root, chosen, exported.card.preprocess).shape[0] == 32
