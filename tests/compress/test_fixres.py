from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from timm.layers import DropPath
from torch import Tensor, nn

from compress.fixres import ClassifierAndLastNorms
from compress.fixres_stage import choose_kept, fine_tune_fixres
from compress.last_norms import find_last_norms
from compress.options import FixResOptions
from serve.contract.errors import CheckpointError, GateError, UsageError
from serve.contract.preprocess import PreprocessSpec, preprocess
from tests.train.toy import SIZE_PX, lively, state_of, toy_model, write_checkpoint
from train.data.images import LabelledImage
from train.evaluation import evaluate, predict_logits, read_predictions
from train.loader.views import pixels_of
from train.losses.objective import CrossEntropy, StepOutput
from train.models import checkpoint
from train.models.checkpoint import load_checkpoint
from train.models.classifier import ImageClassifier
from train.stage import Dataset

TEST_SIZE_PX = 40
OPTIONS = FixResOptions(test_size_px=TEST_SIZE_PX, epochs=2, lr=0.05, batch_size=12)
HEAD = {"classifier.weight", "classifier.bias"}
STATISTICS = {f"bn2.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
AFFINE = {"bn2.weight", "bn2.bias"}


@pytest.fixture(scope="module")
def student(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    write_checkpoint(folder, dataset, lively(toy_model(3)))
    return folder


# ---- what the policy leaves to learn


@pytest.mark.parametrize("affine", [True, False])
def test_the_policy_frees_the_classifier_and_the_last_norm(affine: bool) -> None:
    model = toy_model()
    policy = ClassifierAndLastNorms(("bn2",), affine=affine)
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
    policy = ClassifierAndLastNorms((), affine=True)
    policy.freeze(model)
    policy.set_mode(model)
    learning = {name for name, p in model.backbone.named_parameters() if p.requires_grad}
    assert learning == policy.may_change(model) == {"head.fc.weight", "head.fc.bias"}


class NormInHead(nn.Module):
    """A network whose two classifiers begin with a batch norm each, as LeViT's do."""

    num_classes = 2

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)) for _ in range(2)
        )

    def get_classifier(self) -> tuple[nn.Module, ...]:
        return tuple(self.heads)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).mean((2, 3))
        return (self.heads[0](x) + self.heads[1](x)) / 2


@pytest.mark.parametrize("affine", [True, False])
def test_two_classifiers_and_the_norms_in_them_are_free(affine: bool) -> None:
    model = ImageClassifier(NormInHead(), "toy", (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    norms = find_last_norms(model, 8).names
    assert norms == ("heads.0.0", "heads.1.0")
    policy = ClassifierAndLastNorms(norms, affine=affine)
    policy.freeze(model)
    policy.set_mode(model)
    learning = {name for name, p in model.backbone.named_parameters() if p.requires_grad}
    ends = ("weight", "bias")
    linear = {f"heads.{n}.1.{end}" for n in (0, 1) for end in ends}
    scales = {f"heads.{n}.0.{end}" for n in (0, 1) for end in ends}
    assert learning == linear | (scales if affine else set())
    assert policy.may_change(model) >= learning
    assert not policy.may_change(model) & ({"stem.weight"} | (set() if affine else scales))
    assert all(model.backbone.get_submodule(name).training for name in norms)


# ---- what it is trained on


@pytest.mark.parametrize("cache_mib", [64, 0])
def test_the_loop_gets_byte_for_byte_what_the_server_computes(
    dataset: Dataset, student: Path, tmp_path: Path, cache_mib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    call = CrossEntropy.__call__

    def spy(self: CrossEntropy, model: nn.Module, images: Tensor, labels: Tensor) -> StepOutput:
        assert images.dtype == torch.uint8
        seen.extend(image.numpy().tobytes() for image in images)
        return call(self, model, images, labels)

    monkeypatch.setattr(CrossEntropy, "__call__", spy)
    data = replace(dataset, cache_mib=cache_mib)  # without a cache, images are decoded anew
    fine_tune_fixres(data, student, replace(OPTIONS, crop_pct=0.8), seed=0, out=tmp_path)
    spec = PreprocessSpec(TEST_SIZE_PX, 0.8)
    photos = dataset.of_split("train")
    served = {preprocess((dataset.root / p.path).read_bytes(), spec).tobytes() for p in photos}
    assert set(seen) <= served
    assert len(seen) == 2 * (len(photos) // 12) * 12
    assert len(set(seen[: len(seen) // 2])) == len(seen) // 2  # each once an epoch


def test_the_learning_rate_is_the_papers() -> None:
    assert FixResOptions().lr == 1e-3


def test_views_that_no_server_computes_are_refused_before_training(
    dataset: Dataset, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted(root: Path, photos: list[LabelledImage], spec: PreprocessSpec) -> NDArray[np.uint8]:
        pixels = pixels_of(root, photos, spec)
        pixels[-1, 0, 0, 0] ^= 1
        return pixels

    monkeypatch.setattr("compress.fixres.pixels_of", shifted)
    with pytest.raises(GateError, match=r"would train on pixels of .* that no server computes"):
        fine_tune_fixres(dataset, student, OPTIONS, seed=0, out=tmp_path)
    assert not list(tmp_path.iterdir())


# ---- the stage


def _changed(student: Path, fixed: Path) -> set[str]:
    before, after = (state_of(load_checkpoint(folder)[0].backbone) for folder in (student, fixed))
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


@pytest.mark.parametrize("norm", ["affine", "statistics"])
def test_fixres_changes_the_classifier_and_the_last_norm_only(
    dataset: Dataset, student: Path, tmp_path: Path, norm: str
) -> None:
    options = FixResOptions(**{**vars(OPTIONS), "norm": norm})
    metrics, fields = fine_tune_fixres(dataset, student, options, seed=0, out=tmp_path)
    allowed = HEAD | STATISTICS | (AFFINE if norm == "affine" else set())
    assert _changed(student, tmp_path) == allowed
    report = json.loads((tmp_path / "fixres.json").read_bytes())
    assert report["last_norms"] == ["bn2"]
    assert report["kept"] == "fixres"
    assert set(report["proof"]["changed"]) == set(report["proof"]["free"]) == allowed
    assert fields["fixres"] == {key: report[key] for key in fields["fixres"]}
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
    written = read_predictions(tmp_path / "resized.csv").of_split("test")
    np.testing.assert_allclose(
        written.logits, resized.logits, rtol=1e-4, atol=1e-4
    )  # other batches
    assert metrics["resized_only_test_top1"] == evaluate(resized)["top1"]
    assert metrics["test_top1"] == evaluate(test)["top1"]
    np.testing.assert_allclose(predict_logits(model, pixels), test.logits, rtol=1e-4, atol=1e-4)


def test_a_tensor_that_was_not_frozen_fails_the_stage(
    dataset: Dataset, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze = ClassifierAndLastNorms.freeze

    def leaky(self: ClassifierAndLastNorms, model: ImageClassifier) -> None:
        freeze(self, model)
        model.backbone.conv_stem.requires_grad_(True)

    monkeypatch.setattr(ClassifierAndLastNorms, "freeze", leaky)
    with pytest.raises(GateError, match=r"frozen, first conv_stem\.weight") as caught:
        fine_tune_fixres(dataset, student, OPTIONS, seed=0, out=tmp_path)
    assert "bug in stillroom" in caught.value.next_step
    assert [path.name for path in tmp_path.iterdir()] == [".fixres"]  # the log; no result


def test_another_norm_that_was_left_awake_fails_the_stage(
    dataset: Dataset, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_mode = ClassifierAndLastNorms.set_mode

    def leaky(self: ClassifierAndLastNorms, model: ImageClassifier) -> None:
        set_mode(self, model)
        model.backbone.bn1.train()

    monkeypatch.setattr(ClassifierAndLastNorms, "set_mode", leaky)
    with pytest.raises(GateError, match=r"changed 3 tensors that are frozen, first bn1\.num_batch"):
        fine_tune_fixres(dataset, student, OPTIONS, seed=0, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".fixres"]


def test_dropout_that_was_left_awake_changes_no_tensor(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, out = tmp_path / "student", tmp_path / "fixres"
    out.mkdir()
    write_checkpoint(student, dataset, lively(toy_model(3)))
    build = checkpoint.build_model
    drop = lambda *args, **given: build(*args, **given, drop_path_rate=0.5)  # noqa: E731
    monkeypatch.setattr(checkpoint, "build_model", drop)
    set_mode = ClassifierAndLastNorms.set_mode

    def awake(self: ClassifierAndLastNorms, model: ImageClassifier) -> None:
        set_mode(self, model)
        for module in model.modules():
            if isinstance(module, DropPath):
                module.train()

    monkeypatch.setattr(ClassifierAndLastNorms, "set_mode", awake)
    fine_tune_fixres(dataset, student, OPTIONS, seed=0, out=out)
    assert (out / "checkpoint.safetensors").exists()


def test_a_fine_tuning_that_makes_it_worse_is_not_kept(
    dataset: Dataset, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    better, out = tmp_path / "student", tmp_path / "fixres"
    better.mkdir()
    out.mkdir()
    fine_tune_fixres(dataset, student, replace(OPTIONS, epochs=8), seed=0, out=better)
    few = replace(OPTIONS, epochs=1, lr=50.0)  # a rate at which nothing is learnt
    metrics, fields = fine_tune_fixres(dataset, better, few, seed=0, out=out)
    assert fields["fixres"]["kept"] == "student"
    assert fields["fixres"]["proof"]["changed"] == []
    assert _changed(better, out) == set()
    assert metrics["test_top1"] == metrics["resized_only_test_top1"]
    evaluation = json.loads((out / "evaluation.json").read_bytes())["training"]
    candidates = evaluation["candidates"]["fixres"]
    assert candidates["student"]["val_loss"] < candidates["fixres"]["val_loss"]
    assert evaluation["kept"] == {"fixres": "student"}
    assert "kept the student as it was" in capsys.readouterr().err


def test_a_model_without_batch_norm_gets_a_new_classifier(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student, out = tmp_path / "student", tmp_path / "fixres"
    out.mkdir()
    write_checkpoint(student, dataset, toy_model(3, arch="test_convnext"))
    fine_tune_fixres(dataset, student, OPTIONS, seed=0, out=out)
    assert "test_convnext has no batch norm" in capsys.readouterr().err
    assert _changed(student, out) == {"head.fc.weight", "head.fc.bias"}
    assert json.loads((out / "fixres.json").read_bytes())["last_norms"] == []


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


@pytest.mark.parametrize(
    ("top1", "loss", "kept"),
    [
        ((0.90, 0.91), (0.30, 0.31), "fixres"),  # surer of its errors, and right more often
        ((0.91, 0.90), (0.31, 0.30), "student"),
        ((0.90, 0.90), (0.30, 0.29), "fixres"),
        ((0.90, 0.90), (0.29, 0.30), "student"),
        ((0.90, 0.90), (0.30, 0.30), "student"),  # what changes nothing is not kept
    ],
)
def test_what_answers_val_better_is_kept(
    top1: tuple[float, float], loss: tuple[float, float], kept: str
) -> None:
    scores = [{"val_top1": t, "val_loss": x} for t, x in zip(top1, loss, strict=True)]
    assert choose_kept(dict(zip(("student", "fixres"), scores, strict=True))) == kept
