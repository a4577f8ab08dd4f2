from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.train.toy import PATIENT
from train.extras.center_loss import CenterLoss

SEEDS = st.integers(0, 10**6)


def _loss(seed: int = 0, *, rate: float = 0.5) -> CenterLoss:
    loss = CenterLoss(3, 5, rate=rate)
    loss.centres.normal_(0, 2, generator=torch.Generator().manual_seed(seed))
    return loss


def _features(seed: int, count: int = 7) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 5, generator=random).requires_grad_()
    return features, torch.randint(0, 3, (count,), generator=random)


@PATIENT
@given(SEEDS)
def test_features_at_their_centres_have_no_loss_no_gradient_and_move_nothing(seed: int) -> None:
    loss = _loss(seed)
    before = loss.centres.clone()
    _, labels = _features(seed)
    features = loss.centres[labels].clone().requires_grad_()
    value = loss(features, labels)
    value.backward()
    assert value == 0
    assert (features.grad == 0).all()
    assert loss.centres.equal(before)


@PATIENT
@given(SEEDS)
def test_loss_gradient_and_update_are_those_of_the_paper(seed: int) -> None:
    loss, (features, labels) = _loss(seed, rate=0.3), _features(seed + 1)
    before = loss.centres.clone()
    value = loss(features, labels)
    value.backward()
    count = len(labels)
    differences = features.detach() - before[labels]
    torch.testing.assert_close(value.detach(), differences.square().sum() / 2 / count)
    torch.testing.assert_close(features.grad, differences / count)
    for j in range(3):  # equation 4, written as there
        mine = labels == j
        delta = (before[j] - features.detach()[mine]).sum(0) / (1 + mine.sum())
        torch.testing.assert_close(loss.centres[j], before[j] - 0.3 * delta)


def test_a_case_by_hand() -> None:
    loss = CenterLoss(2, 2, rate=0.5)
    loss.centres.copy_(torch.tensor([[1.0, 0.0], [5.0, 5.0]]))
    features = torch.tensor([[1.0, 2.0], [4.0, 0.0]])
    value = loss(features, torch.tensor([0, 0]))
    assert value == (2**2 + 3**2) / 2 / 2
    # mean pull (0 + 3, 2 + 0) / (1 + 2), half of it
    torch.testing.assert_close(loss.centres, torch.tensor([[1.5, 1 / 3], [5.0, 5.0]]))


def test_the_centres_come_to_lie_at_the_means_of_their_classes() -> None:
    loss, (features, labels) = _loss(3), _features(4, 40)
    for _ in range(60):
        loss(features, labels)
    means = torch.stack([features[labels == j].mean(0) for j in range(3)])
    torch.testing.assert_close(loss.centres, means.detach(), rtol=1e-4, atol=1e-5)


@PATIENT
@given(SEEDS)
def test_probabilities_of_whole_classes_are_class_numbers(seed: int) -> None:
    one, two, (features, labels) = _loss(seed), _loss(seed), _features(seed + 1)
    assert one(features, labels).equal(two(features, F.one_hot(labels, 3).float()))
    assert one.centres.equal(two.centres)


def test_a_mixture_of_features_belongs_at_the_mixture_of_the_centres() -> None:
    loss = _loss(5)
    before = loss.centres.clone()
    shares = torch.tensor([[0.3, 0.7, 0.0], [0.0, 0.5, 0.5]])
    assert loss(shares @ before, shares) < 1e-10
    torch.testing.assert_close(loss.centres, before)


def test_the_loss_changes_centres_only_in_training_and_never_through_the_optimiser() -> None:
    loss, (features, labels) = _loss(6).eval(), _features(7)
    before = loss.centres.clone()
    loss(features, labels)
    assert loss.centres.equal(before)
    loss.train()(features, labels).backward()
    assert not loss.centres.equal(before)
    assert not loss.centres.requires_grad
    assert list(loss.parameters()) == []


def test_a_rate_of_zero_keeps_the_centres() -> None:
    loss, (features, labels) = _loss(8, rate=0.0), _features(9)
    before = loss.centres.clone()
    loss(features, labels)
    assert loss.centres.equal(before)


def test_the_centres_are_restored_with_the_state() -> None:
    loss, (features, labels) = _loss(10), _features(11)
    loss(features, labels)
    again = CenterLoss(3, 5)
    again.load_state_dict(loss.state_dict())
    assert again(features, labels).equal(loss(features, labels))


def test_under_autocast_distances_keep_float32() -> None:
    one, two, (features, labels) = _loss(12), _loss(12), _features(13)
    with torch.autocast("cpu", torch.bfloat16):
        low = one(features, labels)
    assert low.equal(two(features, labels))
    assert one.centres.equal(two.centres)


@pytest.mark.parametrize("shape", [(4, 6), (4, 5, 1)])
def test_features_of_another_width_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Features of shape \(4, .*expected \(N, 5\)"):
        _loss()(torch.zeros(shape), torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=f"rate = {rate}: expected 0 to 1"):
        CenterLoss(3, 5, rate=rate)
