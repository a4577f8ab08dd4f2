from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from export.onnx_graph import write_graph
from tests.train.toy import (
    SIZE_PX,
    lively,
    open_dataset,
    toy_model,
    write_checkpoint,
    write_photos,
)
from train.evaluation import Predictions, predict_logits, write_predictions
from train.loader.views import pixels_of
from train.models.checkpoint import ModelCard
from train.models.classifier import ImageClassifier
from train.options import DataOptions
from train.stage import Dataset


@dataclass(frozen=True)
class Exported:
    """A checkpoint with 312 val and 39 test images, and its graph. Read only."""

    dataset: Dataset
    folder: Path
    model: ImageClassifier
    card: ModelCard
    graph: Path
    reference: Predictions


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    base = tmp_path_factory.mktemp("export")
    root = write_photos(base / "photos", count=130)
    dataset = open_dataset(root, base / "data", options=DataOptions(0.8, 0.1))
    model = lively(toy_model(4))
    folder = base / "student"
    card = write_checkpoint(folder, dataset, model)
    photos = dataset.of_split("val") + dataset.of_split("test")
    logits = predict_logits(model, pixels_of(root, photos, card.preprocess))
    predictions = Predictions(photos, dataset.labels, logits)
    write_predictions(folder / "predictions.csv", predictions)
    graph = base / "model.onnx"
    write_graph(model, card, graph, opset=20)
    assert card.preprocess.size_px == SIZE_PX
    return Exported(dataset, folder, model, card, graph, predictions.of_split("val"))
