"""`stillroom predict`: the same answer from an artifact here and from a service elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from serve.client import classify, describe_model
from serve.contract.artifact import open_artifact
from serve.contract.errors import StillroomError, UsageError
from serve.contract.preprocess import preprocess
from serve.prediction import Prediction, top_predictions
from serve.runner import open_runner

__all__ = ["is_url", "predict_images"]

Classify = Callable[[bytes], Sequence[Prediction]]


def predict_images(target: str, images: list[Path], top_k: int) -> None:
    """Print the best answers for each image.

    Raises:
        UsageError: a file is missing.
        ImageError: a file is no acceptable image; those before it are answered.
    """
    with ExitStack() as stack:
        answer = _remote(target, top_k) if is_url(target) else _local(target, top_k, stack)
        for path in images:
            try:
                predictions = answer(path.read_bytes())
            except OSError as error:
                raise UsageError(f"Cannot read {path}: {error.strerror}.") from error
            except StillroomError as error:
                error.message = f"{path}: {error.message}"
                raise
            best = "  ".join(f"{p['label']} {p['probability']:.3f}" for p in predictions)
            sys.stdout.write(f"{path}  {best}\n")


def is_url(target: str) -> bool:
    """Whether a target names a service."""
    return target.startswith(("http://", "https://"))


def _remote(url: str, top_k: int) -> Classify:
    top_k = min(top_k, len(describe_model(url)["labels"]))

    def answer(data: bytes) -> list[Prediction]:
        predictions: list[Prediction] = classify(url, data, top_k=top_k)["predictions"]
        return predictions

    return answer


def _local(target: str, top_k: int, stack: ExitStack) -> Classify:
    artifact = open_artifact(Path(target))
    runner = stack.enter_context(open_runner(artifact))

    def answer(data: bytes) -> list[Prediction]:
        logits = runner.infer(preprocess(data, artifact.preprocess)[None])[0]
        return top_predictions(logits, artifact.labels, min(top_k, len(artifact.labels)))

    return answer
