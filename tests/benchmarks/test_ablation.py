from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ablation
from train.data.dataset import Dataset
from train.data.images import LabelledImage
from train.options import TrainOptions


@pytest.fixture
def dataset() -> Dataset:
    photos = [
        LabelledImage(f"{split}/{label}/{i:03d}.jpg", label, split, f"{i:064d}")
        for split, count in (("train", 100), ("val", 10), ("test", 10))
        for label in "abc"
        for i in range(count)
    ]
    return Dataset(Path("photos"), photos)


def counts(dataset: Dataset, split: str) -> Counter[str]:
    return Counter(photo.label for photo in dataset.of_split(split))


def test_every_arm_is_a_valid_training():
    for group in ablation.GROUPS.values():
        for arm in group.values():
            assert isinstance(ablation.options_of(arm), TrainOptions)


def test_arms_of_a_group_train_equally_long():
    for arm in ablation.GROUPS["methods"].values():
        options = ablation.options_of(arm)
        assert options.epochs + options.head_epochs == ablation.BASE.epochs + 1


def test_thinning_leaves_val_and_test_alone(dataset):
    thin = ablation.thinned(dataset, lambda k, n: (k + 1) * n // 10)
    assert counts(thin, "train") == {"a": 10, "b": 20, "c": 30}
    for split in ("val", "test"):
        assert thin.of_split(split) == dataset.of_split(split)
    assert thin == ablation.thinned(dataset, lambda k, n: (k + 1) * n // 10)


def test_the_table_compares_with_the_first_arm():
    targets = np.repeat([0, 1], [30, 10])
    first = np.ones((3, 40), bool)
    first[:, 30:35] = False  # half of the rare class
    second = np.ones((3, 40), bool)
    rows = ablation.table_of({"one": first, "two": second}, targets, {"one": [3.0, 5.0, 4.0]})
    assert rows[2].startswith("| one | 87.5 % (0.0) | 75.0 % | - | - | 4 |")
    assert rows[3].startswith("| two | 100.0 % (0.0) | 100.0 % | +12.5 (")
    assert rows[3].endswith("| - |")


def test_a_finished_arm_is_not_trained_again(dataset, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(ablation, "train_teacher", lambda *_, **how: calls.append(how["seed"]))
    for seed in (0, 1, 0):
        ablation.train_arm(dataset, ablation.BASE, tmp_path / str(seed), seed)
    assert calls == [0, 1]
