from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from serve.contract.errors import CheckpointError
from tests.train.toy import SIZE_PX, card_of, same_tensors, state_of, toy_model, write_checkpoint
from train.evaluation import predict_logits
from train.models.checkpoint import load_checkpoint, save_checkpoint
from train.stage import Dataset

PIXELS = np.random.default_rng(0).integers(0, 256, (5, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)


@pytest.fixture
def folder(dataset: Dataset, tmp_path: Path) -> Path:
    write_checkpoint(tmp_path, dataset, toy_model())
    return tmp_path


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


def test_a_model_comes_back_with_its_card_its_weights_and_its_answers(
    dataset: Dataset, folder: Path
) -> None:
    model, card = load_checkpoint(folder)
    assert card == card_of(dataset, toy_model())
    assert not any(module.training for module in model.modules())
    assert same_tensors(state_of(model), state_of(toy_model()))
    assert (predict_logits(model, PIXELS) == predict_logits(toy_model(), PIXELS)).all()


def test_equal_models_give_equal_bytes(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    model = toy_model().to(memory_format=torch.channels_last)
    write_checkpoint(other, dataset, model)
    for name in ("checkpoint.json", "checkpoint.safetensors"):
        assert (other / name).read_bytes() == (folder / name).read_bytes()


def test_a_model_normalises_as_its_card_says_whatever_timm_says_today(folder: Path) -> None:
    _edit(folder, mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7])
    model, card = load_checkpoint(folder)
    assert (model.mean, model.std) == (card.mean, card.std) == ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    assert model.shift.flatten().tolist() == pytest.approx([-0.2, -1 / 3, -3 / 7])


def test_a_card_from_before_there_were_heads_means_a_linear_one(folder: Path) -> None:
    path = folder / "checkpoint.json"
    value = json.loads(path.read_bytes())
    assert (value.pop("head"), value.pop("bilinear_dim")) == ("linear", 0)
    path.write_text(json.dumps(value))
    model, card = load_checkpoint(folder)
    assert (model.head, card.head, card.bilinear_dim) == ("linear", "linear", 0)


def _refusal(folder: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    assert caught.value.next_step
    assert str(folder) in caught.value.message
    return caught.value


@pytest.mark.parametrize("name", ["checkpoint.json", "checkpoint.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    error = _refusal(folder)
    assert "No checkpoint" in error.message
    assert "stillroom train" in error.next_step


@pytest.mark.parametrize("name", ["checkpoint.json", "checkpoint.safetensors"])
@pytest.mark.parametrize("keep", [0, 7, -9])
def test_a_truncated_file_is_refused(folder: Path, name: str, keep: int) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:keep])
    assert "is damaged" in _refusal(folder).message


@pytest.mark.parametrize(
    "changes", [{"preprocess": {"size_px": 0}}, {"labels": 3}, {"unknown": 1}, {"mean": None}]
)
def test_a_card_that_says_nonsense_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    _edit(folder, **changes)
    assert "is damaged" in _refusal(folder).message


def test_a_card_that_is_no_object_is_refused(folder: Path) -> None:
    (folder / "checkpoint.json").write_bytes(b"[1, 2]")
    assert "is damaged" in _refusal(folder).message


def test_tensors_of_another_model_are_refused(dataset: Dataset, folder: Path) -> None:
    other = toy_model(arch="test_resnet")
    tensors = {name: tensor.contiguous() for name, tensor in other.backbone.state_dict().items()}
    save_file(tensors, folder / "checkpoint.safetensors")
    assert "are not those of test_efficientnet" in _refusal(folder).message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder: Path, value: float) -> None:
    tensors = load_file(folder / "checkpoint.safetensors")
    tensors["bn1.weight"][3] = value
    save_file(tensors, folder / "checkpoint.safetensors")
    error = _refusal(folder)
    assert "NaN or infinity in 1 tensors, first bn1.weight" in error.message
    assert "lower learning rate" in error.next_step


def test_saving_leaves_the_model_where_it_is(dataset: Dataset, tmp_path: Path) -> None:
    model = toy_model().to(memory_format=torch.channels_last).train()
    save_checkpoint(tmp_path, model, card_of(dataset, model))
    assert model.training
    assert model.backbone.conv_stem.weight.is_contiguous(memory_format=torch.channels_last)
