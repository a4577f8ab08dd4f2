from __future__ import annotations

import json
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3

from serve.contract.errors import CheckpointError
from tests.train.toy import SIZE_PX, same_tensors, state_of, toy_model
from train.engine.resume_state import ResumeState, load_state, save_state, saved_steps
from train.models.classifier import ImageClassifier

LINEAGE = {"recipe_digest": "r", "dataset_digest": "d"}
Trained = tuple[ImageClassifier, ModelEmaV3, torch.optim.Optimizer]


def _new(seed: int = 0, steps: int = 0, opt: str = "adamw") -> Trained:
    model = toy_model(seed).train()
    ema = ModelEmaV3(model, decay=0.5)
    optimizer = create_optimizer_v2(model.backbone, opt=opt, lr=0.01, weight_decay=0.1)
    for _ in range(steps):
        loss = model(torch.randint(0, 256, (4, SIZE_PX, SIZE_PX, 3), dtype=torch.uint8)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(model)
    return model, ema, optimizer


def _save(folder: Path, trained: Trained, step: int, val_loss: float | None = None) -> Path:
    model, ema, optimizer = trained
    progress = ResumeState(step, {"loss": 0.1 + step}, 7, (0.1, 1, 2))
    modules = {"model": model, "ema": ema.module}
    save_state(
        folder, progress, modules=modules, optimizer=optimizer, lineage=LINEAGE, val_loss=val_loss
    )
    return folder / f".state-{step:09d}"


def _load(folder: Path, into: Trained, lineage: dict[str, str] = LINEAGE) -> ResumeState:
    modules = {"model": into[0], "ema": into[1].module}
    return load_state(folder, modules=modules, optimizer=into[2], lineage=lineage)


@pytest.mark.parametrize("opt", ["adamw", "sgd"])
def test_a_state_is_read_back_as_it_was(tmp_path: Path, opt: str) -> None:
    trained = _new(steps=2, opt=opt)
    _save(tmp_path, trained, 2)
    other = _new(seed=9, opt=opt)
    assert _load(tmp_path, other) == ResumeState(2, {"loss": 2.1}, 7, (0.1, 1, 2))
    assert same_tensors(state_of(other[0]), state_of(trained[0]))
    assert same_tensors(state_of(other[1]), state_of(trained[1]))
    mine, theirs = other[2].state_dict(), trained[2].state_dict()
    assert mine["param_groups"] == theirs["param_groups"]
    assert mine["state"].keys() == theirs["state"].keys()
    for index, values in theirs["state"].items():
        for name, value in values.items():
            assert torch.equal(mine["state"][index][name], value)


@pytest.mark.parametrize("opt", ["adamw", "sgd"])
def test_a_fused_optimiser_of_channels_last_weights_goes_on_where_it_was(
    tmp_path: Path, opt: str
) -> None:
    def fresh() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(5, 7, 3).to(memory_format=torch.channels_last)
        made = create_optimizer_v2(layer, opt=opt, lr=0.1, momentum=0.9, fused=True)
        return layer, made

    def train(layer: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for seed in range(2):
            torch.manual_seed(seed)
            optimizer.zero_grad()
            layer(torch.randn(2, 5, 6, 6)).square().sum().backward()
            optimizer.step()

    one, optimizer = fresh()
    train(one, optimizer)
    save_state(tmp_path, ResumeState(2), modules={"model": one}, optimizer=optimizer)
    train(one, optimizer)
    two, again = fresh()
    load_state(tmp_path, modules={"model": two}, optimizer=again)
    train(two, again)
    assert same_tensors(state_of(one), state_of(two))


def test_without_a_state_training_starts_at_the_beginning(tmp_path: Path) -> None:
    trained = _new()
    before = state_of(trained[0])
    assert _load(tmp_path, trained) == ResumeState()
    assert same_tensors(state_of(trained[0]), before)


def test_the_two_newest_states_and_the_best_are_kept(tmp_path: Path) -> None:
    for step, val_loss in ((1, 0.9), (2, 0.3), (3, 0.4), (4, None), (5, 0.5)):
        _save(tmp_path, _new(), step, val_loss)
    assert saved_steps(tmp_path) == [2, 4, 5]
    _save(tmp_path, _new(), 6, 0.1)
    assert saved_steps(tmp_path) == [5, 6]


def test_a_state_that_is_half_written_does_not_count(tmp_path: Path) -> None:
    trained = _new(steps=1)
    saved = _save(tmp_path, trained, 1)
    shutil.copytree(saved, tmp_path / ".partial")
    assert _load(tmp_path, _new()).step == 1
    _save(tmp_path, trained, 2)
    assert not (tmp_path / ".partial").exists()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "tensors cut": lambda state: _cut(state / "state.safetensors"),
    "tensors changed": lambda state: _flip(state / "state.safetensors"),
    "tensors missing": lambda state: (state / "state.safetensors").unlink(),
    "record cut": lambda state: _cut(state / "state.json"),
    "record empty": lambda state: (state / "state.json").write_bytes(b""),
    "record a list": lambda state: (state / "state.json").write_bytes(b"[]"),
    "record of another version": lambda state: _with(state / "state.json", "version", 9),
    "record poor": lambda state: _without(state / "state.json", "optimizer"),
    "record missing": lambda state: (state / "state.json").unlink(),
    "folder empty": lambda state: [path.unlink() for path in state.iterdir()] and None,
}


def _with(path: Path, key: str, value: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), key: value}))


def _without(path: Path, key: str) -> None:
    record = json.loads(path.read_bytes())
    del record[key]
    path.write_text(json.dumps(record))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_state_means_the_older_one_or_the_start(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    newest = _save(tmp_path, _new(steps=2), 2)
    older = _new(steps=1)
    shutil.copytree(newest, tmp_path / "aside")
    shutil.rmtree(newest)
    _save(tmp_path, older, 1)
    (tmp_path / "aside").rename(newest)  # as a crash between rename and clean-up leaves it
    damage(newest)
    other = _new(seed=5)
    assert _load(tmp_path, other).step == 1
    assert same_tensors(state_of(other[0]), state_of(older[0]))
    shutil.rmtree(tmp_path / ".state-000000001")
    fresh = _new(seed=6)
    before = state_of(fresh[0])
    assert _load(tmp_path, fresh) == ResumeState()
    assert same_tensors(state_of(fresh[0]), before)


def test_a_damaged_newer_state_never_displaces_a_good_one(tmp_path: Path) -> None:
    _cut(_save(tmp_path, _new(steps=1), 9) / "state.json")
    saved = _save(tmp_path, _new(steps=1), 4)  # the training started again and got this far
    assert list(tmp_path.iterdir()) == [saved]
    assert _load(tmp_path, _new()).step == 4


def _flip_at(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << (at % 8)
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_one_flipped_byte_anywhere_means_the_state_before(tmp_path: Path, name: str) -> None:
    older, newest = _new(steps=1), _save(tmp_path, _new(steps=2), 2)
    saved = tmp_path / "aside"
    newest.rename(saved)
    _save(tmp_path, older, 1)
    size = (saved / name).stat().st_size
    for at in {0, size - 1, *(int(x) for x in np.random.default_rng(0).integers(0, size, 20))}:
        shutil.copytree(saved, newest)
        _flip_at(newest / name, at)
        other = _new(seed=5)
        assert _load(tmp_path, other).step == 1, at
        assert same_tensors(state_of(other[0]), state_of(older[0]))
        shutil.rmtree(newest)


@pytest.mark.parametrize("key", LINEAGE)
def test_a_state_of_another_recipe_or_dataset_is_refused(tmp_path: Path, key: str) -> None:
    saved = _save(tmp_path, _new(steps=1), 1)
    with pytest.raises(CheckpointError, match=f"another {key.split('_')[0]}") as caught:
        _load(tmp_path, _new(), {**LINEAGE, key: "other"})
    assert str(tmp_path) in caught.value.next_step
    assert saved.exists()


def test_a_full_disk_leaves_the_older_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save(tmp_path, _new(steps=1), 1)
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(OSError, match="no space left"):
            _save(tmp_path, _new(steps=2), 2)
    assert [path.name for path in tmp_path.iterdir()] == [".state-000000001"]
    assert _load(tmp_path, _new()).step == 1


def test_a_write_that_fails_leaves_the_older_state(tmp_path: Path) -> None:
    _save(tmp_path, _new(steps=1), 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"os error 27|File too large"):
            _save(tmp_path, _new(steps=2), 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [path.name for path in tmp_path.iterdir()] == [".state-000000001"]
    assert _load(tmp_path, _new()).step == 1
