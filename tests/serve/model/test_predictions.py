from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.model.predictions import probabilities_from_logits, top_predictions

LOGITS = st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=20)


@given(LOGITS)
def test_probabilities_are_probabilities(values: list[float]) -> None:
    probabilities = probabilities_from_logits(np.array(values, np.float32))
    assert probabilities.dtype == np.float64
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert probabilities.sum() == pytest.approx(1)


def test_predictions_are_sorted_and_ties_keep_the_order_of_labels() -> None:
    found = top_predictions(np.array([0, 2, 0, 2], np.float32), ["a", "b", "c", "d"], 3)
    assert [one["label"] for one in found] == ["b", "d", "a"]
    assert found[0]["probability"] == pytest.approx(np.exp(2) / (2 * np.exp(2) + 2))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_is_never_served(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        top_predictions(np.array([0, bad], np.float32), ["a", "b"], 1)
