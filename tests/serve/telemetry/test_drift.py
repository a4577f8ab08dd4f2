"""What Prometheus is told of images and answers, and what it may compare them with."""

from __future__ import annotations

import base64
import csv
import time
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serve.contract.artifact import open_artifact
from serve.contract.reference import stored_reference
from serve.telemetry.drift import CONFIDENCES, MOST_LABELS, Drift

JPEG = {"content-type": "image/jpeg"}


def values(registry: CollectorRegistry) -> dict[str, float]:
    text = generate_latest(registry).decode()
    return {
        sample.name + "".join(f"[{v}]" for v in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_images_are_counted_by_size_and_brightness(registry: CollectorRegistry) -> None:
    drift = Drift(registry)
    drift.observe_image(5000, (640, 480), np.full((32, 32, 3), 255, dtype=np.uint8))
    drift.observe_image(9000, (100, 3000), np.zeros((32, 32, 3), dtype=np.uint8))
    found = values(registry)
    assert found["stillroom_image_bytes_bucket[8192.0]"] == 1
    assert found["stillroom_image_bytes_sum"] == 14000
    assert found["stillroom_image_shorter_side_pixels_sum"] == 580
    assert found["stillroom_image_brightness_ratio_bucket[0.1]"] == 1
    assert found["stillroom_image_brightness_ratio_sum"] == 1


def test_answers_are_counted_by_label_and_confidence(registry: CollectorRegistry) -> None:
    drift = Drift(registry)
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25], [np.nan, 1, 1]]))
    drift.observe_logits(logits, ("a", "b", "c"))
    found = values(registry)
    assert (found["stillroom_answers_total[a]"], found["stillroom_answers_total[b]"]) == (1, 1)
    assert found["stillroom_answer_confidence_ratio_count"] == 2
    assert found["stillroom_answer_confidence_ratio_sum"] == pytest.approx(1.2)


def test_the_baseline_is_that_of_the_stored_answers(
    registry: CollectorRegistry, tiny_artifact: Path
) -> None:
    artifact = open_artifact(tiny_artifact)
    Drift(registry).expect(artifact).join()
    found = values(registry)
    with (tiny_artifact / "reference.csv").open() as file:
        rows = [[float(v) for v in row[1:]] for row in list(csv.reader(file))[1:]]
    best = [row.index(max(row)) for row in rows]
    for index, label in enumerate(artifact.labels):
        share = best.count(index) / len(best)
        assert found[f"stillroom_expected_answers_ratio[{label}]"] == pytest.approx(share)
    tops = [1 / sum(np.exp(np.array(row) - max(row))) for row in rows]
    for le in CONFIDENCES:
        share = sum(top <= le for top in tops) / len(tops)
        assert found[f"stillroom_expected_confidence_ratio[{le:g}]"] == pytest.approx(share)
    assert found["stillroom_expected_confidence_ratio[1]"] == 1


def test_labels_of_the_model_before_are_expected_no_more(
    registry: CollectorRegistry, tiny_artifact: Path, build_artifact, tmp_path: Path
) -> None:
    drift = Drift(registry)
    drift.expect(open_artifact(tiny_artifact)).join()
    other = open_artifact(build_artifact(tmp_path / "b", seed=5, labels=("ash", "elm"), side=24))
    drift.expect(other).join()
    found = values(registry)
    gone = set(open_artifact(tiny_artifact).labels) - set(other.labels)
    assert gone
    assert all(found[f"stillroom_expected_answers_ratio[{label}]"] == 0 for label in gone)


def test_many_labels_are_not_counted(registry: CollectorRegistry) -> None:
    labels = [f"class {number}" for number in range(MOST_LABELS + 1)]
    Drift(registry).observe_logits(np.eye(2, len(labels)), labels)
    found = values(registry)
    assert not any("stillroom_answers_total" in name for name in found)
    assert found["stillroom_answer_confidence_ratio_count"] == 2


def test_every_way_to_classify_is_counted(ask, registry: CollectorRegistry, jpeg: bytes) -> None:
    ask("POST", "/v1/classify", content=jpeg, headers=JPEG)
    ask("POST", "/v1/classify/batch", files=[("image", ("x", jpeg))] * 3)
    document = {"name": "image_bytes", "datatype": "BYTES", "shape": [1]}
    document["data"] = [base64.b64encode(jpeg).decode()]
    assert ask("POST", "/v2/models/tiny/infer", json={"inputs": [document]}).status_code == 200
    assert ask("POST", "/v1/classify", content=b"none", headers=JPEG).status_code == 415
    deadline = time.monotonic() + 10
    while (found := values(registry))["stillroom_answer_confidence_ratio_count"] < 5:
        assert time.monotonic() < deadline  # counted after the answer
    assert found["stillroom_image_bytes_count"] == 5
    assert found["stillroom_answer_confidence_ratio_count"] == 5
    assert found["stillroom_images_waiting"] == 0


def test_observing_costs_little(registry: CollectorRegistry) -> None:
    """A tenth of a millisecond is the bound of a busy machine; a quiet one takes 0.02 ms."""
    drift = Drift(registry)
    pixels, logits = np.zeros((224, 224, 3), dtype=np.uint8), np.zeros((1, 1000))
    best_s = 1.0
    for _ in range(50):
        begun = time.perf_counter()
        for _ in range(20):
            drift.observe_image(50_000, (640, 480), pixels)
            drift.observe_logits(logits, ("a",) * 1000)
        best_s = min(best_s, (time.perf_counter() - begun) / 20)
    assert best_s < 1e-4


def test_a_reference_that_cannot_be_read_costs_the_baseline_alone(
    registry: CollectorRegistry, artifact_copy: Path, caplog
) -> None:
    artifact = open_artifact(artifact_copy)
    (artifact_copy / "reference.csv").write_text("sha256,logit:0\nabc,x\n")
    with pytest.raises(ValueError, match="could not convert"):
        stored_reference(artifact)
    Drift(registry).expect(artifact).join()
    assert "no drift baseline: ValueError" in caplog.text
