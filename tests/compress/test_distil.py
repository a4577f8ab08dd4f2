from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from compress.distil import Distillation, DistilLoss, kd_loss
from compress.options import DistilOptions
from compress.stage import distil_student
from serve.contract.errors import CheckpointError
from tests.train.toy import (
    PATIENT,
    SIZE_PX,
    card_of,
    fast,
    lively,
    same_tensors,
    state_of,
    toy_model,
    toy_views,
    write_checkpoint,
)
from train.augment.mixup import Mix
from train.engine.loop import Phase, fit
from train.engine.plan import PhaseOptions
from train.evaluation import Predictions, predict_logits, read_predictions, write_predictions
from train.losses.label_loss import LabelLoss
from train.models.checkpoint import save_checkpoint
from train.models.classifier import ImageClassifier
from train.models.freeze import TrainAll
from train.stage import Dataset, train_teacher

IMAGES = torch.randint(
    0, 256, (6, SIZE_PX, SIZE_PX, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
SEEDS = st.integers(0, 10**6)


def _logits(seed: int, scale: float = 3.0) -> Tensor:
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(seed)) * scale


# ---- the loss


@PATIENT
@given(SEEDS, st.floats(0.5, 20), st.floats(0.1, 20))
def test_a_student_that_equals_its_teacher_has_no_loss_and_no_gradient(
    seed: int, temperature: float, scale: float
) -> None:
    teacher = _logits(seed, scale)
    student = teacher.clone().requires_grad_()
    loss = kd_loss(student, teacher, temperature=temperature)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-4)
    assert student.grad.abs().max().item() < 1e-5 * max(1, temperature)


@PATIENT
@given(SEEDS, st.floats(0.5, 20))
def test_any_other_student_has_a_loss_that_a_shift_of_its_logits_does_not_change(
    seed: int, temperature: float
) -> None:
    student, teacher = _logits(seed), _logits(seed + 1)
    loss = kd_loss(student, teacher, temperature=temperature)
    assert loss > 0
    shifted = kd_loss(student + 7, teacher, temperature=temperature)
    torch.testing.assert_close(shifted, loss, rtol=1e-4, atol=1e-5)  # float32, times T squared


def test_the_loss_is_the_divergence_of_the_formula() -> None:
    student, teacher, t = _logits(1).double(), _logits(2).double(), 3.0
    p, q = (teacher / t).softmax(1), (student / t).softmax(1)
    expected = (p * (p / q).log()).sum(1).mean() * t**2
    assert kd_loss(student, teacher, temperature=t).item() == pytest.approx(expected.item(), 1e-5)


@PATIENT
@given(SEEDS, st.floats(4, 80))
def test_the_square_of_the_temperature_keeps_the_gradient_at_one_size(
    seed: int, temperature: float
) -> None:
    student, teacher = _logits(seed, 0.1).requires_grad_(), _logits(seed + 1, 0.1)
    kd_loss(student, teacher, temperature=temperature).backward()
    # For high temperatures the gradient tends to (student - teacher) / K, both centred.
    difference = student.detach() - teacher
    limit = (difference - difference.mean(1, keepdim=True)) / 4 / 5
    assert (student.grad - limit).norm() < 0.05 * limit.norm()


def test_the_teacher_is_a_constant() -> None:
    teacher = _logits(5).requires_grad_()
    kd_loss(_logits(6).requires_grad_(), teacher, temperature=2.0).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_of_zero_or_less_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature = {temperature}: expected more than 0"):
        kd_loss(_logits(1), _logits(2), temperature=temperature)
    with pytest.raises(ValueError, match=f"temperature = {temperature}: expected more than 0"):
        Distillation(toy_model(), kd_weight=0.5, temperature=temperature)


def test_logits_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(5, 4\) and teacher logits \(5, 3\) differ"):
        kd_loss(_logits(1), _logits(2)[:, :3], temperature=2.0)


# ---- the objective


@PATIENT
@given(SEEDS, st.floats(0, 1), st.floats(0, 1))
def test_a_small_change_of_the_weight_is_a_small_change_of_the_loss(
    seed: int, one: float, other: float
) -> None:
    student, teacher = _logits(seed), _logits(seed + 1)
    losses = [
        DistilLoss(weight, 2.0)(student, teacher, torch.tensor([0, 1, 2, 3, 0])).loss.item()
        for weight in (0.0, 1.0, one, other)
    ]
    steepness = losses[1] - losses[0]
    assert losses[2] - losses[3] == pytest.approx(steepness * (one - other), abs=1e-4)


def _loss(kd_weight: float, student: ImageClassifier, teacher: ImageClassifier) -> float:
    objective = Distillation(teacher, kd_weight=kd_weight, temperature=2.0)
    return objective(student, IMAGES, LABELS).loss.item()


def test_the_weight_leads_continuously_from_the_labels_to_the_teacher() -> None:
    student, teacher = lively(toy_model(1)), lively(toy_model(2))
    ce = F.cross_entropy(student(IMAGES), LABELS).item()
    kd = kd_loss(student(IMAGES), teacher(IMAGES), temperature=2.0).item()
    assert _loss(0.0, student, teacher) == pytest.approx(ce)
    assert _loss(1.0, student, teacher) == pytest.approx(kd)
    for weight in (0.1, 0.5, 0.9):
        mixed = _loss(weight, student, teacher)
        assert mixed == pytest.approx(weight * kd + (1 - weight) * ce, rel=1e-5)


def test_the_terms_are_named_and_detached() -> None:
    student, teacher = lively(toy_model(1)), lively(toy_model(2))
    output = Distillation(teacher, kd_weight=0.5, temperature=2.0)(student, IMAGES, LABELS)
    assert set(output.terms) == {"kd", "ce", "agreement"}
    assert not any(term.requires_grad for term in output.terms.values())
    agree = (student(IMAGES).argmax(1) == teacher(IMAGES).argmax(1)).float().mean()
    assert output.terms["agreement"] == agree


@pytest.mark.parametrize("kd_weight", [-0.1, 1.1])
def test_a_weight_outside_zero_to_one_is_refused(kd_weight: float) -> None:
    with pytest.raises(ValueError, match=f"kd_weight = {kd_weight}: expected 0 to 1"):
        Distillation(toy_model(), kd_weight=kd_weight, temperature=2.0)


def test_a_loss_on_the_labels_takes_the_place_of_cross_entropy() -> None:
    student, teacher = lively(toy_model(1)), lively(toy_model(2))
    focal = LabelLoss(gamma=2.0, label_smoothing=0.1, weights=torch.tensor([0.5, 1.0, 1.5]))
    objective = Distillation(teacher, kd_weight=0.25, temperature=2.0, label_loss=focal)
    output = objective(student, IMAGES, LABELS)
    assert set(output.terms) == {"kd", "focal", "agreement"}
    expected = focal(student(IMAGES), LABELS)
    torch.testing.assert_close(output.terms["focal"], expected.detach())
    kd = output.terms["kd"]
    torch.testing.assert_close(output.loss, 0.25 * kd + 0.75 * expected)


def test_of_mixed_images_both_see_the_mixture_and_the_target_is_mixed() -> None:
    torch.manual_seed(0)
    images, targets = Mix(3, mixup=1.0)(IMAGES, LABELS)
    student, teacher = Spy(lively(toy_model(1))), Spy(lively(toy_model(2)))
    output = Distillation(teacher, kd_weight=0.5, temperature=2.0)(student, images, targets)
    assert student.shown[0].equal(images)
    assert teacher.shown[0].equal(images)
    log_p = student.model(images).log_softmax(1)
    expected = -(targets * log_p).sum(1).mean()
    torch.testing.assert_close(output.terms["ce"], expected.detach())
    assert not output.terms["ce"].isclose(F.cross_entropy(student.model(images), LABELS))


class Spy(nn.Module):
    """A model that keeps what it was shown, and in which mode."""

    def __init__(self, model: ImageClassifier) -> None:
        super().__init__()
        self.model = model
        self.shown: list[Tensor] = []
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images.clone())
        self.modes.append(any(module.training for module in self.model.modules()))
        return self.model(images)


def test_student_and_teacher_see_the_same_pixels_each_through_its_own_normalisation() -> None:
    mean, std = (0.2, 0.3, 0.4), (0.7, 0.6, 0.5)
    plain = lively(toy_model(2))
    teacher = ImageClassifier(plain.backbone, plain.arch, mean, std)
    student, spy = Spy(lively(toy_model(1))), Spy(teacher)
    normalised: list[Tensor] = []
    teacher.backbone.register_forward_pre_hook(lambda _, inputs: normalised.append(inputs[0]))
    Distillation(spy, kd_weight=0.5, temperature=2.0)(student, IMAGES, LABELS)
    assert student.shown[0].equal(spy.shown[0])
    expected = ((IMAGES / 255 - torch.tensor(mean)) / torch.tensor(std)).permute(0, 3, 1, 2)
    torch.testing.assert_close(normalised[0], expected, rtol=1e-5, atol=1e-5)
    assert student.model.mean != mean


def test_the_teacher_stays_as_it_is_while_the_student_learns(
    dataset: Dataset, tmp_path: Path
) -> None:
    teacher = lively(toy_model(2)).train()
    spy = Spy(teacher)
    before = state_of(teacher)
    student = toy_model(1)
    objective = Distillation(spy, kd_weight=0.9, temperature=2.0)
    score = lambda model: {"val_loss": 1.0, "val_top1": 0.5}  # noqa: E731
    plan = PhaseOptions(1, 12, 1e-2, weight_decay=0.1, ema_decay=0.9, sizes_px=(SIZE_PX,))
    phase = Phase("all", objective, TrainAll(), plan)
    fit(phase, student, toy_views(dataset), validate=score, folder=tmp_path)
    assert same_tensors(state_of(teacher), before)
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert spy.modes == [False] * 3
    assert not same_tensors(state_of(student), state_of(toy_model(1)))
    assert student.state_dict().keys() == toy_model(1).state_dict().keys()
    (saved,) = (tmp_path / ".all").glob(".state-*")
    weights = sum(tensor.nbytes for tensor in student.state_dict().values())
    # model, average and two moments: no room for a teacher
    assert (saved / "state.safetensors").stat().st_size < 4.5 * weights


# ---- the stage


@pytest.fixture(scope="module")
def teacher_folder(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher")
    train_teacher(dataset, fast(epochs=4, lr=1e-2), seed=0, out=out)
    return out


def test_a_student_is_trained_and_compared_with_its_teacher(
    dataset: Dataset, teacher_folder: Path, tmp_path: Path
) -> None:
    options, distil = fast(epochs=4, lr=1e-2), DistilOptions(kd_weight=0.9, temperature=2.0)
    metrics = distil_student(dataset, teacher_folder, options, distil, seed=1, out=tmp_path)
    teacher, student = (
        read_predictions(folder / "predictions.csv").of_split("test")
        for folder in (teacher_folder, tmp_path)
    )
    assert metrics["teacher_agreement"] == (teacher.predicted == student.predicted).mean()
    assert metrics["teacher_kl"] > 0
    p, q = (torch.tensor(x.logits).double().softmax(1) for x in (teacher, student))
    assert metrics["teacher_kl"] == pytest.approx((p * (p / q).log()).sum(1).mean().item())
    log = (tmp_path / "metrics.jsonl").read_text()
    assert '"kd":' in log
    assert '"agreement":' in log


def _copy_with_card(folder: Path, dataset: Dataset, **changes: Any) -> Path:
    folder.mkdir()
    model = toy_model()
    save_checkpoint(folder, model, replace(card_of(dataset, model), **changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("aster", "bell", "daisy")}, "knows the classes aster, bell, daisy"),
        ({"labels": ("bell", "aster", "clover")}, "the dataset has aster, bell, clover"),
        ({"dataset_digest": "ab" * 32}, "was trained on dataset abababababab; this is "),
    ],
)
def test_a_teacher_of_another_task_is_refused_by_name(
    dataset: Dataset, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = _copy_with_card(tmp_path / "teacher", dataset, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        distil_student(dataset, folder, fast(), DistilOptions(), seed=0, out=tmp_path)
    assert str(folder) in caught.value.message
    assert "stillroom train" in caught.value.next_step


def test_label_smoothing_is_said_to_be_ignored(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = lively(toy_model(2))
    folder = tmp_path / "teacher"
    write_checkpoint(folder, dataset, teacher)
    photos = dataset.of_split("val") + dataset.of_split("test")
    pixels = np.zeros((len(photos), SIZE_PX, SIZE_PX, 3), np.uint8)
    write_predictions(
        folder / "predictions.csv",
        Predictions(photos, dataset.labels, predict_logits(teacher, pixels)),
    )
    options = fast(epochs=1, label_smoothing=0.1)
    distil_student(dataset, folder, options, DistilOptions(), seed=0, out=tmp_path)
    assert "Distillation takes the labels unsmoothed" in capsys.readouterr().err
