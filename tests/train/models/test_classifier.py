from __future__ import annotations

import pytest
import timm
import torch
from timm.layers import DropPath
from torch import nn

from serve.contract.errors import UsageError
from tests.train.toy import SIZE_PX, toy_model
from train.models.classifier import (
    ImageClassifier,
    build_model,
    check_size,
    count_flops,
    count_parameters,
)

ARCH = "test_efficientnet"


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
    model = ImageClassifier(torch.nn.Identity(), "none", (0.1, 0.2, 0.3), (1.0, 2.0, 4.0))
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


def test_stochastic_depth_that_an_architecture_has_not_is_refused() -> None:
    with pytest.raises(UsageError, match="timm cannot build vgg11") as caught:
        build_model("vgg11", 3, size_px=SIZE_PX, drop_path_rate=0.1)
    assert caught.value.next_step == "Set drop_path_rate = 0."
    model = build_model(ARCH, 3, size_px=SIZE_PX, drop_path_rate=0.5)
    assert max(m.drop_prob for m in model.modules() if isinstance(m, DropPath)) > 0.3


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
    model = ImageClassifier(
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


# ---- features


class _ConvHead(nn.Module):
    """A network whose classifier is a convolution, as some of timm's are."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.fc = nn.Conv2d(8, 5, 1)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.fc(self.stem(pixels).mean((2, 3), keepdim=True)).flatten(1)


@pytest.mark.parametrize("arch", [ARCH, "test_resnet", "test_vit3", "test_convnext"])
def test_features_are_what_the_classifier_takes(arch: str) -> None:
    model, images = toy_model(arch=arch), _images()
    logits, features = model(images, with_features=True)
    assert torch.equal(logits, model(images))
    assert features.shape == (2, model.num_features)
    assert torch.equal(model.backbone.get_classifier()(features), logits)


def test_features_are_those_after_dropout() -> None:
    model = build_model(ARCH, 3, size_px=SIZE_PX, drop_rate=0.5).train()
    _, features = model(_images(), with_features=True)
    assert 0.2 < float((features == 0).float().mean()) < 0.8


def test_a_convolution_as_classifier_gives_features_too() -> None:
    model = ImageClassifier(_ConvHead(), "conv", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    logits, features = model(_images(), with_features=True)
    expected = model.backbone.fc(features[..., None, None]).flatten(1)
    torch.testing.assert_close(logits, expected)
    assert (logits.shape, features.shape, model.num_features) == ((2, 5), (2, 8), 8)


def test_features_of_several_classifiers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy_model()
    heads = (nn.Linear(2, 2), nn.Linear(2, 2))
    monkeypatch.setattr(model.backbone, "get_classifier", lambda: heads)
    assert model.num_features == 0
    with pytest.raises(UsageError, match="test_efficientnet has no single classifier") as caught:
        model(_images(), with_features=True)
    assert "centre_weight = 0" in caught.value.next_step


def test_taking_features_leaves_no_hook() -> None:
    model = toy_model()
    model(_images(), with_features=True)
    assert not model.backbone.get_classifier()._forward_pre_hooks
