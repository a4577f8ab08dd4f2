from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compress.distil import CachedDistillation, Distillation, kd_loss, resized
from compress.options import DistilOptions, deciding_distil
from compress.stage import distil_student
from compress.teachers import mean_logits, open_teachers, teacher_logits
from serve.contract.errors import CheckpointError
from serve.contract.preprocess import PreprocessSpec
from tests.train.toy import (
    PATIENT,
    SIZE_PX,
    card_of,
    fast,
    lively,
    same_tensors,
    state_of,
    toy_model,
    write_checkpoint,
)
from train.augment.mixup import Mix
from train.evaluation import predict_logits
from train.loader.views import pixels_of
from train.models.checkpoint import save_checkpoint
from train.models.classifier import ImageClassifier
from train.stage import Dataset

SEEDS = st.integers(0, 10**6)
TEMPERATURES = st.floats(0.5, 10)


def _logits(seed: int, teachers: int = 3) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return list(torch.randn(teachers, 5, 4, generator=random) * 3)


# ---- the mean


@PATIENT
@given(SEEDS, TEMPERATURES)
def test_the_mean_is_that_of_softened_probabilities(seed: int, temperature: float) -> None:
    logits = _logits(seed)
    softened = (mean_logits(logits, temperature=temperature) / temperature).softmax(1)
    expected = torch.stack([(one / temperature).softmax(1) for one in logits]).mean(0)
    torch.testing.assert_close(softened, expected, rtol=1e-4, atol=1e-6)


@PATIENT
@given(SEEDS, TEMPERATURES)
def test_a_teacher_asked_twice_says_what_it_says_once(seed: int, temperature: float) -> None:
    (one,) = _logits(seed, 1)
    assert mean_logits([one], temperature=temperature) is one
    twice = mean_logits([one, one], temperature=temperature)
    loss = kd_loss(one, twice, temperature=temperature)
    assert loss.item() == pytest.approx(0, abs=1e-4)


@PATIENT
@given(SEEDS, TEMPERATURES)
def test_a_student_that_equals_the_mean_has_no_loss_and_no_gradient(
    seed: int, temperature: float
) -> None:
    mean = mean_logits(_logits(seed), temperature=temperature)
    student = mean.clone().requires_grad_()
    loss = kd_loss(student, mean, temperature=temperature)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-4)
    assert student.grad is not None
    assert student.grad.abs().max().item() < 1e-5 * max(1, temperature)


def test_the_scale_of_its_logits_gives_a_teacher_no_more_than_its_vote() -> None:
    sure, others = torch.tensor([[50.0, 0.0]]), [torch.tensor([[0.0, 2.0]])] * 2
    mean = mean_logits([sure, *others], temperature=1.0).softmax(1)
    assert mean[0, 1] > 0.5
    assert torch.stack([sure, *others]).mean(0).softmax(1)[0, 0] > 0.99


# ---- the objective with several


IMAGES = torch.randint(
    0, 256, (6, 48, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def test_several_teachers_stay_asleep_and_get_no_gradient() -> None:
    teachers = [lively(toy_model(seed)).train() for seed in (2, 3)]
    before = [state_of(teacher) for teacher in teachers]
    modes: list[bool] = []
    for teacher in teachers:
        teacher.register_forward_pre_hook(
            lambda module, _: modes.append(any(m.training for m in module.modules()))
        )
    student = lively(toy_model(1))
    objective = Distillation(*teachers, kd_weight=0.9, temperature=3.0)
    student.train()
    output = objective(student, IMAGES, LABELS)
    output.loss.backward()
    assert modes == [False, False]
    assert all(p.grad is None and not p.requires_grad for t in teachers for p in t.parameters())
    assert all(same_tensors(state_of(t), b) for t, b in zip(teachers, before, strict=True))
    assert not isinstance(objective, torch.nn.Module)  # nothing that a checkpoint could hold
    expected = mean_logits([teacher(IMAGES) for teacher in teachers], temperature=3.0)
    kd = kd_loss(output.logits, expected, temperature=3.0)
    torch.testing.assert_close(output.terms["kd"], kd.detach())


def test_the_weight_is_continuous_with_several_teachers_too() -> None:
    student, teachers = lively(toy_model(1)), [lively(toy_model(seed)) for seed in (2, 3)]
    losses = [
        Distillation(*teachers, kd_weight=w, temperature=2.0)(student, IMAGES, LABELS).loss.item()
        for w in np.linspace(0, 1, 11)
    ]
    assert np.diff(losses) == pytest.approx(np.full(10, losses[-1] - losses[0]) / 10, rel=1e-3)


def test_no_teacher_is_refused() -> None:
    with pytest.raises(ValueError, match="No teacher"):
        Distillation(kd_weight=0.5, temperature=2.0)


# ---- its own resolution


def test_both_see_the_same_crop_each_at_its_own_size() -> None:
    shown: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _, inputs: shown.__setitem__(name, inputs[0].clone())

    student, teacher = lively(toy_model(1)), lively(toy_model(2))
    student.register_forward_pre_hook(keep("student"))
    teacher.register_forward_pre_hook(keep("teacher"))
    objective = Distillation(
        teacher, kd_weight=0.5, temperature=2.0, student_px=SIZE_PX, teacher_px=48
    )
    mixed, targets = Mix(3, mixup=1.0, cutmix=1.0)(IMAGES, LABELS)
    for images, labels in ((IMAGES, LABELS), (mixed, targets)):
        objective(student, images, labels)
        assert shown["teacher"].equal(images)
        assert shown["student"].shape == (6, SIZE_PX, SIZE_PX, 3)
        assert shown["student"].equal(resized(images, SIZE_PX))  # the same mixture, too


def test_a_view_is_shrunk_as_pillow_does() -> None:
    from PIL import Image

    smooth = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(smooth).resize((48, 48), Image.Resampling.BICUBIC)
    ours = resized(torch.from_numpy(np.array(image))[None], SIZE_PX)[0].numpy()
    theirs = np.asarray(image.resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC))
    assert np.abs(ours - theirs).max() < 1.5
    assert ours.min() >= 0
    assert ours.max() <= 255
    images = IMAGES
    assert resized(images, 48) is images
    assert resized(images, 0) is images


# ---- cached answers


def test_cached_answers_are_learnt_whatever_the_view_is() -> None:
    student = lively(toy_model(1))
    answers = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    shares = torch.nn.functional.one_hot(LABELS, 3).float()
    shares[1] = 0  # without a label
    objective = CachedDistillation(kd_weight=0.5, temperature=2.0)
    output = objective(student, IMAGES, torch.cat([shares, answers], dim=1))
    torch.testing.assert_close(
        output.terms["kd"], kd_loss(output.logits, answers, temperature=2.0).detach()
    )
    known = [0, 2, 3, 4, 5]
    hard = torch.nn.functional.cross_entropy(output.logits[known], LABELS[known])
    torch.testing.assert_close(output.terms["ce"], hard.detach())


def test_without_any_label_the_distillation_loss_is_left() -> None:
    student, teacher = lively(toy_model(1)), lively(toy_model(2))
    objective = Distillation(teacher, kd_weight=0.5, temperature=2.0)
    output = objective(student, IMAGES, torch.full((6,), -1))
    torch.testing.assert_close(output.loss.detach(), 0.5 * output.terms["kd"])
    assert output.terms["ce"] == 0
    some = objective(student, IMAGES, torch.tensor([0, -1, -1, 0, -1, 2]))
    ce = torch.nn.functional.cross_entropy(output.logits[[0, 3, 5]], LABELS[[0, 3, 5]])
    torch.testing.assert_close(some.terms["ce"], ce.detach())


# ---- from folders


def _write(folder: Path, dataset: Dataset, model: ImageClassifier, **changes: Any) -> Path:
    folder.mkdir()
    save_checkpoint(folder, model, replace(card_of(dataset, model), **changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("aster", "bell", "daisy")}, "the classes aster, bell, daisy; the dataset has"),
        ({"labels": ("bell", "aster", "clover")}, "the same in another order"),
        ({"dataset_digest": "ab" * 32}, "was trained on dataset abababababab; this is "),
    ],
)
def test_any_of_several_teachers_of_another_task_is_refused_by_name(
    dataset: Dataset, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    good = _write(tmp_path / "good", dataset, toy_model())
    bad = _write(tmp_path / "bad", dataset, toy_model(), **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_teachers([good, bad], dataset)
    assert str(bad) in caught.value.message
    assert str(good) not in caught.value.message
    distil = DistilOptions(more_teachers=(str(bad),))
    with pytest.raises(CheckpointError, match=message):
        distil_student(dataset, good, fast(), distil, seed=0, out=tmp_path)


def test_each_answers_through_its_own_evaluation_transform(
    dataset: Dataset, tmp_path: Path
) -> None:
    plain, larger = lively(toy_model(1)), lively(toy_model(2))
    other = ImageClassifier(larger.backbone, larger.arch, (0.2, 0.3, 0.4), (0.7, 0.6, 0.5)).eval()
    spec = PreprocessSpec(40, 0.9)
    folders = [
        _write(tmp_path / "a", dataset, plain),
        _write(tmp_path / "b", dataset, other, preprocess=spec, mean=other.mean, std=other.std),
    ]
    photos = dataset.of_split("val")
    answers = teacher_logits(open_teachers(folders, dataset), dataset.root, photos)
    each = [
        torch.from_numpy(predict_logits(model, pixels_of(dataset.root, photos, its)))
        for model, its in ((plain, PreprocessSpec(SIZE_PX, 1.0)), (other, spec))
    ]
    torch.testing.assert_close(
        torch.from_numpy(answers), mean_logits(each, temperature=1.0), rtol=1e-4, atol=1e-4
    )


def test_the_options_that_decide_name_bytes_and_not_places(
    dataset: Dataset, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write_checkpoint(one, dataset, toy_model(1))
    write_checkpoint(two, dataset, toy_model(1))

    def decided(folder: Path) -> Any:
        return deciding_distil(DistilOptions(more_teachers=(str(folder),)))["more_teachers"]

    assert decided(one) == decided(two)
    write_checkpoint(two, dataset, toy_model(2))
    assert decided(one) != decided(two)
    assert decided(tmp_path / "gone")[0][0].startswith("missing:")
