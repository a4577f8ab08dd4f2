from __future__ import annotations

import numpy as np
import pytest

from stillroom.run.stages.http_parity import compare_answers
from train.data.images import LabelledImage
from train.evaluation import Predictions


def answer(*pairs: tuple[str, float]) -> dict:
    predictions = [{"label": label, "probability": p} for label, p in pairs]
    return {"predictions": predictions, "model": {"digest": "d"}}


@pytest.fixture
def reference():
    logits = np.array([[np.log(3), 0], [0, np.log(3)]], dtype=np.float32)
    photos = [LabelledImage("x/1.jpg", "x", "test"), LabelledImage("y/2.jpg", "y", "test")]
    return Predictions(photos, ("x", "y"), logits)


def test_equal_answers_agree(reference):
    answers = [answer(("x", 0.75), ("y", 0.25)), answer(("y", 0.75), ("x", 0.25))]
    result = compare_answers(reference, answers)
    assert result["agree"] == 2
    assert result["flips"] == []
    assert result["max_probability_diff"] < 1e-6
    assert result["digests"] == ["d"]


def test_answers_that_were_mixed_up_are_listed_with_their_margin(reference):
    answers = [answer(("y", 0.75), ("x", 0.25)), answer(("x", 0.75), ("y", 0.25))]
    result = compare_answers(reference, answers)
    assert result["agree"] == 0
    assert [flip["path"] for flip in result["flips"]] == ["x/1.jpg", "y/2.jpg"]
    assert result["flips"][0]["margin"] == pytest.approx(np.log(3), rel=1e-6)
    assert result["max_probability_diff"] == pytest.approx(0.5)
