"""`stillroom predict`: the same answer from an artifact here and from a service elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from serve.client import classify, describe_model
from serve.contract.artifact import open_artifact
from serve.contract.errors import ImageError, ServiceError, UsageError
from serve.contract.preprocess import NO_LIMITS, preprocess
from serve.model.predictions import Prediction, top_predictions
from stillroom.commands.arguments import Target
from stillroom.commands.stale import say_if_stale
from stillroom.console import show, show_error
from stillroom.run.artifacts import open_local_runner

__all__ = ["is_url", "predict", "predict_images"]

Classify = Callable[[bytes], Sequence[Prediction]]
SHOWN = 3
AT_ONCE = 4  # requests to a service


def predict(
    target: Target,
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    top_k: Annotated[int, typer.Option(min=1, help="Answers per image.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each image.")] = False,
) -> None:
    """Classify image files, here or through a running service.

    A busy service is asked again when it says so; other files are not held up by one that fails.

    Example: stillroom predict runs/mine photo.jpg
    """
    if not is_url(target):
        say_if_stale(Path(target))
    predict_images(target, images, top_k, as_json=as_json)


def predict_images(target: str, images: list[Path], top_k: int, *, as_json: bool = False) -> None:
    """Print the best predictions for each image; of a file without one, why, and go on.

    Args:
        target: run or artifact folder, or URL of a service, which is asked for several at once.
        images: files.
        top_k: answers of each.
        as_json: a line of JSON for each, also for those without an answer: `file`, and
            `predictions` or `error`.

    Raises:
        UsageError: files could not be read, or are no acceptable images; the others are answered.
        ServiceError: the service is not there, or not ours.
    """
    unanswered = []
    with ExitStack() as stack:
        answer = _remote(target, top_k) if is_url(target) else _local(target, top_k, stack)
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE if is_url(target) else 1))
        for path, found in zip(images, pool.map(partial(_tried, answer), images), strict=True):
            if isinstance(found, str):
                unanswered.append(path)
            _show(path, found, as_json=as_json)
    if unanswered:
        names = ", ".join(map(str, unanswered[:SHOWN]))
        more = f" and {len(unanswered) - SHOWN} more" if len(unanswered) > SHOWN else ""
        raise UsageError(f"{len(unanswered)} of {len(images)} files have no answer: {names}{more}.")


def _tried(answer: Classify, path: Path) -> Sequence[Prediction] | str:
    """The predictions of a file, or why it has none."""
    try:
        return answer(path.read_bytes())
    except OSError as error:
        return f"{error.strerror}."
    except ServiceError as error:
        if not error.slug:
            raise
        return str(error)
    except ImageError as error:
        return str(error)


def _show(path: Path, found: Sequence[Prediction] | str, *, as_json: bool) -> None:
    if as_json:
        member = "error" if isinstance(found, str) else "predictions"
        show(json.dumps({"file": str(path), member: found}))
    elif isinstance(found, str):
        show_error(f"error: {path}: {found}")
    else:
        best = "  ".join(f"{p['label']} {p['probability']:.3f}" for p in found)
        show(f"{path}  {best}")


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
        logits = runner.infer(preprocess(data, artifact.preprocess, NO_LIMITS)[None])[0]
        return top_predictions(logits, artifact.labels, min(top_k, len(artifact.labels)))

    return answer
