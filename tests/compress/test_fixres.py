from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from compress.fixres import ClassifierAndLastNorm, changed_tensors, last_norm, tensor_digests
from compress.fixres_stage import fine_tune_fixres
from compress.options import FixResOptions
from serve.contract.errors import CheckpointError, StillroomError, UsageError
from serve.contract.preprocess import PreprocessSpec
from tests.train.toy import SIZE_PX, lively, same_tensors, state_of, toy_model, write_checkpoint
from train.batches import pixels_of
from train.checkpoint import load_checkpoint
from train.evaluate import evaluate, predict_logits, read_predictions
from train.models import PhotoClassifier, build_model
from train.stage import Dataset

TEST_SIZE_PX = 40
OPTIONS = FixResOptions(test_size_px=TEST_SIZE_PX, epochs=2, lr=0.05, batch_size=12)
HEAD = {"classifier.weight", "classifier.bias"}
STATISTICS = {f"bn2.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
AFFINE = {"bn2.weight", "bn2.bias"}


# ---- which norm is the last


@pytest.mark.parametrize(
    ("arch", "name"),
    [
        ("test_efficientnet", "bn2"),
        ("resnet18", "layer4.1.bn2"),
        ("mobilenetv3_small_050", "blocks.5.0.bn1"),
        ("regnetx_002", "s4.b7.conv3.bn"),
        ("efficientnet_lite0", "bn2"),
        ("test_convnext", None),
        ("test_vit", None),
    ],
)
def test_the_last_norm_is_the_one_that_runs_last(arch: str, name: str | None) -> None:
    model = build_model(arch, 3, size_px=SIZE_PX)
    assert last_norm(model, SIZE_PX) == name
    if name is not None:
        assert isinstance(model.backbone.get_submodule(name), _BatchNorm)


class Backwards(nn.Module):
    """Declares its norms in another order than it runs them, and one that it never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.late, self.early, self.never = (nn.BatchNorm2d(3) for _ in range(3))
        self.head = nn.Linear(3, 2)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.late(self.early(x)).mean((2, 3)))


def test_execution_counts_and_not_the_order_of_declaration() -> None:
    model = PhotoClassifier(Backwards(), "backwards", (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)).train()
    before = state_of(model)
    assert last_norm(model, 8) == "late"
    assert model.training
    assert same_tensors(state_of(model), before)
    assert not any(module._forward_hooks for module in model.modules())


# ---- what the policy leaves to learn


@pytest.mark.parametrize("affine", [True, False])
def test_the_policy_frees_the_classifier_and_the_last_norm(affine: bool) -> None:
    model = toy_model()
    policy = ClassifierAndLastNorm("bn2", affine=affine)
    policy.freeze(model)
    policy.set_mode(model)
    learning = {name for name, p in model.backbone.named_parameters() if p.requires_grad}
    assert learning == HEAD | (AFFINE if affine else set())
    assert policy.may_change(model) == HEAD | STATISTICS | (AFFINE if affine else set())
    awake = {name for name, module in model.backbone.named_modules() if module.training}
    assert {"classifier", "bn2"} <= awake
    assert all(name == "classifier" or name.split(".")[0] == "bn2" for name in awake)


def test_without_a_norm_the_classifier_alone_is_free() -> None:
    model = toy_model(arch="test_convnext")
    policy = ClassifierAndLastNorm(None, affine=True)
    policy.freeze(model)
    policy.set_mode(model)
    learning = {name for name, p in model.backbone.named_parameters() if p.requires_grad}
    assert learning == policy.may_change(model) == {"head.fc.weight", "head.fc.bias"}


# ---- the proof


def test_the_proof_names_what_changed_and_sums_up_what_did_not() -> None:
    model = toy_model()
    before = tensor_digests(model.backbone)
    with torch.no_grad():
        model.backbone.classifier.bias += 1
    proof = changed_tensors(before, tensor_digests(model.backbone), allowed=HEAD)
    assert proof["changed"] == ["classifier.bias"]
    assert proof["frozen_tensors"] == len(before) - 2
    again = changed_tensors(before, before, allowed=HEAD)
    assert again["frozen_digest"] == proof["frozen_digest"]
    assert again["changed"] == []


def test_a_change_of_one_bit_fails_the_proof() -> None:
    model = toy_model()
    before = tensor_digests(model.backbone)
    with torch.no_grad():
        weight = model.backbone.conv_stem.weight
        weight[0, 0, 0, 0] = torch.nextafter(weight[0, 0, 0, 0], torch.tensor(9.0))
    with pytest.raises(StillroomError, match=r"1 tensors that are frozen, first conv_stem\.weight"):
        changed_tensors(before, tensor_digests(model.backbone), allowed=HEAD)


# ---- the stage


@pytest.fixture(scope="module")
def student(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    write_checkpoint(folder, dataset, lively(toy_model(3)))
    return folder


def _changed(student: Path, fixed: Path) -> set[str]:
    before, after = (state_of(load_checkpoint(folder)[0].backbone) for folder in (student, fixed))
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


@pytest.mark.parametrize("norm", ["affine", "statistics"])
def test_fixres_changes_the_classifier_and_the_last_norm_only(
    dataset: Dataset, student: Path, tmp_path: Path, norm: str
) -> None:
    options = FixResOptions(**{**vars(OPTIONS), "norm": norm})
    metrics = fine_tune_fixres(dataset, student, options, seed=0, out=tmp_path)
    allowed = HEAD | STATISTICS | (AFFINE if norm == "affine" else set())
    assert _changed(student, tmp_path) == allowed
    report = json.loads((tmp_path / "fixres.json").read_bytes())
    assert report["last_norm"] == "bn2"
    assert set(report["proof"]["changed"]) == allowed
    model, card = load_checkpoint(tmp_path)
    assert card.preprocess == PreprocessSpec(TEST_SIZE_PX, 1.0)
    assert card.train_size_px == SIZE_PX
    assert card.flops > load_checkpoint(student)[1].flops
    # What FixRes is judged against: the student, unchanged, at the new size.
    unchanged, _ = load_checkpoint(student)
    test = read_predictions(tmp_path / "predictions.csv").of_split("test")
    pixels = pixels_of(dataset.root, test.photos, card.preprocess)
    resized = type(test)(test.photos, test.labels, predict_logits(unchanged, pixels))
    assert report["resized_only"]["test"]["hits"] == evaluate(resized)["hits"]
    assert metrics["resized_only_test_top1"] == evaluate(resized)["top1"]
    assert metrics["test_top1"] == evaluate(test)["top1"]
    np.testing.assert_allclose(predict_logits(model, pixels), test.logits, rtol=1e-4, atol=1e-4)


def test_a_tensor_that_was_not_frozen_fails_the_stage(
    dataset: Dataset, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze = ClassifierAndLastNorm.freeze

    def leaky(self: ClassifierAndLastNorm, model: PhotoClassifier) -> None:
        freeze(self, model)
        model.backbone.conv_stem.requires_grad_(True)

    monkeypatch.setattr(ClassifierAndLastNorm, "freeze", leaky)
    with pytest.raises(StillroomError, match=r"frozen, first conv_stem\.weight") as caught:
        fine_tune_fixres(dataset, student, OPTIONS, seed=0, out=tmp_path)
    assert "bug in stillroom" in caught.value.next_step
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_a_norm_that_was_left_awake_fails_the_stage(
    dataset: Dataset, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClassifierAndLastNorm, "set_mode", lambda self, model: model.train())
    with pytest.raises(StillroomError, match=r"frozen, first .*(num_batches|running_)"):
        fine_tune_fixres(dataset, student, OPTIONS, seed=0, out=tmp_path)


def test_a_model_without_batch_norm_gets_a_new_classifier(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student, out = tmp_path / "student", tmp_path / "fixres"
    out.mkdir()
    write_checkpoint(student, dataset, toy_model(3, arch="test_convnext"))
    fine_tune_fixres(dataset, student, OPTIONS, seed=0, out=out)
    assert "test_convnext has no batch norm" in capsys.readouterr().err
    assert _changed(student, out) == {"head.fc.weight", "head.fc.bias"}
    assert json.loads((out / "fixres.json").read_bytes())["last_norm"] is None


def test_a_model_bound_to_its_size_is_refused_before_it_is_trained(
    dataset: Dataset, tmp_path: Path
) -> None:
    student = tmp_path / "student"
    write_checkpoint(student, dataset, toy_model(3, arch="test_vit3"))
    with pytest.raises(UsageError, match="test_vit3 was built for one size"):
        fine_tune_fixres(
            dataset, student, FixResOptions(test_size_px=48), seed=0, out=tmp_path / "out"
        )


def test_a_student_of_other_photographs_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    student = tmp_path / "student"
    other = Dataset(dataset.root, dataset.photos[1:])
    write_checkpoint(student, other, toy_model())
    with pytest.raises(CheckpointError, match="was trained on dataset"):
        fine_tune_fixres(dataset, student, OPTIONS, seed=0, out=tmp_path)
