from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.train.toy import PATIENT
from train.augment.mixup import Mix

SEEDS = st.integers(0, 10**6)
ALPHAS = st.floats(0.1, 4)
CLASSES = 6


def _batch(seed: int) -> tuple[Tensor, Tensor]:
    """Twelve images of 15 x 9, two a class."""
    random = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (12, 15, 9, 3), dtype=torch.uint8, generator=random)
    return images, torch.randperm(12, generator=random) % CLASSES


def _mixed(mix: Mix, seed: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return mix(*_batch(seed))


def _share(labels: Tensor, targets: Tensor) -> float:
    """Of each image's own class, read from a row whose two classes differ."""
    row = int((labels != labels.roll(1)).nonzero()[0])
    return float(targets[row, labels[row]])


@PATIENT
@given(SEEDS, ALPHAS)
def test_mixup_is_the_convex_combination_that_the_targets_state(seed: int, alpha: float) -> None:
    images, labels = _batch(seed)
    mixed, targets = _mixed(Mix(CLASSES, mixup=alpha), seed)
    share = _share(labels, targets)
    expected = share * images.float() + (1 - share) * images.roll(1, 0).float()
    torch.testing.assert_close(mixed, expected, rtol=1e-5, atol=1e-3)
    one_hot = torch.eye(CLASSES)
    torch.testing.assert_close(
        targets, share * one_hot[labels] + (1 - share) * one_hot[labels.roll(1)]
    )


@PATIENT
@given(SEEDS, ALPHAS)
def test_the_area_that_cutmix_keeps_is_the_share_of_the_label(seed: int, alpha: float) -> None:
    images = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 15, 9, 3)
    labels = _batch(seed)[1]
    torch.manual_seed(seed)
    mixed, targets = Mix(CLASSES, cutmix=alpha)(images, labels)
    kept = mixed == images
    assert (kept | (mixed == images.roll(1, 0))).all()
    assert _share(labels, targets) == pytest.approx(kept[0].float().mean().item(), abs=1e-6)
    assert (kept == kept[:1]).all()  # one rectangle for the batch
    rows, columns = (~kept[0, :, :, 0]).nonzero(as_tuple=True)
    if len(rows):
        box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert box == len(rows)


@PATIENT
@given(SEEDS, st.sampled_from([(0.2, 0.0), (0.0, 1.0), (0.2, 1.0), (0.0, 0.0)]))
def test_targets_are_probabilities_and_images_stay_in_range(
    seed: int, alphas: tuple[float, float]
) -> None:
    mixed, targets = _mixed(Mix(CLASSES, mixup=alphas[0], cutmix=alphas[1]), seed)
    assert mixed.shape == (12, 15, 9, 3)
    assert mixed.dtype == targets.dtype == torch.float32
    assert mixed.min() >= 0
    assert mixed.max() <= 255 + 1e-3
    assert (targets >= 0).all()
    torch.testing.assert_close(targets.sum(1), torch.ones(12))


@PATIENT
@given(SEEDS)
def test_the_seed_decides_and_the_batch_stays_as_it_is(seed: int) -> None:
    mix = Mix(CLASSES, mixup=0.4, cutmix=1.0)
    images, labels = _batch(seed)
    before = images.clone(), labels.clone()
    torch.manual_seed(seed)
    first = mix(images, labels)
    torch.manual_seed(seed)
    second = mix(images, labels)
    assert first[0].equal(second[0])
    assert first[1].equal(second[1])
    assert images.equal(before[0])
    assert labels.equal(before[1])
    assert not torch.equal(first[1], _mixed(mix, seed + 1)[1])


def test_with_both_on_half_the_batches_get_each() -> None:
    mix = Mix(CLASSES, mixup=0.4, cutmix=1.0)

    def is_cut(seed: int) -> bool:
        images, _ = _batch(seed)
        mixed, _ = _mixed(mix, seed)
        return bool(((mixed == images) | (mixed == images.roll(1, 0))).all())

    share = sum(is_cut(seed) for seed in range(200)) / 200
    assert 0.4 < share < 0.6


def test_a_larger_alpha_mixes_more_evenly() -> None:
    def evenness(alpha: float) -> float:
        mix = Mix(CLASSES, mixup=alpha)
        smaller = [_mixed(mix, seed)[1].topk(2).values[:, 1].max() for seed in range(60)]
        return float(torch.stack(smaller).mean())

    assert evenness(0.1) < 0.15 < 0.35 < evenness(10.0)


def test_what_is_off_leaves_the_batch_as_it_was() -> None:
    mix = Mix(CLASSES)
    images, labels = _batch(0)
    same, targets = mix(images, labels)
    assert not mix.is_on
    assert same.equal(images.float())
    assert targets.argmax(1).equal(labels)
    assert Mix(CLASSES, cutmix=1.0).is_on


def test_float_images_mix_like_bytes() -> None:
    images, labels = _batch(1)
    mix = Mix(CLASSES, mixup=1.0)
    torch.manual_seed(0)
    of_bytes = mix(images, labels)[0]
    torch.manual_seed(0)
    assert mix(images.float(), labels)[0].equal(of_bytes)


@pytest.mark.parametrize("alphas", [(-0.1, 0.0), (0.0, -1.0)])
def test_a_negative_alpha_is_refused(alphas: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"mixup = .*: expected 0 or more"):
        Mix(CLASSES, mixup=alphas[0], cutmix=alphas[1])


def test_a_class_beyond_the_last_is_refused() -> None:
    images, labels = _batch(2)
    for mix in (Mix(3, mixup=1.0), Mix(3)):
        with pytest.raises(RuntimeError, match="smaller than num_classes"):
            mix(images, labels)
