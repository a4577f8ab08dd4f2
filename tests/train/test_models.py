from __future__ import annotations

import pytest
import timm
import torch

from serve.contract.errors import UsageError
from tests.train.toy import SIZE_PX, toy_model
from train.models import (
    PhotoClassifier,
    build_model,
    check_size,
    count_flops,
    count_parameters,
)

ARCH = "test_efficientnet"
HEAD = {"backbone.classifier.weight", "backbone.classifier.bias"}


def _images(count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, SIZE_PX, SIZE_PX, 3), dtype=torch.uint8)


def test_the_model_normalises_as_its_backbone_was_trained() -> None:
    model, images = toy_model(), _images()
    config = model.backbone.pretrained_cfg
    mean, std = torch.tensor(config["mean"]), torch.tensor(config["std"])
    expected = model.backbone(((images / 255 - mean) / std).permute(0, 3, 1, 2))
    torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)
    assert model(images.float()).equal(model(images))


def test_mean_and_std_are_no_weights() -> None:
    model = PhotoClassifier(torch.nn.Identity(), "none", (0.1, 0.2, 0.3), (1.0, 2.0, 4.0))
    assert model.state_dict() == {}
    white = torch.full((1, 1, 1, 3), 255, dtype=torch.uint8)
    assert model(white).flatten().tolist() == pytest.approx([0.9, 0.4, 0.175])


def test_an_unknown_architecture_names_near_ones() -> None:
    with pytest.raises(UsageError, match="has no model 'resnet-18'") as caught:
        build_model("resnet-18", 3, size_px=32)
    assert "resnet18" in caught.value.next_step
    with pytest.raises(UsageError) as caught:
        build_model("resnet18.a1_in1k", 3, size_px=32)
    assert "Near it: resnet18" in caught.value.next_step
    with pytest.raises(UsageError) as caught:
        build_model("!", 3, size_px=32)
    assert "timm.list_models()" in caught.value.next_step


def test_an_architecture_that_does_not_fit_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("too small")

    monkeypatch.setattr(timm, "create_model", refuse)
    message = r"timm cannot build test_vit for 33 px and 3 classes \(too small\)"
    with pytest.raises(UsageError, match=message):
        build_model("test_vit", 3, size_px=33)


def test_an_architecture_of_one_size_is_refused_at_another() -> None:
    check_size(toy_model(), 48)
    model = toy_model(arch="test_vit3")
    check_size(model, SIZE_PX)
    with pytest.raises(
        UsageError, match="test_vit3 was built for one size and cannot take 48 px"
    ) as e:
        check_size(model, 48)
    assert "the same value" in e.value.next_step


def test_parameters_and_multiply_adds_are_counted() -> None:
    model = PhotoClassifier(
        torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(4),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(4, 5),
        ),
        "tiny",
        (0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5),
    ).train()
    assert count_parameters(model) == 3 * 4 * 9 + 8 + 25
    assert count_flops(model, 10) == 3 * 4 * 9 * 100 + 20
    assert model.training


# ---- weights
