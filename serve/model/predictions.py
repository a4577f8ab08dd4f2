"""Predictions: logits -> labels with probabilities, best first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from serve.http.problems import Problem, RequestError

__all__ = ["Prediction", "probabilities_from_logits", "top_k_of", "top_predictions"]

DEFAULT_TOP_K = 5


class Prediction(TypedDict):
    """One label and its probability in [0, 1]."""

    label: str
    probability: float


def probabilities_from_logits(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Softmax in float64.

    Args:
        logits: (K,), finite.

    Returns:
        (K,) float64 in [0, 1]; sums to 1.

    Raises:
        ValueError: a logit is not finite: a NaN must never be served.
    """
    if not np.isfinite(logits).all():
        raise ValueError("logits hold NaN or infinity.")
    exact = logits.astype(np.float64)
    exponentials = np.exp(exact - exact.max())
    return np.asarray(exponentials / exponentials.sum())


def top_predictions(
    logits: NDArray[np.floating], labels: Sequence[str], top_k: int
) -> list[Prediction]:
    """The `top_k` best labels; equal ones in the order of `labels`.

    Raises:
        ValueError: a logit is not finite.
    """
    probabilities = probabilities_from_logits(logits)
    best = np.argsort(-probabilities, kind="stable")[:top_k]
    return [Prediction(label=labels[i], probability=float(probabilities[i])) for i in best]


def top_k_of(text: str | None, labels: int) -> int:
    """The number of predictions that a query asks for, at most all; five where it does not say.

    Raises:
        RequestError: 400, zero or not a number.
    """
    if text is None:
        return min(DEFAULT_TOP_K, labels)
    if text.isascii() and text.isdigit() and (digits := text.lstrip("0")):
        return labels if len(digits) > 9 else min(int(digits), labels)
    raise RequestError(
        Problem(
            400,
            "invalid-top-k",
            "The parameter top_k is not a number of predictions",
            f"Expected a whole number of 1 or more; {labels} gives all labels.",
        )
    )
