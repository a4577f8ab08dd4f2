from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from timm.models import group_parameters
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from compress.fixres import ClassifierAndLastNorms
from compress.last_norms import find_last_norms
from serve.contract.errors import CheckpointError, UsageError
from tests.train.toy import PATIENT, SIZE_PX, card_of, fast, toy_model
from train.extras.bilinear import LENGTH, CompactBilinear, signed_sqrt
from train.models.checkpoint import load_checkpoint, save_checkpoint
from train.models.classifier import ImageClassifier, build_model
from train.models.freeze import classifier_of
from train.models.param_groups import layer_groups
from train.models.weights.pretrained import load_pretrained
from train.stage import Dataset, train_teacher

DIM = 64


def _maps(seed: int, channels: int = 6, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, 3, 3, generator=torch.Generator().manual_seed(seed))


def _outer(maps: Tensor) -> Tensor:
    """(N, C * C) the exact bilinear features: products of all pairs, averaged over positions."""
    positions = maps.flatten(2)
    return (positions @ positions.transpose(1, 2) / positions.shape[2]).flatten(1)


def _model(arch: str = "test_resnet") -> ImageClassifier:
    torch.manual_seed(0)
    return build_model(arch, 3, size_px=SIZE_PX, head="bilinear", bilinear_dim=DIM).eval()


# ---- the sketch


def test_dot_products_of_sketches_are_those_of_outer_products_in_expectation() -> None:
    """Over hash functions: the mean of 400 estimates is within 4 of its standard errors."""
    one, two = _maps(1, batch=1), _maps(2, batch=1)
    exact = float((_outer(one) * _outer(two)).sum())
    pooled = [CompactBilinear(6, DIM, seed=seed) for seed in range(400)]
    estimates = np.array([float((p.sketch(one) * p.sketch(two)).sum()) for p in pooled])
    error = estimates.std(ddof=1) / np.sqrt(len(estimates))
    assert abs(estimates.mean() - exact) < 4 * error
    assert error < 0.1 * float(_outer(one).norm() * _outer(two).norm())


def test_a_wider_sketch_is_a_better_estimate() -> None:
    one, two = _maps(1, batch=1), _maps(2, batch=1)
    spread = {
        dim: np.std(
            [
                float((p.sketch(one) * p.sketch(two)).sum())
                for p in (CompactBilinear(6, dim, seed=seed) for seed in range(100))
            ]
        )
        for dim in (32, 512)
    }
    assert spread[512] < 0.5 * spread[32]


def test_the_sketch_is_the_count_sketch_of_the_outer_product_exactly() -> None:
    """Each product of channels i and j lands in bin h1(i) + h2(j), with both signs."""
    pooling, maps = CompactBilinear(6, DIM, seed=3), _maps(4)
    products = _outer(maps).view(2, 6, 6)
    expected = torch.zeros(2, DIM)
    for i in range(6):
        for j in range(6):
            place = int(pooling.hash_1[i] + pooling.hash_2[j]) % DIM
            expected[:, place] += pooling.sign_1[i] * pooling.sign_2[j] * products[:, i, j]
    assert torch.allclose(pooling.sketch(maps), expected, atol=1e-5)


def test_features_have_unit_length_and_do_not_know_where_things_are() -> None:
    pooling, maps = CompactBilinear(6, DIM), _maps(5)
    features = pooling(maps)
    assert torch.allclose(features.norm(dim=1), torch.ones(2), atol=1e-5)
    shuffled = maps.flatten(2)[:, :, torch.randperm(9)].view_as(maps)
    assert torch.allclose(pooling(shuffled), features, atol=1e-4)


@PATIENT
@given(st.floats(-1e4, 1e4))
def test_the_signed_root_keeps_the_sign_and_undoes_the_square(value: float) -> None:
    root = float(signed_sqrt(torch.tensor(value, dtype=torch.float64)))
    assert root * value >= 0
    assert root**2 == pytest.approx(abs(value), rel=1e-3, abs=1e-5)


def test_gradients_are_finite_even_at_zero() -> None:
    maps = torch.zeros(1, 6, 3, 3, requires_grad=True)
    CompactBilinear(6, DIM)(maps).sum().backward()
    assert maps.grad is not None
    assert torch.isfinite(maps.grad).all()
    precise = torch.randn(1, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(signed_sqrt, (precise,))


def test_half_precision_around_it_does_not_reach_the_transform() -> None:
    pooling, maps = CompactBilinear(6, DIM), _maps(6).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        sketch, features = pooling.sketch(maps), pooling(maps)
    assert sketch.dtype == features.dtype == torch.float32
    assert torch.equal(sketch, pooling.sketch(maps.float()))


# ---- the model


def test_the_head_answers_to_what_the_rest_asks_of_a_model(dataset: Dataset) -> None:
    model = _model()
    images = torch.randint(0, 256, (2, SIZE_PX, SIZE_PX, 3), dtype=torch.uint8)
    logits, features = model(images, with_features=True)
    assert torch.equal(logits, model(images))
    assert features.shape == (2, DIM) == (2, model.num_features)
    assert torch.allclose(features.norm(dim=1), torch.full((2,), LENGTH))
    assert (model.head, model.num_classes) == ("bilinear", 3)
    assert classifier_of(model).in_features == DIM
    groups = layer_groups(model)
    names = {name for group in groups for name in group}
    assert names == {name for name, _ in model.backbone.named_parameters()}
    assert "classifier.weight" in groups[-1]
    assert "body.conv1.0.weight" in groups[0]
    norms = find_last_norms(model, SIZE_PX).names
    assert norms
    allowed = ClassifierAndLastNorms(norms, affine=True).may_change(model)
    assert allowed <= set(model.backbone.state_dict())
    assert {"classifier.weight", *(f"{norm}.running_mean" for norm in norms)} <= allowed


def test_a_bilinear_model_learns_and_comes_back_from_its_checkpoint(
    dataset: Dataset, tmp_path: Path
) -> None:
    options = fast(
        head="bilinear", bilinear_dim=DIM, epochs=10, lr=1e-2, layer_decay=0.9, swa_epochs=2
    )
    metrics = train_teacher(dataset, options, seed=0, out=tmp_path)
    assert metrics["val_top1"] > 0.5
    model, card = load_checkpoint(tmp_path)
    assert (card.head, card.bilinear_dim) == ("bilinear", DIM)
    assert model.head == "bilinear"


def test_the_head_has_its_dropout_for_itself() -> None:
    """timm's networks drop before their own classifier, which is gone."""
    torch.manual_seed(0)
    model = build_model(
        "test_efficientnet", 3, size_px=SIZE_PX, drop_rate=0.5, head="bilinear", bilinear_dim=DIM
    )
    model.eval()
    model.backbone.body.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    pixels = torch.rand(2, 3, SIZE_PX, SIZE_PX)
    forward = model.backbone.forward_features
    assert torch.equal(forward(pixels), forward(pixels))
    head = model.train().backbone.forward_head
    dropped = head(forward(pixels), pre_logits=True)
    assert 0.3 < float((dropped == 0).float().mean()) < 0.7


@pytest.mark.parametrize("arch", ["test_efficientnet", "test_resnet"])
@pytest.mark.parametrize("coarse", [True, False])
def test_layers_are_grouped_as_under_a_linear_head(arch: str, coarse: bool) -> None:
    plain, bilinear = toy_model(arch=arch).backbone, _model(arch).backbone
    expected = group_parameters(plain, plain.group_matcher(coarse), reverse=True)
    groups = group_parameters(bilinear, bilinear.group_matcher(coarse), reverse=True)
    body = {n.removeprefix("body."): g for n, g in groups.items() if n.startswith("body.")}
    head = plain.pretrained_cfg["classifier"]
    assert body == {n: g for n, g in expected.items() if not n.startswith(f"{head}.")}
    assert groups["classifier.weight"] == expected[f"{head}.weight"]


def test_groups_that_timm_gives_as_a_function_are_understood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = _model()
    monkeypatch.setattr(
        model.backbone.body, "group_matcher", lambda coarse: lambda name: name.startswith("layer")
    )
    stem, stages, head = layer_groups(model)
    assert all(name.startswith("body.layer") for name in stages)
    assert "body.conv1.0.weight" in stem
    assert set(head) == {"classifier.weight", "classifier.bias"}


def test_pretrained_weights_fill_the_body_and_the_classifier_starts_small(tmp_path: Path) -> None:
    donor = toy_model(5, classes=7, arch="test_resnet").backbone.state_dict()
    save_file({n: t.contiguous() for n, t in donor.items()}, tmp_path / "weights.safetensors")
    model = _model()
    load_pretrained(model, str(tmp_path / "weights.safetensors"))
    body = model.backbone.body.state_dict()
    assert all(torch.equal(tensor, donor[name]) for name, tensor in body.items())
    assert 0 < float(model.backbone.get_classifier().weight.detach().abs().max()) < 0.1


def test_architectures_without_feature_maps_are_refused() -> None:
    with pytest.raises(UsageError, match="test_vit gives no feature maps") as caught:
        build_model("test_vit", 3, size_px=160, head="bilinear", bilinear_dim=DIM)
    assert "head = linear" in caught.value.next_step


def test_an_unknown_head_in_a_checkpoint_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    model = _model()
    save_checkpoint(tmp_path, model, card_of(dataset, model))
    path = tmp_path / "checkpoint.json"
    path.write_text(re.sub('"head": ?"bilinear"', '"head":"quadratic"', path.read_text()))
    with pytest.raises(CheckpointError, match="head of kind 'quadratic'"):
        load_checkpoint(tmp_path)


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(ValueError, match="head = 'quadratic': expected linear or bilinear"):
        build_model("test_resnet", 3, size_px=SIZE_PX, head="quadratic")


@pytest.mark.parametrize("dim", [0, -3])
def test_a_checkpoint_without_a_width_is_damaged(
    dataset: Dataset, tmp_path: Path, dim: int
) -> None:
    model = _model()
    save_checkpoint(tmp_path, model, card_of(dataset, model))
    path = tmp_path / "checkpoint.json"
    path.write_text(re.sub('"bilinear_dim": ?64', f'"bilinear_dim":{dim}', path.read_text()))
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(tmp_path)
