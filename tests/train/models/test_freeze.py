from __future__ import annotations

import pytest
from timm.layers import DropPath
from torch import nn

from tests.train.toy import toy_model
from train.models.classifier import build_model
from train.models.freeze import HeadOnly, TrainAll, classifier_of, classifiers_of
from train.models.param_groups import first_groups


def test_head_only_leaves_the_classifier_alone_to_learn() -> None:
    model = toy_model()
    HeadOnly().freeze(model)
    learning = {name for name, p in model.backbone.named_parameters() if p.requires_grad}
    assert learning == {"classifier.weight", "classifier.bias"}
    HeadOnly().set_mode(model)
    assert [m for m in model.modules() if m.training] == [classifier_of(model)]


def test_train_all_wakes_everything_again() -> None:
    model = toy_model()
    HeadOnly().freeze(model)
    TrainAll().freeze(model)
    TrainAll().set_mode(model)
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.modules())


def test_nothing_is_dropped_at_random_in_a_frozen_stage() -> None:
    model = build_model("test_efficientnet", 3, size_px=32, drop_path_rate=0.5)
    policy = TrainAll(4)
    policy.freeze(model)
    policy.set_mode(model)
    awake = {
        name for name, m in model.backbone.named_modules() if isinstance(m, DropPath) and m.training
    }
    asleep = {
        name
        for name, m in model.backbone.named_modules()
        if isinstance(m, DropPath) and not m.training
    }
    frozen = {name.rsplit(".", 1)[0] for name in first_groups(model, 4)}
    assert awake
    assert asleep
    for name in awake | asleep:
        block = name.rsplit(".", 1)[0]
        assert (name in asleep) == any(n.startswith(block) for n in frozen)


def test_a_model_with_several_heads_has_no_one_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy_model()
    heads = (nn.Linear(2, 2), nn.Linear(2, 2))
    monkeypatch.setattr(model.backbone, "get_classifier", lambda: heads)
    with pytest.raises(TypeError, match="test_efficientnet has tuple as classifier"):
        classifier_of(model)
    assert classifiers_of(model) == list(heads)
    HeadOnly().freeze(model)
    assert heads[0].weight.requires_grad
    assert not any(p.requires_grad for p in model.parameters())
    monkeypatch.setattr(model.backbone, "get_classifier", lambda: None)
    with pytest.raises(TypeError, match="has NoneType as classifier; expected layers"):
        classifiers_of(model)
