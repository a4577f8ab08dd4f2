from __future__ import annotations

import pytest
import torch
from timm.optim import create_optimizer_v2

from serve.contract.errors import UsageError
from tests.train.toy import same_tensors, state_of, toy_model
from train.models.freeze import TrainAll
from train.models.param_groups import build_optimizer, first_groups, layer_groups

ARCHS = ("test_efficientnet", "test_resnet", "test_vit")


@pytest.mark.parametrize("arch", ARCHS[:2])
def test_groups_hold_every_parameter_once_and_end_with_the_head(arch: str) -> None:
    model = toy_model(arch=arch)
    groups = layer_groups(model)
    names = [name for group in groups for name in group]
    assert sorted(names) == sorted(name for name, _ in model.backbone.named_parameters())
    head = model.backbone.pretrained_cfg["classifier"]
    assert f"{head}.weight" in groups[-1]
    assert f"{model.backbone.pretrained_cfg['first_conv']}.weight" in groups[0]


def test_no_group_is_frozen_unless_asked_for_and_the_head_never() -> None:
    model = toy_model()
    groups = layer_groups(model)
    assert first_groups(model, 0) == set()
    assert first_groups(model, 2) == {name for group in groups[:2] for name in group}
    message = rf"freeze_stages = {len(groups)}: test_efficientnet has {len(groups)} groups"
    with pytest.raises(UsageError, match=message) as caught:
        first_groups(model, len(groups))
    assert f"at most {len(groups) - 1}" in caught.value.next_step


@pytest.mark.parametrize("count", [1, 2])
def test_frozen_groups_do_not_change_and_neither_do_their_statistics(count: int) -> None:
    model = toy_model(arch="test_resnet")
    frozen = first_groups(model, count)
    policy = TrainAll(count)
    policy.freeze(model)
    policy.set_mode(model)
    before = state_of(model.backbone)
    optimizer = build_optimizer(model, name="sgd", lr=0.1, weight_decay=0.1, layer_decay=1.0)
    model(torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)).square().sum().backward()
    optimizer.step()
    after = state_of(model.backbone)
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert not changed & frozen
    stems = tuple({name.rsplit(".", 1)[0] for name in frozen})
    assert not [name for name in changed if name.rsplit(".", 1)[0] in stems]
    others = [p for name, p in model.backbone.named_parameters() if name not in frozen]
    assert all(p.grad is not None for p in others)
    assert any("running_mean" in name for name in changed)


def test_the_rate_falls_by_the_same_factor_from_group_to_group() -> None:
    model = toy_model()
    optimizer = build_optimizer(model, name="adamw", lr=1.0, weight_decay=0.1, layer_decay=0.5)
    scales = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    named = dict(model.backbone.named_parameters())
    groups = layer_groups(model)
    first, last = ({scales[id(named[name])] for name in groups[position]} for position in (0, -1))
    assert last == {1.0}
    assert len(first) == 1
    assert next(iter(first)) < 0.5
    assert all(
        scale == 0.5 ** round(-torch.tensor(scale).log2().item()) for scale in scales.values()
    )


def test_what_is_frozen_gets_no_rate() -> None:
    model = toy_model()
    TrainAll(2).freeze(model)
    optimizer = build_optimizer(model, name="sgd", lr=1.0, weight_decay=0.1, layer_decay=0.5)
    given = {id(p) for group in optimizer.param_groups for p in group["params"]}
    named = dict(model.backbone.named_parameters())
    assert given == {id(p) for name, p in named.items() if name not in first_groups(model, 2)}


def _undivided(coarse: bool) -> None:
    raise AssertionError("coarse grouping is not implemented")


@pytest.mark.parametrize("matcher", [None, _undivided])
def test_what_timm_does_not_divide_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, matcher: object
) -> None:
    model = toy_model()
    if matcher is None:
        monkeypatch.delattr(type(model.backbone), "group_matcher")
    else:
        monkeypatch.setattr(model.backbone, "group_matcher", matcher)
    with pytest.raises(UsageError, match="does not divide test_efficientnet into groups") as e:
        build_optimizer(model, name="sgd", lr=1.0, weight_decay=0.1, layer_decay=0.5)
    assert "layer_decay = 1" in e.value.next_step
    assert first_groups(model, 0) == set()  # not asked for, not needed


def test_without_layer_decay_the_optimiser_is_the_plain_one() -> None:
    ours, plain = toy_model(), toy_model()
    one = build_optimizer(ours, name="adamw", lr=0.01, weight_decay=0.1, layer_decay=1.0)
    two = create_optimizer_v2(plain.backbone, opt="adamw", lr=0.01, weight_decay=0.1, fused=True)
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    for model, optimizer in ((ours, one), (plain, two)):
        model(images).square().sum().backward()
        optimizer.step()
    assert same_tensors(state_of(ours), state_of(plain))


def test_biases_and_norms_do_not_decay() -> None:
    model = toy_model()
    for layer_decay in (1.0, 0.5):
        optimizer = build_optimizer(
            model, name="adamw", lr=1.0, weight_decay=0.1, layer_decay=layer_decay
        )
        for group in optimizer.param_groups:
            flat = {p.ndim <= 1 for p in group["params"]}
            assert flat == {group["weight_decay"] == 0}
