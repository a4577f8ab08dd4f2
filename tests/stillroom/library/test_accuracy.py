from __future__ import annotations

import pytest

import stillroom
from serve.contract.errors import DatasetError, UsageError
from train.evaluation import wilson_interval


def test_accuracy_counts_the_right_ones(unpacked_old_run):
    result = stillroom.evaluate(unpacked_old_run / "run", str(unpacked_old_run / "photos"))
    rows = result.predictions
    assert result.n == len(rows) == 48
    assert [row.truth for row in rows] == [label for label in "012" for _ in range(16)]
    hits = sum(row.label == row.truth for row in rows)
    assert hits == sum(row.correct for row in rows)
    assert result.accuracy == hits / 48
    assert (result.low, result.high) == wilson_interval(hits, 48)
    assert result.low < result.accuracy < result.high


def test_pairs_of_image_and_label_will_do(unpacked_old_run):
    image = next((unpacked_old_run / "photos" / "1").iterdir())
    pairs = [(image, "1"), (image.read_bytes(), "2")]
    result = stillroom.evaluate(str(unpacked_old_run / "run" / "artifact"), pairs, top_k=1)
    assert result.n == 2
    assert result.accuracy <= 0.5
    assert [row.image for row in result.predictions] == [str(image), ""]
    assert len(result.predictions[0].labels) == 1


def test_what_cannot_be_evaluated_is_refused(unpacked_old_run, tmp_path):
    run = unpacked_old_run / "run"
    with pytest.raises(UsageError, match="no label 'seven'"):
        stillroom.evaluate(run, [(b"", "seven")])
    with pytest.raises(UsageError, match="no images"):
        stillroom.evaluate(run, [])
    with pytest.raises(DatasetError, match="No such folder"):
        stillroom.evaluate(run, tmp_path / "none")
