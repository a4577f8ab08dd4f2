"""Parity over HTTP: files of test images through the live service, against offline predictions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from serve.client import classify_many, describe_model
from serve.contract.digest import canonical_json, sha256_of_bytes
from serve.contract.errors import GateError
from serve.process.launch import running_server
from serve.settings import Settings
from stillroom.run.stage_graph import Context
from train.data.image_bytes import read_bytes
from train.data.own_images import is_refused_by_service
from train.engine.progress import say
from train.evaluation import Predictions, read_predictions

__all__ = ["check_http_parity", "compare_answers", "settings_of"]

SHOWN = 3


def check_http_parity(context: Context) -> dict[str, Any]:
    """Send every test image, unchanged and concurrently, and compare each answer.

    Writes http_parity.json.

    Returns:
        Headline metrics.

    Raises:
        GateError: an answer over HTTP is not the offline answer, or a file changed meanwhile.
    """
    source = context.recipe.export.source
    reference = read_predictions(context.run.stage(source) / "predictions.csv").of_split("test")
    blobs = [read_bytes(context.photos / photo.path) for photo in reference.photos]
    for photo, data in zip(reference.photos, blobs, strict=True):
        if sha256_of_bytes(data) != photo.sha256:
            raise GateError(f"{photo.path} changed while the run was under way.", "Run again.")
    refused = {i for i, data in enumerate(blobs) if is_refused_by_service(data)}
    reference, blobs = _without(reference, blobs, refused)
    artifact = context.run.stage("artifact")
    log_path = context.out / "server.log"
    with running_server(artifact, log_path=log_path, settings=settings_of(context)) as url:
        backend = describe_model(url)["backend"]
        answers = classify_many(
            url, blobs, context.recipe.serve.concurrency, top_k=len(reference.labels)
        )
    log_path.unlink()
    result = compare_answers(reference, answers) | ({"refused": len(refused)} if refused else {})
    (context.out / "http_parity.json").write_bytes(canonical_json({"backend": backend, **result}))
    if result["flips"]:
        worst = "; ".join(
            f"{flip['path']} {flip['offline']!r} -> {flip['http']!r}"
            for flip in result["flips"][:SHOWN]
        )
        raise GateError(
            f"PARITY FAIL http: {result['agree']} of {result['images']} predictions over HTTP are "
            f"the offline ones. Flips: {worst}.",
            "Nothing was published.",
        )
    say(
        f"  parity over HTTP: {result['agree']} of {result['images']} predictions equal, largest "
        f"difference of a probability {result['max_probability_diff']:.1e}"
    )
    return {key: result[key] for key in ("images", "agree", "max_probability_diff")}


def _without(
    reference: Predictions, blobs: list[bytes], refused: set[int]
) -> tuple[Predictions, list[bytes]]:
    """Without the images that the service refuses for their size, which is said."""
    if not refused:
        return reference, blobs
    if len(refused) == len(blobs):
        raise GateError(
            "The service refuses every test image at its default limits: no parity over HTTP.",
            "Train on images of the size that will be sent; or stop before with --until export.",
        )
    say(
        f"  {len(refused)} test images are larger than the service takes by default: not sent "
        "(STILLROOM_MAX_MEGAPIXELS raises its limit)"
    )
    kept = [i for i in range(len(blobs)) if i not in refused]
    photos = [reference.photos[i] for i in kept]
    return Predictions(photos, reference.labels, reference.logits[kept]), [blobs[i] for i in kept]


def compare_answers(reference: Predictions, answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare predictions of the service with offline logits.

    Args:
        reference: N images with offline logits.
        answers: N answers of /v1/classify with all K labels.

    Returns:
        images, agree, flips (path, offline, http, margin), max_probability_diff and the digests of
        the models that answered.
    """
    offline = softmax(reference.logits.astype(np.float64), axis=1)
    flips, worst = [], 0.0
    for i, answer in enumerate(answers):
        probabilities = _probabilities(answer, reference.labels)
        worst = max(worst, float(np.abs(probabilities - offline[i]).max()))
        before = reference.labels[int(reference.predicted[i])]
        after = answer["predictions"][0]["label"]
        if before != after:
            row = reference.logits[i]
            margin = float(row.max() - row[reference.labels.index(after)])
            path = reference.photos[i].path
            flips.append({"path": path, "offline": before, "http": after, "margin": margin})
    return {
        "images": len(answers),
        "agree": len(answers) - len(flips),
        "flips": flips,
        "max_probability_diff": worst,
        "digests": sorted({answer["model"]["digest"] for answer in answers}),
    }


def settings_of(context: Context) -> Settings:
    """The service's settings as the recipe says."""
    serve = context.recipe.serve
    return Settings(
        artifact=context.run.stage("artifact"),
        backend=serve.backend,
        threads=serve.threads,
        decode_threads=serve.decode_threads,
        max_batch=serve.max_batch,
    )


def _probabilities(answer: dict[str, Any], labels: tuple[str, ...]) -> NDArray[np.float64]:
    found = {entry["label"]: entry["probability"] for entry in answer["predictions"]}
    return np.array([found.get(label, math.nan) for label in labels])
