from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

import export.stage
from export.onnx_graph import write_graph
from export.options import ExportOptions, ParityLimits
from export.stage import export_artifact
from serve.contract.artifact import open_artifact
from serve.contract.errors import CheckpointError, GateError
from serve.contract.manifest import write_manifest
from serve.contract.preprocess import preprocess
from serve.model.golden_check import load_golden
from serve.runners.open import open_runner
from tests.export.conftest import Exported
from tests.train.toy import lively, toy_model
from train.evaluation import read_predictions, write_predictions
from train.models.checkpoint import ModelCard
from train.models.classifier import ImageClassifier

pytestmark = pytest.mark.e2e

Writer = Callable[..., None]
OPTIONS = ExportOptions(golden_images=6, max_batch_size=5)


@pytest.fixture
def ready(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the graph that is there already: writing one takes seconds."""

    def write(model: ImageClassifier, card: ModelCard, path: Path, *, opset: int) -> None:
        shutil.copy(exported.graph, path)

    monkeypatch.setattr(export.stage, "write_graph", write)


def _export(
    exported: Exported, out: Path, options: ExportOptions = OPTIONS, source: Path | None = None
) -> tuple[dict[str, float], dict[str, Any]]:
    out.mkdir(exist_ok=True)
    return export_artifact(
        exported.dataset, source or exported.folder, options, name="toys", out=out
    )


def test_an_artifact_is_written_that_answers_as_the_checkpoint(
    exported: Exported, tmp_path: Path
) -> None:
    metrics, fields = _export(exported, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "flips.csv",
        "golden",
        "model.onnx",
        "parity.json",
        "reference.csv",
    }
    parity = json.loads((tmp_path / "parity.json").read_bytes())
    assert parity == fields["parity"]
    assert (parity["status"], parity["images"], parity["flips"]) == ("passed", 312, 0)
    assert parity["images_of"] == {"val": 312}
    assert (parity["test"]["images"], parity["test"]["flips"]) == (39, 0)
    assert parity["snr_db"] > 100
    assert parity["runner"]["provider"] == "CPUExecutionProvider"
    assert metrics["parity_images"] == 312
    assert metrics["model_bytes"] == (tmp_path / "model.onnx").stat().st_size
    assert fields["opset"] == 20
    assert fields["labels"] == ["aster", "bell", "clover"]
    # What the server's side makes of it:
    write_manifest(tmp_path, {"kind": "artifact", **fields})
    artifact = open_artifact(tmp_path)
    golden = load_golden(artifact)
    assert len(golden) == 6
    with open_runner(artifact) as runner:
        for image in golden:
            pixels = preprocess(image.path.read_bytes(), artifact.preprocess)[None]
            assert abs(runner.infer(pixels)[0] - image.logits).max() < artifact.golden_atol


@pytest.mark.usefixtures("ready")
def test_two_exports_give_equal_files(exported: Exported, tmp_path: Path) -> None:
    for name in ("one", "two"):
        _export(exported, tmp_path / name)
    one, two = (
        {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        for root in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two


@pytest.mark.usefixtures("ready")
def test_few_images_are_published_as_inconclusive(exported: Exported, tmp_path: Path) -> None:
    limits = ParityLimits(min_images=1000)
    _, fields = _export(exported, tmp_path, ExportOptions(parity=limits, golden_images=2))
    assert fields["parity"]["status"] == "inconclusive"
    assert fields["parity"]["reasons"] == ["351 images < 1000"]
    assert fields["parity"]["images_of"] == {"train": 39, "val": 312}


@pytest.mark.usefixtures("ready")
def test_few_images_are_not_enough_where_a_verdict_is_asked_for(
    exported: Exported, tmp_path: Path
) -> None:
    options = ExportOptions(parity=ParityLimits(min_images=1000), strict=True)
    with pytest.raises(
        GateError, match="PARITY INCONCLUSIVE fp32 test_efficientnet: 351"
    ) as caught:
        _export(exported, tmp_path, options)
    assert "Give more images" in caught.value.next_step
    assert not (tmp_path / "golden").exists()


# ---- planted faults


def _perturbed(model: ImageClassifier) -> ImageClassifier:
    with torch.no_grad():
        model.backbone.conv_stem.weight[0, 0, 0, 0] += 0.05
    return model


def _other_mean(model: ImageClassifier) -> ImageClassifier:
    return ImageClassifier(model.backbone, model.arch, (0.5, 0.5, 0.5), model.std)


class SwapChannels(torch.nn.Module):
    def __init__(self, backbone: torch.nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.backbone(x.flip(1))


def _swapped_channels(model: ImageClassifier) -> ImageClassifier:
    return ImageClassifier(SwapChannels(model.backbone), model.arch, model.mean, model.std)


def _swapped_labels(model: ImageClassifier) -> ImageClassifier:
    head = model.backbone.classifier
    with torch.no_grad():
        head.weight.copy_(head.weight[[1, 0, 2]])
        head.bias.copy_(head.bias[[1, 0, 2]])
    return model


def _not_a_number(model: ImageClassifier) -> ImageClassifier:
    with torch.no_grad():
        model.backbone.classifier.bias[1] = float("nan")
    return model


def _writer(fault: Callable[[ImageClassifier], ImageClassifier]) -> Writer:
    def write(model: ImageClassifier, card: ModelCard, path: Path, *, opset: int) -> None:
        del model  # whatever the exporter makes of it, the file holds another
        write_graph(fault(lively(toy_model(4))).eval(), card, path, opset=opset)

    return write


def test_the_writer_of_faults_is_itself_sound(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.stage, "write_graph", _writer(lambda model: model))
    assert _export(exported, tmp_path)[0]["parity_snr_db"] > 100


@pytest.mark.parametrize(
    "fault",
    [_perturbed, _swapped_channels, _other_mean, _swapped_labels, _not_a_number],
    ids=lambda fault: fault.__name__[1:],
)
def test_a_graph_that_answers_otherwise_is_not_published(
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[ImageClassifier], ImageClassifier],
) -> None:
    monkeypatch.setattr(export.stage, "write_graph", _writer(fault))
    with pytest.raises(GateError, match="PARITY FAIL fp32 test_efficientnet: ") as caught:
        _export(exported, tmp_path)
    message = caught.value.message
    assert "of 312 predictions agree" in message
    assert ".jpg" in message
    assert "dB <" in message
    # The evidence stays beside the graph.
    parity = json.loads((tmp_path / "parity.json").read_bytes())
    assert parity["status"] == "failed"
    assert parity["reasons"]
    with (tmp_path / "flips.csv").open(newline="") as file:
        flips = list(csv.DictReader(file))
    flips = [flip for flip in flips if flip["asked_for"] == "gate"]
    assert len(flips) == parity["flips"] == 312 - round(parity["agreement"] * 312)
    assert (tmp_path / "model.onnx").is_file()
    assert not (tmp_path / "golden").exists()
    assert not (tmp_path / "reference.csv").exists()


def test_a_graph_of_another_form_is_not_published(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(model: ImageClassifier, card: ModelCard, path: Path, *, opset: int) -> None:
        graph = onnx.load(exported.graph)
        graph.graph.input[0].name = "pixels"
        onnx.save(graph, path)

    monkeypatch.setattr(export.stage, "write_graph", write)
    with pytest.raises(GateError, match="PARITY FAIL structure"):
        _export(exported, tmp_path)


# ---- the checkpoint is the one that was evaluated


@pytest.fixture
def source(exported: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported.folder, tmp_path / "source"))


@pytest.mark.usefixtures("ready")
def test_rounding_of_another_machine_is_no_reason_to_stop(
    exported: Exported, source: Path, tmp_path: Path
) -> None:
    trained = read_predictions(source / "predictions.csv")
    trained.logits[:] *= 1 + 1e-6
    write_predictions(source / "predictions.csv", trained)
    _export(exported, tmp_path / "out", source=source)


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("change", ["answers", "images", "labels"])
def test_a_checkpoint_that_no_longer_answers_as_evaluated_is_not_exported(
    exported: Exported, source: Path, tmp_path: Path, change: str
) -> None:
    trained = read_predictions(source / "predictions.csv")
    if change == "answers":
        trained.logits[-1] = trained.logits[-1][::-1]
    elif change == "images":
        trained.photos[-1], trained.photos[-2] = trained.photos[-2], trained.photos[-1]
    else:
        trained = type(trained)(trained.photos, trained.labels[::-1], trained.logits)
    write_predictions(source / "predictions.csv", trained)
    with pytest.raises(GateError, match=r"no longer answers as its predictions\.csv says"):
        _export(exported, tmp_path / "out", source=source)


def test_a_missing_checkpoint_is_named(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No checkpoint in"):
        _export(exported, tmp_path / "out", source=tmp_path)
