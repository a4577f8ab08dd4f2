from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.train.toy import PATIENT, SIZE_PX, same_tensors, state_of, toy_model
from train.engine.weight_averaging import (
    Candidate,
    build_swa,
    choose,
    measure_norms,
    norms_that_move,
)

SHAPE = (24, SIZE_PX, SIZE_PX, 3)


def _images(seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, SHAPE, generator=random).to(torch.uint8)


def _batches(images: Tensor, *sizes: int) -> list[Tensor]:
    return list(images.split(list(sizes)))


def _candidate(name: str, loss: float) -> Candidate:
    return Candidate(name, nn.Identity(), {"val_loss": loss, "val_top1": 0.5})


class Channels(nn.Module):
    """One batch norm over the pixels themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(images.float().permute(0, 3, 1, 2)).mean((2, 3))


# ---- the mean of weights


def test_swa_of_two_known_weights_is_their_mean() -> None:
    one, two = nn.Linear(3, 2), nn.Linear(3, 2)
    swa = build_swa(one)
    swa.update_parameters(one)
    swa.update_parameters(two)
    assert torch.allclose(swa.module.weight, (one.weight + two.weight) / 2)
    assert torch.allclose(swa.module.bias, (one.bias + two.bias) / 2)


@PATIENT
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=9))
def test_swa_is_the_equal_mean_of_all_updates(values: list[float]) -> None:
    model = nn.BatchNorm1d(1)
    swa = build_swa(model)
    for value in values:
        with torch.no_grad():
            model.weight.fill_(value)
            model.running_mean.fill_(value)  # type: ignore[union-attr]
        swa.update_parameters(model)
    assert float(swa.module.weight.detach()) == pytest.approx(sum(values) / len(values), abs=1e-3)
    assert float(swa.module.running_mean) == pytest.approx(sum(values) / len(values), abs=1e-3)


def test_swa_averages_a_whole_model_and_leaves_it_alone() -> None:
    model = toy_model()
    before = state_of(model)
    swa = build_swa(model)
    swa.update_parameters(model)
    assert same_tensors(state_of(model), before)
    assert same_tensors(state_of(swa.module), before)


# ---- precise batch norm


def test_precise_statistics_are_the_exact_mean_and_variance_of_a_fixed_set() -> None:
    model, images = Channels(), _images()
    measure_norms(model, ["norm"], lambda: _batches(images, 7, 7, 7, 3))
    pixels = images.double().reshape(-1, 3)
    assert torch.allclose(model.norm.running_mean.double(), pixels.mean(0))  # type: ignore[union-attr]
    assert torch.allclose(model.norm.running_var.double(), pixels.var(0))  # type: ignore[union-attr]


def test_a_mean_over_batches_would_not_be_exact() -> None:
    """What torch's own update does on batches of unequal kind: it loses what lies between them."""
    images = _images().float()
    images[:12] *= 0.1
    model, own = Channels(), Channels()
    measure_norms(model, ["norm"], lambda: _batches(images, 12, 12))
    torch.optim.swa_utils.update_bn(_batches(images, 12, 12), own)
    exact = images.double().reshape(-1, 3).var(0)
    assert torch.allclose(model.norm.running_var.double(), exact)  # type: ignore[union-attr]
    assert not torch.allclose(own.norm.running_var.double(), exact, rtol=0.1)  # type: ignore[union-attr]


def test_every_norm_of_a_network_measures_what_reaches_it() -> None:
    """In one batch all are exact: evaluation then gives what training mode gave."""
    model, images = toy_model(arch="test_resnet"), _images()
    model.train()
    names = norms_that_move(model)
    assert len(names) > 3
    with torch.no_grad():
        unmeasured = model.eval()(images)
        measure_norms(model, names, lambda: [images])
        evaluated = model(images)
        trained = model.train()(images)
    spread = float(trained.std())
    # Training divides by n and the statistics by n - 1: 4 % in the last layers, which are 1 x 1.
    assert torch.allclose(trained, evaluated, atol=0.2 * spread)
    assert (trained - unmeasured).abs().max() > 2 * spread


def test_only_named_norms_change_and_modes_and_momenta_come_back() -> None:
    model = toy_model(arch="test_resnet").train()
    names = norms_that_move(model)
    model.backbone.conv1.eval()
    before, momentum = state_of(model), model.get_submodule(names[0]).momentum
    measure_norms(model, names[1:2], lambda: [_images()])
    after = state_of(model)
    changed = {key for key in before if (before[key] != after[key]).any()}
    tensors = ("running_mean", "running_var", "num_batches_tracked")
    assert changed == {f"{names[1]}.{name}" for name in tensors}
    assert model.training
    assert not model.backbone.conv1.training
    assert model.get_submodule(names[0]).momentum == momentum


def test_frozen_norms_do_not_move() -> None:
    model = toy_model().train()
    count = len(norms_that_move(model))
    model.backbone.bn1.eval()
    assert len(norms_that_move(model)) == count - 1
    assert norms_that_move(model.eval()) == []


def test_without_images_the_statistics_stay() -> None:
    model = Channels()
    before = state_of(model)
    measure_norms(model, ["norm"], lambda: [])
    assert same_tensors(state_of(model), before)


# ---- the choice


@pytest.mark.parametrize(
    ("raw", "ema", "swa", "kept"),
    [
        (1.0, 0.9, 1.1, "ema"),
        (0.8, 0.9, 1.1, "raw"),
        (1.0, 0.9, 0.7, "swa"),
        (1.0, 1.0, 1.0, "swa"),
        (1.0, math.nan, 1.1, "raw"),
        (math.nan, 0.9, 1.1, "ema"),
        (math.nan, math.nan, 1.1, "swa"),
    ],
)
def test_the_lowest_validation_loss_is_kept(raw: float, ema: float, swa: float, kept: str) -> None:
    losses = {"raw": raw, "ema": ema, "swa": swa}
    assert choose([_candidate(*item) for item in losses.items()]).name == kept
