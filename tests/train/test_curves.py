"""Curves: every scalar under its epoch, once, and no tracker ever stops a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from serve.contract.errors import Interrupted
from train import curves as tracking
from train.curves import Trackers, open_trackers, scalars_of

CONFIG = {"lr": 0.1, "augment": {"flip": 0.5}}


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def _record(phase: str, epoch: int, loss: float) -> dict[str, Any]:
    return {"phase": phase, "epoch": epoch, "step": 7 * epoch, "loss": loss, "val_loss": loss / 2}


def _curve(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(name)]


def _train(
    folder: Path,
    records: list[dict[str, Any]],
    config: dict[str, Any] = CONFIG,
    *,
    stop: bool = False,
) -> None:
    with open_trackers(folder, name="toy", config=config) as listen:
        for record in records:
            listen(record)
        if stop:
            raise Interrupted("Stopped.")


def test_every_scalar_of_every_phase_is_written(tmp_path: Path) -> None:
    _train(tmp_path, [_record("head", 1, 4), _record("all", 1, 2), _record("all", 2, 1)])
    assert _curve(tmp_path / "head", "loss") == [(1, 4)]
    assert _curve(tmp_path / "all", "loss") == [(1, 2), (2, 1)]
    assert _curve(tmp_path / "all", "val_loss") == [(1, 1), (2, 0.5)]
    assert _curve(tmp_path / "all", "step") == [(1, 7), (2, 14)]


def test_curves_are_there_while_the_training_runs(tmp_path: Path) -> None:
    with open_trackers(tmp_path, name="toy", config=CONFIG) as listen:
        assert not list(tmp_path.iterdir())  # nothing before there is something to show
        listen(_record("all", 1, 3))
        assert _curve(tmp_path / "all", "loss") == [(1, 3)]


def test_a_resumed_phase_has_no_epoch_twice(tmp_path: Path) -> None:
    _train(tmp_path, [_record("head", 1, 9), *(_record("all", e, 10 - e) for e in (1, 2, 3))])
    _train(tmp_path, [_record("all", 3, 6.5), _record("all", 4, 6)])
    assert _curve(tmp_path / "all", "loss") == [(1, 9), (2, 8), (3, 6.5), (4, 6)]
    assert _curve(tmp_path / "head", "loss") == [(1, 9)]


def test_a_phase_from_the_start_replaces_its_curves(tmp_path: Path) -> None:
    _train(tmp_path, [_record("all", e, e) for e in (1, 2, 3)])
    _train(tmp_path, [_record("all", 1, 5)])
    assert _curve(tmp_path / "all", "loss") == [(1, 5)]


def test_other_options_leave_nothing_of_the_old_curves(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    _train(tmp_path, [_record("head", 1, 1), _record("all", 1, 1)])
    _train(tmp_path, [_record("all", 1, 2)], config={"lr": 0.2})
    assert not list((tmp_path / "head").iterdir())
    assert _curve(tmp_path / "all", "loss") == [(1, 2)]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_only_numbers_are_curves() -> None:
    record = _record("all", 1, 2) | {"chosen": "ema", "kept": True, "none": None, "n": 3}
    assert scalars_of(record) == {"step": 7.0, "loss": 2.0, "val_loss": 1.0, "n": 3.0}


class _Broken:
    def __init__(self) -> None:
        self.calls = 0

    def log(self, phase: str, epoch: int, scalars: dict[str, float]) -> None:
        self.calls += 1
        raise ConnectionError("no route\nto host")

    def close(self, error: BaseException | None) -> None:
        self.calls += 1


class _Kept:
    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.error: BaseException | None = None

    def log(self, phase: str, epoch: int, scalars: dict[str, float]) -> None:
        self.epochs.append(epoch)

    def close(self, error: BaseException | None) -> None:
        self.error = error


def test_a_failing_tracker_warns_once_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken, kept = _Broken(), _Kept()
    with Trackers({"broken": broken, "kept": kept}) as listen:
        for epoch in (1, 2, 3):
            listen(_record("all", epoch, 1))
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines == ["  warning: no more curves in broken (ConnectionError: no route)".strip()]
    assert broken.calls == 1
    assert kept.epochs == [1, 2, 3]


def test_trackers_learn_why_a_training_ended() -> None:
    kept = _Kept()
    with pytest.raises(Interrupted), Trackers({"kept": kept}):
        raise Interrupted("Stopped.")
    assert isinstance(kept.error, Interrupted)


def test_an_unwritable_folder_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    _train(tmp_path / "file" / "teacher", [_record("all", 1, 1), _record("all", 2, 1)])
    assert capsys.readouterr().err.count("no more curves in TensorBoard") == 1


def test_mlflow_that_is_not_installed_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///none.db")
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    monkeypatch.setitem(__import__("sys").modules, "mlflow.entities", None)
    _train(tmp_path, [_record("all", 1, 1), _record("all", 2, 1)])
    assert capsys.readouterr().err.count("no more curves in MLflow") == 1
    assert _curve(tmp_path / "all", "loss") == [(1, 1), (2, 1)]


def test_nothing_of_mlflow_without_its_variable(tmp_path: Path) -> None:
    assert list(open_trackers(tmp_path, name="toy", config={})._trackers) == ["TensorBoard"]


THEIR_WARNINGS = pytest.mark.filterwarnings("ignore")  # mlflow's own, of its libraries


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "toys")
    return mlflow.MlflowClient(uri)


def _runs(store: Any) -> list[Any]:
    experiment = store.get_experiment_by_name("toys")
    return list(store.search_runs([experiment.experiment_id]))


@THEIR_WARNINGS
def test_mlflow_gets_options_and_epochs(store: Any, tmp_path: Path) -> None:
    _train(tmp_path / "t", [_record("head", 1, 4), _record("all", 1, 2), _record("all", 2, 1)])
    (run,) = _runs(store)
    assert run.info.run_name == "toy"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"lr": "0.1", "augment.flip": "0.5"}
    history = store.get_metric_history(run.info.run_id, "all/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 2), (2, 1)]


@THEIR_WARNINGS
def test_a_resumed_training_goes_on_in_its_mlflow_run(store: Any, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        _train(tmp_path / "t", [_record("all", 1, 2), _record("all", 2, 1)], stop=True)
    (run,) = _runs(store)
    assert run.info.status == "KILLED"
    _train(tmp_path / "t", [_record("all", 2, 1), _record("all", 3, 0.5)])
    (run,) = _runs(store)
    history = store.get_metric_history(run.info.run_id, "all/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 2), (2, 1), (3, 0.5)]
    assert run.info.status == "FINISHED"
    _train(tmp_path / "t", [_record("all", 1, 2)])  # asked for again
    assert len(_runs(store)) == 2


@THEIR_WARNINGS
def test_a_server_that_is_not_there_costs_a_warning_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for key, value in {"MAX_RETRIES": "0", "TIMEOUT": "1"}.items():
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{key}", value)
    _train(tmp_path, [_record("all", 1, 1), _record("all", 2, 1)])
    assert capsys.readouterr().err.count("no more curves in MLflow") == 1
    assert _curve(tmp_path / "all", "loss") == [(1, 1), (2, 1)]


def test_the_module_names_what_it_offers() -> None:
    assert all(hasattr(tracking, name) for name in tracking.__all__)
