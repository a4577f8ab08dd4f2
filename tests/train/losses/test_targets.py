from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.train.fits import PLAN, fit_toy
from train.augment.mixup import Mix
from train.engine.trainer import METRICS
from train.loader.sampler import ViewKey
from train.loader.soft_targets import ViewsWithTargets
from train.losses.targets import UNLABELLED, class_numbers, one_hot
from train.stage import Dataset

LABELS = torch.tensor([0, 2, UNLABELLED, 1])


def test_class_numbers_are_read_from_every_form() -> None:
    assert class_numbers(LABELS, 3).equal(LABELS)
    rows = one_hot(LABELS, 3)
    assert rows.sum(1).tolist() == [1, 1, 0, 1]
    assert class_numbers(rows, 3).equal(LABELS)
    figures = torch.cat([rows, torch.full((4, 3), 9.0)], dim=1)
    assert class_numbers(figures, 3).equal(LABELS)


def test_of_a_mixture_the_larger_share_counts_if_all_of_it_is_labelled() -> None:
    rows = torch.tensor([[0.3, 0.7, 0.0], [0.7, 0.0, 0.0], [0.2, 0.0, 0.8]])
    assert class_numbers(rows, 3).tolist() == [1, UNLABELLED, 2]


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_mixture_states_the_share_of_it_that_is_labelled(kind: str) -> None:
    images = torch.zeros(4, 16, 16, 3, dtype=torch.uint8)
    images[2] = 200  # the unlabelled one
    torch.manual_seed(3)
    mixed, targets = Mix(3, **{kind: 1.0})(images, LABELS)
    unlabelled = mixed.mean((1, 2, 3)) / 200
    torch.testing.assert_close(targets.sum(1), 1 - unlabelled)
    assert (class_numbers(targets, 3) == UNLABELLED).tolist() == [False, False, True, True]


def test_labelled_photographs_alone_make_the_training_accuracy(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tests.train.fits as fits
    from compress.distil import Distillation
    from tests.train.toy import lively, toy_model, toy_views

    shown: list[float] = []

    def half(dataset: Dataset) -> object:
        views = toy_views(dataset)
        views.targets[::2] = UNLABELLED
        return views

    class Watched(Distillation):
        def __call__(self, model, images, labels):
            output = super().__call__(model, images, labels)
            known = labels >= 0
            shown.append(float((output.logits.argmax(1) == labels)[known].sum()))
            counts.append(int(known.sum()))
            return output

    counts: list[int] = []
    monkeypatch.setattr(fits, "toy_views", half)
    objective = Watched(lively(toy_model(2)), kd_weight=0.5, temperature=2.0)
    score = lambda model: {"val_loss": 1.0, "val_top1": 0.5}  # noqa: E731
    fit_toy(dataset, tmp_path, score, plan=PLAN, objective=objective)
    records = [json.loads(line) for line in (tmp_path / ".all" / METRICS).read_text().splitlines()]
    assert len(records) == PLAN.epochs
    for i, record in enumerate(records):
        part = slice(3 * i, 3 * i + 3)
        expected = sum(shown[part]) / sum(counts[part])
        assert record["train_top1"] == pytest.approx(expected)
        assert not {"train_hits", "train_labelled"} & record.keys()
        assert all(4 <= count <= 8 for count in counts[part])  # its even share, give or take one


def test_figures_lie_behind_the_shares(dataset: Dataset) -> None:
    from tests.train.toy import toy_views

    views = toy_views(dataset)
    views.targets[5] = UNLABELLED
    answers = torch.randn(len(views), 2).numpy()
    answered = ViewsWithTargets(views, answers, 3)
    for position in (4, 5):
        image, row, _ = answered[ViewKey(0, position, 0, 32)]
        assert (image == views[ViewKey(0, position, 0, 32)][0]).all()
        assert (row[3:] == answers[position]).all()
        assert row[:3].sum() == (views.targets[position] >= 0)
    with pytest.raises(ValueError, match="3 answers to 39 images"):
        ViewsWithTargets(views, answers[:3], 3)
