"""A graph that is not published yet, asked and judged as the server will run it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.options import ExportOptions
from export.parity.batching import batch_invariance, mixed_batch_logits
from export.parity.compare import ModelOutputs, compare_outputs
from export.parity.failed_candidate import FailedCandidate
from export.parity.predictions import outputs_of
from export.parity.verdict import Verdict
from serve.contract.artifact import MODEL, Artifact
from serve.contract.digest import sha256_of_file
from serve.runners.base import Runner
from serve.runners.open import open_runner
from train.data.dataset import Dataset
from train.data.images import LabelledImage
from train.evaluation import Predictions, predict_logits
from train.loader.views import pixels_of
from train.models.checkpoint import ModelCard
from train.models.classifier import ImageClassifier

__all__ = [
    "GateResult",
    "ReferenceModel",
    "ReferenceSet",
    "Suspicion",
    "judge_file",
    "open_candidate",
]

Suspicion = Callable[[FailedCandidate], FailedCandidate]
# Of the reference on a CPU: 64 took more CPU time, and at 224 px 0.7 GiB more memory.
BATCH = 16
DIAGNOSIS = "export.diagnose.diagnosis"  # loaded where a verdict failed


@dataclass(frozen=True)
class ReferenceModel:
    """What a graph must answer as, and what it is.

    Args:
        model: the reference: PyTorch, fp32, on the CPU.
        card: of the model.
        name: of the served model.
        precision: of the graph.
        target: runtime that the file is made for, where it is not every one; "" else.
    """

    model: ImageClassifier
    card: ModelCard
    name: str
    precision: str = "fp32"
    target: str = ""

    @property
    def title(self) -> str:
        """For messages."""
        target = f" for {self.target}" if self.target else ""
        return f"{self.precision}{target} {self.card.arch}"

    def logits_of(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, K) of the reference."""
        if not len(pixels):
            return np.zeros((0, len(self.card.labels)), np.float32)
        return predict_logits(self.model, pixels, batch=BATCH)


@dataclass(frozen=True)
class ReferenceSet:
    """Images, and what the reference predicts.

    Args:
        root: the folder that the images' paths are relative to.
        photos: N images.
        pixels: (N, size_px, size_px, 3) uint8, through the serving preprocess.
        reference: its predictions on them; without targets where the truth is not known.
    """

    root: Path
    photos: tuple[LabelledImage, ...]
    pixels: NDArray[np.uint8]
    reference: ModelOutputs

    @classmethod
    def of(
        cls, dataset: Dataset, photos: list[LabelledImage], subject: ReferenceModel
    ) -> ReferenceSet:
        """Images of a dataset."""
        pixels = pixels_of(dataset.root, photos, subject.card.preprocess)
        answered = Predictions(photos, subject.card.labels, subject.logits_of(pixels))
        return cls(dataset.root, tuple(photos), pixels, outputs_of(answered))

    @property
    def predictions(self) -> Predictions:
        """The reference's predictions, with the images."""
        return Predictions(list(self.photos), self.reference.labels, self.reference.logits)


@dataclass(frozen=True)
class GateResult:
    """What came of a graph.

    Args:
        verdict: on the images that decide.
        logits: (N, K) float32, its predictions on them.
        test: verdict on the test split, which decides nothing; None where there is none.
        runner: JSON facts of the runner.
        causes: of a failure, in sentences.
    """

    verdict: Verdict
    logits: NDArray[np.float32]
    test: Verdict | None
    runner: dict[str, Any]
    causes: list[str]


def judge_file(
    subject: ReferenceModel,
    path: Path,
    gate: ReferenceSet,
    test: ReferenceSet | None,
    options: ExportOptions,
    suspects: Suspicion | None = None,
) -> GateResult:
    """Ask a graph in batches of mixed sizes, alone, and about blank images; compare.

    Args:
        subject: what it must answer as.
        path: of the ONNX file.
        gate: images that decide.
        test: images that are only reported.
        options: limits, and the largest batch.
        suspects: adds what the caller knows to what a failure is diagnosed from; None: a failure
            is not diagnosed.

    Raises:
        ArtifactError: the graph does not fit the labels or the preprocess spec.
        GateError: the reference's own predictions are not finite.
    """
    limits, min_images = options.parity.of(subject.precision), options.parity.min_images
    with open_candidate(subject, path, options.max_batch_size) as runner:
        infer = partial(mixed_batch_logits, runner)
        logits, blank = infer(gate.pixels), _blank_images(subject.card)
        verdict = compare_outputs(
            gate.reference,
            logits,
            limits,
            min_images=min_images,
            invariance=batch_invariance(runner, gate.pixels, logits),
            blank=(subject.logits_of(blank), infer(blank)),
        )
        causes: list[str] = []
        if verdict.status == "failed" and suspects:
            known = FailedCandidate(
                gate.reference,
                logits,
                gate.pixels,
                infer,
                limits,
                model=path,
                normalisation=(subject.card.mean, subject.card.std),
            )
            diagnosis = import_module(DIAGNOSIS)
            causes = diagnosis.explain(diagnosis.diagnose(suspects(known)))
        report = None
        if test and test.photos:
            report = compare_outputs(
                test.reference, infer(test.pixels), limits, min_images=min_images
            )
        return GateResult(verdict, logits, report, runner.describe(), causes)


@contextmanager
def open_candidate(subject: ReferenceModel, path: Path, max_batch_size: int) -> Iterator[Runner]:
    """The runner that will serve, on a file that is not published yet."""
    with tempfile.TemporaryDirectory(prefix="stillroom-") as folder:
        (Path(folder) / MODEL).symlink_to(path.resolve())
        artifact = Artifact(
            root=Path(folder),
            name="candidate",
            version="",
            digest="",
            labels=subject.card.labels,
            preprocess=subject.card.preprocess,
            precision=subject.precision,
            golden_atol=0.0,
            manifest={"files": {MODEL: sha256_of_file(path)}},
        )
        with open_runner(artifact, max_batch_size=max_batch_size) as runner:
            yield runner


def _blank_images(card: ModelCard) -> NDArray[np.uint8]:
    """(2, size_px, size_px, 3): all black, all white."""
    side = card.preprocess.size_px
    return np.stack([np.full((side, side, 3), level, np.uint8) for level in (0, 255)])
