from __future__ import annotations

import pytest
from torch import nn

from tests.train.toy import toy_model
from train.freeze import HeadOnly, TrainAll, classifier_of


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


def test_a_model_with_several_heads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy_model()
    heads = (nn.Linear(2, 2), nn.Linear(2, 2))
    monkeypatch.setattr(model.backbone, "get_classifier", lambda: heads)
    with pytest.raises(TypeError, match="test_efficientnet has tuple as classifier"):
        classifier_of(model)
