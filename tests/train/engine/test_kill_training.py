"""kill -9 at any step and inside saves: a training ends with the bytes of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from serve.contract.digest import sha256_of_file
from tests.train.dying import SURVIVED, DeathAt, in_a_child
from tests.train.fits import PLAN, fit_toy, validate_of
from tests.train.toy import same_tensors, state_of, toy_model
from train.data.dataset import Dataset
from train.engine.loop import Validate
from train.engine.resume_state import ResumeState, load_state, save_state, saved_steps
from train.engine.trainer import METRICS

pytestmark = [pytest.mark.e2e, pytest.mark.forks]

KILLS = 100 if os.environ.get("STILLROOM_SOAK") else 10
LONG = replace(
    PLAN, epochs=8, save_minutes=0.0, swa_epochs=2, mixup=0.4, sizes_px=(32, 48), balance_limit=1.1
)


@pytest.fixture(scope="module")
def validate(dataset: Dataset) -> Validate:
    return validate_of(dataset)


def _digests(folder: Path) -> dict[str, str]:
    """Of the last state (weights, averages, optimiser) and of the log."""
    last = saved_steps(folder / ".all")[-1]
    state = folder / ".all" / f".state-{last:09d}"
    return {
        "tensors": sha256_of_file(state / "state.safetensors"),
        "record": sha256_of_file(state / "state.json"),
        "metrics": sha256_of_file(folder / ".all" / METRICS),
    }


def _saved(folder: Path, step: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = toy_model(step)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    progress = ResumeState(step, {"loss": float(step)})
    save_state(
        folder, progress, modules={"model": model}, optimizer=optimizer, val_loss=1.0 / (1 + step)
    )
    return model, optimizer


def test_a_crash_at_each_file_operation_of_a_save_leaves_a_state_that_loads(
    tmp_path: Path,
) -> None:
    def save(folder: Path, death: int) -> DeathAt:
        counter = DeathAt(folder, death)
        _saved(folder, 4)
        return counter

    def prepared(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for step in (1, 2, 3):
            _saved(folder, step)
        return folder

    def count() -> None:
        counter = save(prepared("counted"), 0)
        (tmp_path / "operations").write_text(str(counter.seen))

    assert in_a_child(count) == SURVIVED
    operations = int((tmp_path / "operations").read_text())
    assert operations > 15
    loaded = []
    for number in range(1, operations + 1):
        folder = prepared(str(number))
        assert in_a_child(lambda n=number, f=folder: save(f, n)) == -signal.SIGKILL
        model = toy_model(99)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        progress = load_state(folder, modules={"model": model}, optimizer=optimizer)
        assert progress.step in (3, 4), number
        assert progress.sums == {"loss": float(progress.step)}
        assert same_tensors(state_of(model), state_of(toy_model(progress.step)))
        _saved(folder, 5)  # and the next save tidies up
        assert not (folder / ".partial").exists()
        assert saved_steps(folder) == [4, 5] if progress.step == 4 else [3, 5]
        loaded.append(progress.step)
    assert loaded == sorted(loaded), "the new state counts from one moment on"
    assert {3, 4} == set(loaded)


@pytest.mark.ci
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("workers", [0, 2, 4])
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
def test_killed_again_and_again_a_training_ends_as_if_never(
    dataset: Dataset, validate: Validate, tmp_path: Path, workers: int
) -> None:
    def whole() -> None:
        fit_toy(dataset, tmp_path / "whole", validate, plan=LONG)

    start = time.monotonic()
    assert in_a_child(whole) == SURVIVED
    duration_s = time.monotonic() - start
    expected = _digests(tmp_path / "whole")

    plan = replace(LONG, workers=workers)
    moments = random.Random(workers)
    kills = 0
    for attempt in range(100 * KILLS):
        folder = tmp_path / f"killed-{attempt}"
        while not _is_done(folder):
            kills += _run_and_kill(dataset, folder, validate, plan, moments, duration_s)
        assert _digests(folder) == expected, f"killed {kills} times"
        if kills >= KILLS:
            return


def _run_and_kill(
    dataset: Dataset,
    folder: Path,
    validate: Validate,
    plan: object,
    moments: random.Random,
    duration_s: float,
) -> int:
    """Train on, to be killed at a random moment or within a random save; whether it was."""

    def train_on(death: int) -> None:
        folder.mkdir(exist_ok=True)
        if death:
            DeathAt(folder / ".all", death)
        fit_toy(dataset, folder, validate, plan=plan)  # type: ignore[arg-type]
        (folder / "done").touch()

    if moments.random() < 0.5:
        death = moments.randrange(1, 400)
        code = in_a_child(lambda: train_on(death))
    else:
        code = in_a_child(lambda: train_on(0), kill_after_s=moments.uniform(0, duration_s))
    assert code in (SURVIVED, -signal.SIGKILL)
    return int(code != SURVIVED)


def _is_done(folder: Path) -> bool:
    return (folder / "done").exists()
