from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import train.fitting
from serve.contract.errors import Interrupted
from tests.train.fits import PLAN, Poisoned, SignalAt, fit_toy, validate_of
from tests.train.toy import fast, same_tensors, state_of
from train.engine.loop import Fitted, Scores, Validate
from train.engine.trainer import METRICS
from train.losses.objective import CrossEntropy, Objective, TrainingTask
from train.models.classifier import ImageClassifier
from train.stage import Dataset, train_model

Whole = tuple[dict[str, Any], Fitted, bytes]


class Crash(Exception):
    pass


@pytest.fixture(scope="module")
def validate(dataset: Dataset) -> Validate:
    return validate_of(dataset)


@pytest.fixture(scope="module")
def whole(dataset: Dataset, validate: Validate, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Weights, result and log of a training that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    model, fitted = fit_toy(dataset, folder, validate)
    return state_of(model), fitted, (folder / ".all" / METRICS).read_bytes()


def _assert_equal(whole: Whole, model: ImageClassifier, fitted: Fitted, folder: Path) -> None:
    assert fitted == whole[1]
    assert (folder / ".all" / METRICS).read_bytes() == whole[2]
    assert same_tensors(state_of(model), whole[0])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("step", [1, 3, 4, 8, 9])
def test_a_stopped_and_resumed_training_equals_an_undisturbed_one_bit_for_bit(
    dataset: Dataset, validate: Validate, tmp_path: Path, step: int, optimizer: str
) -> None:
    plan = replace(PLAN, optimizer=optimizer)
    model, fitted = fit_toy(dataset, tmp_path / "whole", validate, plan=plan)
    whole = state_of(model), fitted, (tmp_path / "whole" / ".all" / METRICS).read_bytes()
    with pytest.raises(Interrupted, match=rf"Stopped at step {step} of 9 of all") as caught:
        fit_toy(dataset, tmp_path / "cut", validate, plan=plan, objective=SignalAt(step))
    assert caught.value.exit_code == 75
    assert "Run the same command again" in caught.value.next_step
    model, fitted = fit_toy(dataset, tmp_path / "cut", validate, plan=plan)
    _assert_equal(whole, model, fitted, tmp_path / "cut")


@pytest.mark.parametrize("step", [2, 4, 6, 8])
def test_averages_plateau_mixing_and_balance_resume_bit_for_bit(
    dataset: Dataset, validate: Validate, tmp_path: Path, step: int
) -> None:
    plan = replace(
        PLAN,
        schedule="plateau",
        decay_epochs=1.0,
        swa_epochs=2,
        precise_bn_images=20,
        mixup=0.4,
        cutmix=1.0,
        mix_off_epochs=1,
        balance_limit=1.1,
        sizes_px=(32, 48),
        l1=1e-5,
        layer_decay=0.7,
    )
    model, fitted = fit_toy(dataset, tmp_path / "whole", validate, plan=plan)
    whole = state_of(model), fitted, (tmp_path / "whole" / ".all" / METRICS).read_bytes()
    with pytest.raises(Interrupted):
        fit_toy(dataset, tmp_path / "cut", validate, plan=plan, objective=SignalAt(step))
    model, fitted = fit_toy(dataset, tmp_path / "cut", validate, plan=plan)
    _assert_equal(whole, model, fitted, tmp_path / "cut")


def test_a_training_killed_during_validation_goes_on_from_the_epoch_before(
    dataset: Dataset,
    validate: Validate,
    tmp_path: Path,
    whole: Whole,
) -> None:
    calls = itertools.count(1)

    def crash(model: ImageClassifier) -> Scores:
        if next(calls) == 2:
            raise Crash
        return validate(model)

    with pytest.raises(Crash):
        fit_toy(dataset, tmp_path, crash)
    with (tmp_path / ".all" / METRICS).open("a") as file:
        file.write('{"phase": "all", "epoch": 2')  # a line that no saved state knows of
    model, fitted = fit_toy(dataset, tmp_path, validate)
    _assert_equal(whole, model, fitted, tmp_path)


def test_many_interruptions_are_as_none(
    dataset: Dataset,
    validate: Validate,
    tmp_path: Path,
    whole: Whole,
) -> None:
    for _ in range(9):
        with pytest.raises(Interrupted):
            fit_toy(dataset, tmp_path, validate, objective=SignalAt(1))
    model, fitted = fit_toy(dataset, tmp_path, validate, objective=Poisoned(1))  # no step is left
    _assert_equal(whole, model, fitted, tmp_path)


def test_signal_handlers_are_put_back(dataset: Dataset, validate: Validate, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted):
        fit_toy(dataset, tmp_path, validate, objective=SignalAt(2, signal.SIGINT))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_the_newest_state_damaged_means_the_training_goes_on_from_the_one_before(
    dataset: Dataset,
    validate: Validate,
    tmp_path: Path,
    whole: Whole,
) -> None:
    with pytest.raises(Interrupted):
        fit_toy(dataset, tmp_path, validate, objective=SignalAt(5))
    older, newest = sorted((tmp_path / ".all").glob(".state-*"))
    assert (older.name, newest.name) == (".state-000000003", ".state-000000005")
    with (newest / "state.safetensors").open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"\xff")
    model, fitted = fit_toy(dataset, tmp_path, validate)
    _assert_equal(whole, model, fitted, tmp_path)


def test_phases_stop_and_resume_in_either(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = fast(head_epochs=1, epochs=1)

    def run(name: str, *, head: Objective | None = None, all_: Objective | None = None) -> Path:
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        with monkeypatch.context() as patch:
            patch.setattr(train.fitting, "build_objective", lambda *_, **__: head or CrossEntropy())
            train_model(dataset, options, TrainingTask(all_ or CrossEntropy()), seed=1, out=out)
        return out

    whole = run("whole")
    with pytest.raises(Interrupted, match="Stopped at step 2 of 3 of head"):
        run("cut", head=SignalAt(2))
    with pytest.raises(Interrupted, match="Stopped at step 1 of 3 of all"):
        run("cut", all_=SignalAt(1))
    cut = run("cut")
    names = {path.name for path in whole.iterdir() if not path.name.startswith(".")}
    assert names == {
        "checkpoint.json",
        "checkpoint.safetensors",
        "evaluation.json",
        "metrics.jsonl",
        "predictions.csv",
        "timings.jsonl",
    }
    names.remove("timings.jsonl")  # the one file that may differ
    assert all((whole / name).read_bytes() == (cut / name).read_bytes() for name in names)
    lines = [json.loads(line) for line in (cut / METRICS).read_text().splitlines()]
    assert [line["phase"] for line in lines] == ["head", "all"]


GROUP_STOP = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from serve.contract.errors import Interrupted
    from tests.train.fits import PLAN, fit_toy
    from tests.train.toy import open_dataset
    from train.losses.objective import CrossEntropy
    from dataclasses import replace

    class StopAll:
        left = 5
        def __call__(self, *arguments):
            self.left -= 1
            if self.left == 0:
                print("ready", flush=True)
                time.sleep(2)
            return CrossEntropy()(*arguments)

    dataset = open_dataset(Path({photos!r}), Path({out!r}) / "data")
    scores = lambda model: {{"val_loss": 1.0, "val_top1": 0.5}}
    try:
        fit_toy(dataset, Path({out!r}), scores, plan=replace(PLAN, workers=2), objective=StopAll())
    except Interrupted as error:
        print(error.message)
"""


@pytest.mark.ci
def test_a_signal_to_the_whole_process_group_is_answered_by_saving(
    dataset: Dataset, tmp_path: Path
) -> None:
    root = str(Path(__file__).parents[3])
    code = GROUP_STOP.format(root=root, photos=str(dataset.root), out=str(tmp_path))
    command = [sys.executable, "-c", textwrap.dedent(code)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    assert "Stopped at step 5 of 9 of all; everything is saved." in output, errors
    assert (tmp_path / ".all" / ".state-000000005").is_dir()
