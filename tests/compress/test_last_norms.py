from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from compress.last_norms import find_last_norms
from tests.train.toy import same_tensors, state_of
from train.models.classifier import ImageClassifier, build_model

# What the forward of each ends with, read in timm's source: (size, names of the last batch norms).
LAST = {
    # several blocks in the last stage: the one norm at the end of the last block
    "resnet18": (64, {"layer4.1.bn2"}),
    "resnet50": (64, {"layer4.2.bn3"}),
    "seresnet50": (64, {"layer4.2.bn3"}),  # squeeze and excitation after it has no norm
    "regnetx_002": (64, {"s4.b7.conv3.bn"}),
    "regnety_002": (64, {"s4.b7.conv3.bn"}),
    "skresnet18": (64, {"layer4.1.conv2.bn"}),
    # one block there: its shortcut has a norm, too, and both are added
    "resnet10t": (64, {"layer4.0.bn2", "layer4.0.downsample.2"}),
    "test_resnet": (64, {"layer4.0.bn2", "layer4.0.downsample.2"}),
    # parallel branches, added or joined
    "repvgg_a0": (64, {"stages.3.0.conv_kxk.bn", "stages.3.0.conv_1x1.bn"}),
    "mobileone_s0": (64, {f"stages.3.1.conv_kxk.{n}.bn" for n in range(4)}),
    "inception_v3": (
        96,
        {
            f"Mixed_7c.branch{name}.bn"
            for name in ("1x1", "3x3_2a", "3x3_2b", "3x3dbl_3a", "3x3dbl_3b", "_pool")
        },
    ),
    # a convolution with a norm after the last block
    "mobilenetv2_050": (64, {"bn2"}),
    "efficientnet_b0": (64, {"bn2"}),
    "tf_efficientnet_lite0": (64, {"bn2"}),
    "tf_efficientnetv2_b0": (64, {"bn2"}),
    "mnasnet_small": (64, {"bn2"}),
    "fbnetc_100": (64, {"bn2"}),
    "resnetv2_50": (64, {"norm"}),
    "densenet121": (64, {"features.norm5"}),
    # a convolution without a norm between the last block, or the pooling, and the classifier
    "mobilenetv3_small_050": (64, {"blocks.5.0.bn1"}),
    "mobilenetv3_large_100": (64, {"blocks.6.0.bn1"}),
    "hardcorenas_a": (64, {"blocks.6.0.bn1"}),
    "ghostnet_050": (64, {"blocks.9.0.bn1"}),
    "lcnet_050": (64, {"blocks.5.1.bn2"}),
    # after the pooling, and in the classifier itself; distilled networks have two of those
    "mobilenetv4_conv_small": (64, {"norm_head"}),
    "levit_128s": (224, {"head.bn", "head_dist.bn"}),
    "efficientvit_m0": (224, {"head.bn"}),
    "efficientformerv2_s0": (224, {"norm"}),  # two linear classifiers read it
    # attention with its LayerNorms lies before it
    "mobilevit_xxs": (64, {"final_conv.bn"}),
}
NONE = {
    "vit_tiny_patch16_224": (224, "vit_tiny_patch16_224 has no batch norm"),
    "convnext_atto": (64, "convnext_atto has no batch norm"),
    "resnet50_gn": (64, "resnet50_gn has no batch norm"),
    "dm_nfnet_f0": (64, "dm_nfnet_f0 has no batch norm"),
    "efficientformer_l1": (224, "efficientformer_l1 has LayerNorm after its last batch norm"),
    "tiny_vit_5m_224": (224, "tiny_vit_5m_224 has LayerNorm2d after its last batch norm"),
}


@pytest.mark.parametrize("arch", LAST)
def test_the_last_norms_are_those_that_no_other_depends_on(arch: str) -> None:
    size_px, names = LAST[arch]
    model = build_model(arch, 3, size_px=size_px)
    found = find_last_norms(model, size_px)
    assert set(found.names) == names
    assert not found.others
    assert not found.why_none(arch)
    assert all(isinstance(model.backbone.get_submodule(name), _BatchNorm) for name in names)


@pytest.mark.parametrize("arch", NONE)
def test_without_a_last_batch_norm_it_is_said_why(arch: str) -> None:
    size_px, why = NONE[arch]
    found = find_last_norms(build_model(arch, 3, size_px=size_px), size_px)
    assert found.names == ()
    assert found.why_none(arch) == f"{why}: FixRes fine-tunes the classifier alone."


def _toy(backbone: nn.Module) -> ImageClassifier:
    return ImageClassifier(backbone, "toy", (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))


class Backwards(nn.Module):
    """Declares its norms in another order than it runs them, and one that it never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.late, self.early, self.never = (nn.BatchNorm2d(3) for _ in range(3))
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.late(self.early(x)).relu_().mean((2, 3)))  # in place, on the output


class Shortcut(nn.Module):
    """The shortcut's norm runs last, but the other branch ends in a norm as well."""

    def __init__(self, *, own_norm: bool) -> None:
        super().__init__()
        self.stem, self.inner, self.outer = (nn.BatchNorm2d(3) for _ in range(3))
        self.shortcut = nn.BatchNorm2d(3) if own_norm else nn.Identity()
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        branch = self.outer(self.inner(x).relu())
        return self.head((branch + self.shortcut(x)).relu().mean((2, 3)))


class Ends(nn.Module):
    """A batch norm, and another norm after it or beside it."""

    def __init__(self, *, beside: bool) -> None:
        super().__init__()
        self.beside = beside
        self.first, self.other = nn.BatchNorm2d(4), nn.GroupNorm(2, 4)
        self.conv, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self.first(x) + self.other(x) if self.beside else self.other(self.first(x))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("backbone", "names", "others"),
    [
        (Backwards(), ("late",), ()),
        (Shortcut(own_norm=False), ("outer",), ()),
        (Shortcut(own_norm=True), ("outer", "shortcut"), ()),
        (Ends(beside=False), (), ("GroupNorm",)),
        (Ends(beside=True), ("first",), ("GroupNorm",)),
    ],
)
def test_dependence_counts_and_neither_order_of_execution_nor_of_declaration(
    backbone: nn.Module, names: tuple[str, ...], others: tuple[str, ...]
) -> None:
    found = find_last_norms(_toy(backbone), 8)
    assert (found.names, found.others) == (names, others)


def test_the_search_leaves_no_trace() -> None:
    model = _toy(Backwards()).train()
    model.backbone.early.eval()
    model.requires_grad_(False)  # frozen layers are seen all the same
    before = state_of(model)
    with torch.no_grad():
        assert find_last_norms(model, 8).names == ("late",)
    assert same_tensors(state_of(model), before)
    assert model.training
    assert model.backbone.late.training
    assert not model.backbone.early.training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(p.grad is None for p in model.parameters())
