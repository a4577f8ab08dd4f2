"""`stillroom parity ARTIFACT`: judged where it serves, without a training library."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serve.contract.artifact import open_artifact
from serve.contract.digest import canonical_json
from serve.contract.manifest import MANIFEST, write_manifest
from stillroom.parity.stored_reference import tolerances_here

ROOT = Path(__file__).parents[3]
BLOCKED = ("torch", "torchvision", "timm", "onnx", "scipy", "sklearn", "safetensors", "locust")
WITHOUT = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)
sys.meta_path.insert(0, Blocked())
from stillroom.cli import main
main()
"""


def _without_training_libraries(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture
def artifact(tiny_artifact: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(tiny_artifact, tmp_path / "artifact"))


def _republish(artifact: Path) -> None:
    manifest = json.loads((artifact / MANIFEST).read_bytes())
    keep = {k: v for k, v in manifest.items() if k not in ("files", "digest", "schema_version")}
    write_manifest(artifact, keep)


def _change_reference(artifact: Path, factor: float, *, rows: int = 10**9) -> None:
    path = artifact / "reference.csv"
    with path.open(newline="") as file:
        header, *lines = csv.reader(file)
    for line in lines[:rows]:
        line[1:] = [str(float(value) * factor) for value in line[1:]]
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *lines])
    _republish(artifact)


def test_it_needs_no_training_library(tiny_artifact: Path, tmp_path: Path) -> None:
    done = _without_training_libraries("parity", tiny_artifact, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "parity inconclusive" in done.stdout
    model = tiny_artifact / "model.onnx"
    done = _without_training_libraries(
        *("parity", "--reference", model, "--candidate", model),
        *("--photos", tiny_artifact / "golden"),
    )
    assert done.returncode == 0, done.stderr
    refused = _without_training_libraries(
        "export", "--checkpoint", "x", "--model", "y", "--labels", "z"
    )
    assert refused.returncode == 2
    assert 'pip install ".[cpu,train,loadtest]"' in refused.stderr


def test_few_images_are_inconclusive_with_words(stillroom, tiny_artifact: Path) -> None:
    outcome = stillroom("parity", tiny_artifact)
    assert outcome.code == 0
    assert "parity inconclusive fp32" in outcome.out
    assert "images < 300. Give a folder of more images with --photos." in outcome.out
    outcome = stillroom("parity", tiny_artifact, "--strict")
    assert outcome.code == 1
    assert "PARITY INCONCLUSIVE" in outcome.err


def test_it_says_what_computes_here(stillroom, artifact: Path, tmp_path: Path) -> None:
    parity = {
        "status": "passed",
        "runner": {"provider": "OtherProvider", "library": "onnxruntime 0.1"},
    }
    (artifact / "parity.json").write_bytes(canonical_json(parity))
    _republish(artifact)
    outcome = stillroom("parity", artifact, "--out", tmp_path / "out")
    assert outcome.code == 0
    assert "CPUExecutionProvider of onnxruntime" in outcome.out
    assert "not as at export: provider: OtherProvider then, CPUExecutionProvider now" in outcome.out
    assert "library: onnxruntime 0.1 then" in outcome.out
    facts = json.loads((tmp_path / "out" / "parity.json").read_bytes())
    assert facts["artifact"] == open_artifact(artifact).digest
    assert facts["runner"]["provider"] == "CPUExecutionProvider"
    assert {"cpu_flags", "versions", "python"} <= facts["machine"].keys()
    assert len(facts["changed_since_export"]) == 2


def test_other_answers_fail(stillroom, artifact: Path) -> None:
    _change_reference(artifact, 1.1)
    outcome = stillroom("parity", artifact)
    assert outcome.code == 1
    assert "PARITY FAIL fp32" in outcome.err
    assert "SNR" in outcome.err
    assert "try another STILLROOM_BACKEND" in outcome.err


def test_one_flipped_image_fails_and_is_named(stillroom, artifact: Path) -> None:
    _change_reference(artifact, -1.0, rows=1)
    outcome = stillroom("parity", artifact)
    assert outcome.code == 1
    assert "flip margin" in outcome.err
    assert "(margin" in outcome.out


def test_the_limits_are_those_of_the_artifact(artifact: Path) -> None:
    opened = open_artifact(artifact)
    cpu = "onnxruntime-cpu"
    fp32 = tolerances_here(opened, {}, cpu)
    assert fp32.min_snr_db == 80
    stored = {**vars(fp32), "min_snr_db": 12.5}
    assert tolerances_here(opened, {"limits": stored}, cpu).min_snr_db == 12.5
    foreign = {"min_snr_db": 12.5, "of_another_version": 1}
    assert tolerances_here(opened, {"limits": foreign}, cpu) == fp32
    assert tolerances_here(opened, {"limits": stored}, "onnxruntime-cuda").min_snr_db == 35  # TF32


def test_images_without_a_stored_answer(stillroom, tiny_artifact: Path, few_photos: Path) -> None:
    outcome = stillroom("parity", tiny_artifact, "--photos", few_photos)
    assert outcome.code == 2
    assert "has a reference prediction" in outcome.err
