from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.train.toy import same_tensors, state_of, toy_model
from train.models.weight_init import INITIALISERS, initialise


def test_timm_keeps_its_own() -> None:
    model = toy_model()
    before = state_of(model)
    initialise(model, "timm")
    assert same_tensors(state_of(model), before)


@pytest.mark.parametrize("kind", INITIALISERS)
def test_every_convolution_and_linear_layer_is_drawn_anew_and_norms_are_not(kind: str) -> None:
    model = toy_model()
    before = state_of(model)
    torch.manual_seed(1)
    initialise(model, kind)
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            assert (before[f"{name}.weight"] != module.weight.detach().numpy()).any()
            assert module.bias is None or not module.bias.detach().any()
        elif isinstance(module, nn.BatchNorm2d):
            assert (before[f"{name}.weight"] == module.weight.detach().numpy()).all()


def test_the_spread_is_the_published_one() -> None:
    """Kaiming, fan out, gain of ReLU: variance 2 / fan_out; Xavier: 2 / (fan_in + fan_out)."""
    torch.manual_seed(0)
    layer = nn.Linear(400, 600)
    assert layer.bias.detach().any()
    initialise(layer, "kaiming")
    assert not layer.bias.detach().any()
    assert float(layer.weight.detach().var()) == pytest.approx(2 / 600, rel=0.05)
    initialise(layer, "xavier")
    assert float(layer.weight.detach().var()) == pytest.approx(2 / 1000, rel=0.05)
    initialise(layer, "orthogonal")
    gram = layer.weight.detach().T @ layer.weight.detach()
    assert torch.allclose(gram, torch.eye(400), atol=1e-4)


def test_a_depthwise_convolution_is_drawn_by_the_fans_of_one_channel() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2000, 2000, 3, groups=2000)
    initialise(layer, "kaiming")
    assert float(layer.weight.detach().var()) == pytest.approx(2 / 9, rel=0.05)
    initialise(layer, "xavier")
    assert float(layer.weight.detach().var()) == pytest.approx(2 / 18, rel=0.05)
    initialise(layer, "orthogonal")
    assert torch.allclose(layer.weight.detach().flatten(1).norm(dim=1), torch.ones(2000))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="init = 'zeros': expected timm, kaiming, xavier"):
        initialise(toy_model(), "zeros")
