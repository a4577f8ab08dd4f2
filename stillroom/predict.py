"""`stillroom predict`: the same answer from an artifact here and from a service elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from serve.client import classify, describe_model
from serve.contract.artifact import open_artifact
from serve.contract.errors import ImageError, ServiceError, UsageError
from serve.contract.preprocess import preprocess
from serve.prediction import Prediction, top_predictions
from stillroom.local_runner import open_local_runner

__all__ = ["is_url", "predict_images"]

Classify = Callable[[bytes], Sequence[Prediction]]
SHOWN = 3


def predict_images(target: str, images: list[Path], top_k: int) -> None:
    """Print the best answers for each image; of a file without one, why, and go on.

    Raises:
        UsageError: files could not be read, or are no acceptable images; the others are answered.
        ServiceError: the service is not there, or not ours.
    """
    unanswered = []
    with ExitStack() as stack:
        answer = _remote(target, top_k) if is_url(target) else _local(target, top_k, stack)
        for path in images:
            try:
                predictions = answer(path.read_bytes())
            except (OSError, ImageError, ServiceError) as error:
                if isinstance(error, ServiceError) and not error.slug:
                    raise
                why = f"{error.strerror}." if isinstance(error, OSError) else error
                sys.stderr.write(f"error: {path}: {why}\n")
                unanswered.append(path)
                continue
            best = "  ".join(f"{p['label']} {p['probability']:.3f}" for p in predictions)
            sys.stdout.write(f"{path}  {best}\n")
    if unanswered:
        names = ", ".join(map(str, unanswered[:SHOWN]))
        more = f" and {len(unanswered) - SHOWN} more" if len(unanswered) > SHOWN else ""
        raise UsageError(f"{len(unanswered)} of {len(images)} files have no answer: {names}{more}.")


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
    runner = stack.enter_context(open_local_runner(artifact))

    def answer(data: bytes) -> list[Prediction]:
        logits = runner.infer(preprocess(data, artifact.preprocess)[None])[0]
        return top_predictions(logits, artifact.labels, min(top_k, len(artifact.labels)))

    return answer
