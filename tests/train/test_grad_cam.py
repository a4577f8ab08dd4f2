"""Class activation maps: the layer is the right one, and the warmth is where the evidence is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serve.contract.errors import UsageError
from tests.train.toy import SIZE_PX, lively, toy_model
from train.grad_cam import CamLayer, class_maps, find_cam_layer
from train.models.classifier import ImageClassifier, build_model

HALF = (0.5, 0.5, 0.5)


class _Reds(nn.Module):
    """Logit 0 counts red places, logit 1 blue ones: its class activation map is known."""

    def __init__(self) -> None:
        super().__init__()
        self.paint = nn.Conv2d(3, 2, 1)
        self.pool = nn.AvgPool2d(4)
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            weight = torch.tensor([[1.0, -1.0, -1.0], [-1.0, -1.0, 1.0]])
            self.paint.weight.copy_(weight[..., None, None])
            self.paint.bias.fill_(-1.0)
            self.head.weight.copy_(torch.eye(2))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(self.paint(images).relu()).mean((2, 3)))
        return logits


def _scene() -> NDArray[np.uint8]:
    """A red patch at the upper left and a blue one at the lower right, on black."""
    pixels = np.zeros((1, SIZE_PX, SIZE_PX, 3), np.uint8)
    pixels[0, 4:12, 4:12, 0] = 255
    pixels[0, 20:28, 16:28, 2] = 255
    return pixels


@pytest.mark.parametrize(
    ("kind", "rows", "columns"), [(0, (4, 12), (4, 12)), (1, (20, 28), (16, 28))]
)
def test_the_map_lies_on_the_planted_object(
    kind: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    model = ImageClassifier(_Reds(), "reds", HALF, HALF).eval()
    layer = find_cam_layer(model, SIZE_PX)
    assert layer.name == "backbone.pool"
    assert (layer.layout, layer.grid) == ("NCHW", (8, 8))
    (heat,) = class_maps(model, layer, _scene(), np.array([kind]))
    inside = np.zeros(heat.shape, bool)
    inside[rows[0] : rows[1], columns[0] : columns[1]] = True
    assert heat[inside].min() > 0.35  # resizing the map of 8 x 8 blurs its border
    assert heat[inside].mean() > 10 * heat[~inside].mean()
    assert heat.max() == pytest.approx(1, abs=1e-5)


def test_maps_of_two_classes_in_one_batch_are_those_of_each_alone() -> None:
    model = ImageClassifier(_Reds(), "reds", HALF, HALF).eval()
    layer = find_cam_layer(model, SIZE_PX)
    both = class_maps(model, layer, np.concatenate([_scene()] * 2), np.array([0, 1]))
    for kind in (0, 1):
        alone = class_maps(model, layer, _scene(), np.array([kind]))
        assert np.allclose(both[kind], alone[0])
    assert not np.allclose(both[0], both[1])


def test_with_a_pooled_linear_head_it_is_the_weighted_map() -> None:
    """Zhou et al. 2016: there the map is the features weighted by the class's row of the head."""
    size_px = 128
    model = lively(build_model("test_efficientnet", 3, size_px=size_px).eval())
    layer = find_cam_layer(model, size_px)
    pixels = np.random.default_rng(0).integers(0, 256, (1, size_px, size_px, 3), dtype=np.uint8)
    with torch.no_grad():
        planes = torch.from_numpy(pixels).float().permute(0, 3, 1, 2) * model.scale + model.shift
        features = model.backbone.forward_features(planes)
        weights = model.backbone.get_classifier().weight[1]
        expected = (features[0] * weights[:, None, None]).sum(0).relu().numpy()
    (heat,) = class_maps(model, layer, pixels, np.array([1]))
    step = size_px // layer.grid[0]
    centres = heat[step // 2 :: step, step // 2 :: step]
    assert np.corrcoef(centres.ravel(), expected.ravel())[0, 1] > 0.95


@pytest.mark.parametrize(
    ("arch", "name", "layout"),
    [
        ("test_efficientnet", "backbone.bn2", "NCHW"),
        ("test_resnet", "backbone.layer4", "NCHW"),
        ("test_convnext", "backbone.norm_pre", "NCHW"),
        ("test_vit", "backbone.blocks.5.norm1", "tokens"),
        ("test_mambaout", "backbone.stages", "NHWC"),
    ],
)
def test_the_last_layer_with_positions_is_found(arch: str, name: str, layout: str) -> None:
    torch.manual_seed(0)  # of some untrained weights the evidence is nowhere above zero
    size_px = 128
    model = build_model(arch, 3, size_px=size_px).eval()
    layer = find_cam_layer(model, size_px)
    assert (layer.name, layer.layout) == (name, layout)
    pixels = np.random.default_rng(0).integers(0, 256, (2, size_px, size_px, 3), dtype=np.uint8)
    maps = class_maps(model, layer, pixels, np.array([0, 2]))
    assert maps.shape == (2, size_px, size_px)
    assert maps.dtype == np.float32
    assert maps.min() >= 0
    assert maps.max() <= 1
    assert maps.std(axis=(1, 2)).max() > 0


def test_tokens_become_a_grid_without_their_prefix() -> None:
    layer = CamLayer("x", nn.Identity(), "tokens", (2, 3), prefix=1)
    tokens = torch.arange(2 * 7 * 4).reshape(2, 7, 4).float()
    planes = layer.planes(tokens)
    assert planes.shape == (2, 4, 2, 3)
    assert planes[1, :, 1, 2].equal(tokens[1, 6])
    assert planes[0, :, 0, 0].equal(tokens[0, 1])


def test_a_model_without_positions_says_so() -> None:
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE_PX**2, 2))
    model = ImageClassifier(backbone, "flat", HALF, HALF).eval()
    with pytest.raises(UsageError, match="flat has no feature map"):
        find_cam_layer(model, SIZE_PX)


def test_the_model_is_left_as_it_was() -> None:
    model = toy_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layer = find_cam_layer(model, 64)
    class_maps(model, layer, np.zeros((1, 64, 64, 3), np.uint8), np.array([0]))
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_no_images_give_no_maps() -> None:
    model = toy_model()
    layer = find_cam_layer(model, 64)
    nothing = class_maps(model, layer, np.zeros((0, 64, 64, 3), np.uint8), np.zeros(0, np.int64))
    assert nothing.shape == (0, 64, 64)
