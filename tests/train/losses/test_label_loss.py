from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from serve.contract.errors import DatasetError
from tests.train.toy import PATIENT
from train.losses.label_loss import (
    LabelLoss,
    build_label_loss,
    class_weights,
    cross_entropy,
    focal_loss,
)
from train.options import LossOptions

SEEDS = st.integers(0, 10**6)
COUNTS = st.lists(st.integers(1, 5000), min_size=2, max_size=9)
SMOOTHING = st.floats(0, 0.9)


def _batch(seed: int, *, mixed: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (6, 4) that learn, labels, class weights."""
    random = torch.Generator().manual_seed(seed)
    logits = (torch.randn(6, 4, generator=random) * 3).requires_grad_()
    labels = torch.randint(0, 4, (6,), generator=random)
    if mixed:
        labels = torch.rand(6, 4, generator=random)
        labels = labels / labels.sum(1, keepdim=True)
    return logits, labels, torch.rand(4, generator=random) + 0.1


def _by_the_formula(
    logits: Tensor, shares: Tensor, *, gamma: float, weights: Tensor, smoothing: float
) -> Tensor:
    """Written out in float64."""
    p = logits.double().softmax(1)
    shares = (1 - smoothing) * shares.double() + smoothing / logits.shape[1]
    return -(weights.double() * shares * (1 - p) ** gamma * p.log()).sum(1).mean()


# ---- cross-entropy


@PATIENT
@given(SEEDS, SMOOTHING, st.booleans())
def test_smoothing_is_cross_entropy_with_the_smoothed_target(
    seed: int, smoothing: float, weighted: bool
) -> None:
    logits, labels, weights = _batch(seed)
    one_hot = F.one_hot(labels, 4).float()
    weight = weights if weighted else None
    smoothed = one_hot * (1 - smoothing) + smoothing / 4
    expected = cross_entropy(logits, smoothed, weights=weight)
    for targets in (labels, one_hot):
        loss = cross_entropy(logits, targets, weights=weight, label_smoothing=smoothing)
        torch.testing.assert_close(loss, expected)


def test_plain_cross_entropy_is_that_of_torch_to_the_last_bit() -> None:
    logits, labels, _ = _batch(0)
    for smoothing in (0.0, 0.1):
        expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        assert cross_entropy(logits, labels, label_smoothing=smoothing).equal(expected)


def test_a_weight_scales_the_loss_of_its_class_even_where_the_class_fills_the_batch() -> None:
    logits, _, _ = _batch(1)
    labels = torch.ones(6, dtype=torch.int64)
    weights = torch.tensor([1.0, 3.0, 1.0, 1.0])
    plain = cross_entropy(logits, labels)
    torch.testing.assert_close(cross_entropy(logits, labels, weights=weights), 3 * plain)
    # which torch's mean over weights takes back:
    torch.testing.assert_close(F.cross_entropy(logits, labels, weights), plain)


def test_a_mixed_target_has_the_mixed_loss() -> None:
    logits, labels, weights = _batch(2)
    other = labels.roll(1)
    mixed = 0.3 * F.one_hot(labels, 4) + 0.7 * F.one_hot(other, 4)
    for loss in (
        lambda t: cross_entropy(logits, t, weights=weights),
        lambda t: focal_loss(logits, t, gamma=2.0, weights=weights, label_smoothing=0.1),
    ):
        torch.testing.assert_close(loss(mixed), 0.3 * loss(labels) + 0.7 * loss(other))


# ---- focal loss


@PATIENT
@given(SEEDS, st.floats(0.1, 5), SMOOTHING, st.booleans())
def test_focal_loss_and_its_gradient_are_those_of_the_formula(
    seed: int, gamma: float, smoothing: float, mixed: bool
) -> None:
    logits, labels, weights = _batch(seed, mixed=mixed)
    shares = labels if mixed else F.one_hot(labels, 4)
    loss = focal_loss(logits, labels, gamma=gamma, weights=weights, label_smoothing=smoothing)
    (gradient,) = torch.autograd.grad(loss, logits)
    exact = _by_the_formula(logits, shares, gamma=gamma, weights=weights, smoothing=smoothing)
    (expected,) = torch.autograd.grad(exact, logits)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)


@PATIENT
@given(SEEDS, SMOOTHING, st.booleans())
def test_gamma_zero_is_cross_entropy_and_small_gammas_lead_there(
    seed: int, smoothing: float, mixed: bool
) -> None:
    logits, labels, weights = _batch(seed, mixed=mixed)
    options = {"weights": weights, "label_smoothing": smoothing}
    ce = cross_entropy(logits, labels, **options)
    assert focal_loss(logits, labels, gamma=0.0, **options).equal(ce)
    near = focal_loss(logits, labels, gamma=1e-6, **options)
    torch.testing.assert_close(near, ce, rtol=1e-4, atol=1e-6)


@PATIENT
@given(st.floats(0.5, 5), st.floats(0.01, 0.98), st.floats(0.001, 0.01))
def test_focal_loss_weighs_easy_photographs_less(gamma: float, p: float, more: float) -> None:
    def share_kept(p: float) -> float:
        logits = torch.tensor([[p, 1 - p]]).log()
        label = torch.tensor([0])
        return (focal_loss(logits, label, gamma=gamma) / cross_entropy(logits, label)).item()

    assert share_kept(p) == pytest.approx((1 - p) ** gamma, rel=1e-3)
    assert share_kept(p + more) < share_kept(p)


def test_the_example_of_the_paper() -> None:
    # Section 3.2: with gamma = 2, p = 0.9 has 100 times and p = 0.968 1000 times lower loss.
    for p, times in ((0.9, 100), (0.968, 1000)):
        logits, label = torch.tensor([[p, 1 - p]]).log(), torch.tensor([0])
        ratio = cross_entropy(logits, label) / focal_loss(logits, label, gamma=2.0)
        assert ratio.item() == pytest.approx(times, rel=0.05)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("scale", [30.0, 1e4])
def test_certain_answers_have_finite_gradients(gamma: float, scale: float) -> None:
    logits = (scale * torch.eye(3)).requires_grad_()
    for labels in (torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0])):  # all right, all wrong
        loss = focal_loss(logits, labels, gamma=gamma, label_smoothing=0.1)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_a_negative_gamma_is_refused() -> None:
    logits, labels, _ = _batch(3)
    with pytest.raises(ValueError, match=r"gamma = -1.0: expected 0 or more"):
        focal_loss(logits, labels, gamma=-1.0)


# ---- class weights


@PATIENT
@given(COUNTS, st.sampled_from(["inverse", "effective"]))
def test_weights_have_a_mean_of_one_and_rare_classes_the_larger(
    counts: list[int], kind: str
) -> None:
    weights = class_weights(counts, kind)
    assert weights @ counts == pytest.approx(sum(counts))
    order = np.argsort(counts, kind="stable")
    assert (np.diff(weights[order]) <= 1e-9 * weights.max()).all()


@PATIENT
@given(COUNTS)
def test_inverse_weights_make_all_classes_weigh_the_same(counts: list[int]) -> None:
    shares = class_weights(counts, "inverse") * counts
    np.testing.assert_allclose(shares, sum(counts) / len(counts))


@PATIENT
@given(COUNTS)
def test_effective_weights_lie_between_none_and_inverse(counts: list[int]) -> None:
    np.testing.assert_allclose(class_weights(counts, "effective", beta=0.0), 1)
    limit = class_weights(counts, "effective", beta=1 - 1e-10)
    np.testing.assert_allclose(limit, class_weights(counts, "inverse"), rtol=1e-5)
    spread = [np.ptp(np.log(class_weights(counts, "effective", beta=b))) for b in (0.9, 0.999)]
    assert spread[0] <= spread[1] + 1e-9


def test_the_effective_number_of_the_paper() -> None:
    # 1 image counts as 1; very many count as 1 / (1 - beta) = 1000.
    ones, many = class_weights([1, 10**6], "effective", beta=0.999)
    assert ones / many == pytest.approx(1000)
    two, ten = class_weights([2, 10], "effective", beta=0.9)
    assert two / ten == pytest.approx((1 - 0.9**10) / (1 - 0.9**2))


def test_a_class_without_photographs_has_no_weight() -> None:
    with pytest.raises(DatasetError, match="Class number 1 has no image in train") as caught:
        class_weights([3, 0, 5], "inverse")
    assert "loss.class_weights=none" in caught.value.next_step


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="class_weights = 'median': expected inverse or effective"):
        class_weights([1, 2], "median")
    for beta in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"beta = {beta}: expected 0 to less than 1"):
            class_weights([1, 2], "effective", beta=beta)


# ---- what a recipe asks for


def test_the_default_is_plain_cross_entropy_and_needs_no_counts_above_zero() -> None:
    loss = build_label_loss(LossOptions(), label_smoothing=0.0, counts=[3, 0, 5, 1])
    logits, labels, _ = _batch(4)
    assert loss(logits, labels).equal(F.cross_entropy(logits, labels))
    assert (loss.name, LabelLoss().name) == ("ce", "ce")
    assert loss.state_dict() == {}


def test_every_option_reaches_the_loss() -> None:
    options = LossOptions(kind="focal", focal_gamma=1.5, class_weights="inverse")
    counts = [10, 20, 30, 40]
    loss = build_label_loss(options, label_smoothing=0.2, counts=counts)
    logits, labels, _ = _batch(5)
    weights = torch.from_numpy(class_weights(counts, "inverse")).float()
    expected = focal_loss(logits, labels, gamma=1.5, weights=weights, label_smoothing=0.2)
    assert loss(logits, labels).equal(expected)
    assert loss.name == "focal"
    assert loss.state_dict() == {}  # the recipe has it


def test_a_gamma_without_the_kind_focal_has_no_effect() -> None:
    loss = build_label_loss(LossOptions(focal_gamma=3.0), label_smoothing=0.0, counts=[1, 1])
    assert loss.gamma == 0


def test_half_precision_logits_are_scored_in_float32() -> None:
    logits, labels, weights = _batch(6)
    low = logits.detach().bfloat16()
    loss = LabelLoss(gamma=2.0, weights=weights)(low, labels)
    assert loss.dtype == torch.float32
    assert loss.equal(LabelLoss(gamma=2.0, weights=weights)(low.float(), labels))
