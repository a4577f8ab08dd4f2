"""`stillroom parity --reference a.onnx --candidate b.onnx`: whoever made the two files."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.diagnose import trials as suspect_files
from export.mobile import write_ort
from export.precision.fp16 import write_fp16
from export.precision.quantize import write_int8
from serve.contract.manifest import write_manifest
from serve.contract.preprocess import PreprocessSpec
from tests.export.foreign_models import MEAN, STD, weights, write_classifier
from tests.train.toy import write_photos

FLOATS = ("--mean", ",".join(map(str, MEAN)), "--std", ",".join(map(str, STD)))
CROP = ("--crop-pct", "1.0")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ("class_a", "class_b", "class_c", "class_d")
    return write_photos(tmp_path_factory.mktemp("files") / "photos", count=80, classes=names)


def _files(reference: Path, candidate: Path, photos: Path) -> list[object]:
    return ["parity", "--reference", reference, "--candidate", candidate, "--photos", photos]


def test_two_exports_of_one_model_in_different_layouts_pass(stillroom, photos, tmp_path) -> None:
    a = write_classifier(tmp_path / "a.onnx", dtype="float32", order="NCHW", batch=1)
    b = write_classifier(tmp_path / "b.onnx", dtype="uint8", order="NHWC")
    out = tmp_path / "out"
    outcome = stillroom(*_files(a, b, photos), *FLOATS, *CROP, "--out", out, "--strict")
    assert outcome.code == 0, outcome.err
    assert "parity passed fp32" in outcome.out
    assert "320 of 320 predictions agree" in outcome.out
    parity = json.loads((out / "parity.json").read_bytes())
    assert parity["status"] == "passed"
    assert parity["reference"]["name"] == "a.onnx"
    assert parity["candidate"]["provider"] == "CPUExecutionProvider"
    assert parity["machine"]["versions"]["onnxruntime"]
    assert (out / "flips.csv").read_text().count("\n") == 1  # the header alone


def test_each_precision_has_limits_of_its_own(stillroom, photos, tmp_path) -> None:
    a = write_classifier(tmp_path / "a.onnx", dtype="float32")
    rounded = (weights() * 1.002).astype(np.float32)  # 54 dB: fine for fp16, not for fp32
    b = write_classifier(tmp_path / "b.onnx", dtype="float16", matrix=rounded)
    same = _files(a, b, photos)
    assert stillroom(*same, *FLOATS, *CROP, "--precision", "fp16").code == 0
    outcome = stillroom(*same, *FLOATS, *CROP)
    assert outcome.code == 1
    assert "dB < 80 dB" in outcome.err


def test_a_damaged_weight_fails_with_its_flips(stillroom, photos, tmp_path) -> None:
    wrong = weights()
    wrong[:, 0] += 4  # the first class attracts what it should not
    a = write_classifier(tmp_path / "a.onnx")
    b = write_classifier(tmp_path / "b.onnx", matrix=wrong)
    labels = tmp_path / "labels.txt"
    labels.write_text("class_a\nclass_b\nclass_c\nclass_d\n")
    out = tmp_path / "out"
    outcome = stillroom(*_files(a, b, photos), *CROP, "--labels", labels, "--out", out)
    assert outcome.code == 1
    assert "PARITY FAIL fp32" in outcome.err
    assert "Do not put the candidate in the reference's place" in outcome.err
    assert "-> class_a (margin" in outcome.out
    with (out / "flips.csv").open() as file:
        flips = list(csv.DictReader(file))
    assert len(flips) == json.loads((out / "parity.json").read_bytes())["flips"] > 0
    assert {flip["candidate"] for flip in flips} == {"class_a"}
    assert {flip["label"] for flip in flips} <= {"class_a", "class_b", "class_c", "class_d"}
    assert "top-1" in outcome.err  # the folders are named as the labels


def test_outputs_in_another_order_are_found_and_said(stillroom, photos, tmp_path) -> None:
    a = write_classifier(tmp_path / "a.onnx")
    b = write_classifier(tmp_path / "b.onnx", matrix=weights()[:, [1, 0, 2, 3]].copy())
    outcome = stillroom(*_files(a, b, photos), *CROP)
    assert outcome.code == 1
    assert "Putting 2 of 4 labels in another order restores the predictions" in outcome.err


def _damaged(path: Path) -> Path:
    wrong = weights()
    wrong[1, 2] += 4
    return write_classifier(path, matrix=wrong)


def test_a_damaged_weight_is_named(stillroom, photos, tmp_path) -> None:
    a, b = write_classifier(tmp_path / "a.onnx"), _damaged(tmp_path / "b.onnx")
    outcome = stillroom(*_files(a, b, photos), *CROP)
    assert outcome.code == 1
    assert "initialisers from a sound file restores" in outcome.err
    assert "'matrix' differs by 4 at [1, 2], so the file is damaged" in outcome.err


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_forgotten_precision_is_named(stillroom, photos, tmp_path, precision) -> None:
    a, b = write_classifier(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    if precision == "fp16":
        write_fp16(a, b)
    else:
        colours = np.random.default_rng(0).integers(0, 256, (64, 1, 1, 3), np.uint8)
        write_int8(a, b, np.broadcast_to(colours, (64, 8, 8, 3)))
    outcome = stillroom(*_files(a, b, photos), *CROP)
    assert outcome.code == 1, outcome.err
    assert "PARITY FAIL fp32" in outcome.err
    assert f"Say --precision {precision}." in outcome.err
    assert f"would do for {precision}" in outcome.err


def test_a_damaged_fp16_file_is_no_excuse(stillroom, photos, tmp_path) -> None:
    a, b = write_classifier(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    write_fp16(_damaged(tmp_path / "c.onnx"), b)
    outcome = stillroom(*_files(a, b, photos), *CROP)
    assert outcome.code == 1, outcome.err
    assert "PARITY FAIL fp32" in outcome.err
    assert "No single suspect restores" in outcome.err
    assert "The candidate is an fp16 file, and the limits are those of fp32." in outcome.err


def test_a_trial_that_does_not_load_leaves_the_verdict(
    stillroom, photos, tmp_path, monkeypatch
) -> None:
    a, b = write_classifier(tmp_path / "a.onnx"), _damaged(tmp_path / "b.onnx")
    monkeypatch.setattr(suspect_files, "with_initialisers_of", lambda *_: b"no graph")
    outcome = stillroom(*_files(a, b, photos), *CROP)
    assert outcome.code == 1, outcome.err
    assert "PARITY FAIL fp32" in outcome.err
    assert "optimiser" in outcome.err  # what was tried is still said


def test_wrong_answers_of_a_file_in_two_parts(stillroom, photos, tmp_path) -> None:
    a, b = write_classifier(tmp_path / "a.onnx"), _damaged(tmp_path / "b.onnx")
    onnx.save(onnx.load(b), b, save_as_external_data=True, location="b.data", size_threshold=70)
    outcome = stillroom(*_files(a, b, photos), *CROP)
    assert outcome.code == 1, outcome.err
    assert "PARITY FAIL fp32" in outcome.err


def test_wrong_answers_of_a_file_for_devices(stillroom, photos, tmp_path) -> None:
    a, b = write_classifier(tmp_path / "a.onnx"), tmp_path / "b.ort"
    write_ort(_damaged(tmp_path / "b.onnx"), b)
    outcome = stillroom(*_files(a, b, photos), *CROP)
    assert outcome.code == 1, outcome.err
    assert "PARITY FAIL fp32" in outcome.err


def test_few_images_are_a_warning_and_with_strict_a_failure(stillroom, tmp_path) -> None:
    few = write_photos(tmp_path / "few", count=6)
    a = write_classifier(tmp_path / "a.onnx")
    outcome = stillroom(*_files(a, a, few), *CROP)
    assert outcome.code == 0
    assert "parity inconclusive" in outcome.out
    assert "warning: this proves little: 18 images < 300" in outcome.out
    outcome = stillroom(*_files(a, a, few), *CROP, "--strict")
    assert outcome.code == 1
    assert "PARITY INCONCLUSIVE" in outcome.err


def test_our_own_artifact_says_its_preprocessing_and_labels(
    stillroom, tiny_artifact, tmp_path
) -> None:
    model = tiny_artifact / "model.onnx"
    outcome = stillroom(*_files(model, model, tiny_artifact / "golden"), "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    spec = json.loads((tiny_artifact / "manifest.json").read_bytes())["preprocess"]
    assert json.loads((tmp_path / "out" / "parity.json").read_bytes())["preprocess"] == spec
    copy = shutil.copy(model, tmp_path / "copy.onnx")  # outside of its folder nothing says so
    outcome = stillroom(*_files(copy, copy, tiny_artifact / "golden"))
    assert outcome.code == 2
    assert "Nothing says --crop-pct" in outcome.err


def test_artifacts_with_other_preprocessing_ask_which(stillroom, tiny_artifact, tmp_path) -> None:
    other = Path(shutil.copytree(tiny_artifact, tmp_path / "other"))
    manifest = json.loads((other / "manifest.json").read_bytes())
    spec = PreprocessSpec.from_dict({**manifest["preprocess"], "crop_pct": 0.5})
    changed = {"preprocess": spec.to_dict(), "preprocess_digest": spec.digest}
    keep = {k: v for k, v in manifest.items() if k not in ("files", "digest", "schema_version")}
    write_manifest(other, {**keep, **changed})
    files = _files(tiny_artifact / "model.onnx", other / "model.onnx", tiny_artifact / "golden")
    _refused(stillroom(*files), "different preprocessing", "--crop-pct and --interpolation")
    outcome = stillroom(*files, *CROP, "--interpolation", "bilinear")
    assert outcome.code == 0, outcome.err


def _refused(outcome, *texts: str) -> None:
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err
    for text in texts:
        assert text in outcome.err


def test_what_no_file_says_is_asked_for(stillroom, photos, tmp_path) -> None:
    a = write_classifier(tmp_path / "a.onnx", dtype="float32", size="side")
    b = write_classifier(tmp_path / "b.onnx", size="side")
    _refused(stillroom(*_files(a, b, photos)), "--mean and --std")
    _refused(stillroom(*_files(a, b, photos), *FLOATS), "Nothing says --size and --crop-pct")
    _refused(stillroom(*_files(a, b, photos), *FLOATS, *CROP), "Nothing says --size.")
    outcome = stillroom(*_files(a, b, photos), *FLOATS, *CROP, "--size", 12)
    assert outcome.code == 0, outcome.err
    fixed = write_classifier(tmp_path / "c.onnx")
    _refused(stillroom(*_files(fixed, b, photos), *CROP, "--size", 12), "the files take 8 px")


def test_files_that_do_not_go_together(stillroom, photos, tmp_path) -> None:
    a = write_classifier(tmp_path / "a.onnx")
    other_size = write_classifier(tmp_path / "b.onnx", size=16)
    _refused(stillroom(*_files(a, other_size, photos), *CROP), "8 px and 16 px")
    more = write_classifier(tmp_path / "c.onnx", matrix=np.ones((3, 7), np.float32))
    _refused(stillroom(*_files(a, more, photos), *CROP), "4 and 7 scores", "one model")
    softmax = write_classifier(tmp_path / "d.onnx", tail="Softmax")
    _refused(stillroom(*_files(a, softmax, photos), *CROP), "probabilities", "without the softmax")
    nothing = write_classifier(tmp_path / "e.onnx", matrix=np.full((3, 4), np.nan, np.float32))
    _refused(stillroom(*_files(nothing, a, photos), *CROP), "The reference", "NaN")
    outcome = stillroom(*_files(a, nothing, photos), *CROP)
    assert outcome.code == 1
    assert "not finite" in outcome.err
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\n")
    _refused(stillroom(*_files(a, a, photos), *CROP, "--labels", labels), "2 class names, and 4")


def test_wrong_use(stillroom, photos, tmp_path) -> None:
    a = write_classifier(tmp_path / "a.onnx")
    _refused(stillroom("parity"), "Neither an artifact nor two files")
    _refused(stillroom("parity", "--reference", a), "--candidate and --photos must be given")
    _refused(stillroom("parity", tmp_path, "--reference", a), "--reference beside")
    _refused(stillroom("parity", tmp_path, "--precision", "int8"), "--precision beside")
    _refused(stillroom(*_files(a, a, photos), "--precision", "int4"), "fp32, fp16, int8")
    _refused(stillroom(*_files(a, a, tmp_path / "none"), *CROP), "No such folder")
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    _refused(stillroom(*_files(a, tmp_path / "bad.onnx", photos), *CROP), "not an ONNX file")
