"""Curves while a training runs: TensorBoard always, MLflow where it is installed and asked for.

A tracker only watches. What goes wrong in one costs a line of warning, never the training.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from pkgutil import resolve_name
from types import TracebackType
from typing import Any, Protocol

from serve.contract.digest import canonical_json
from train.engine.progress import say

__all__ = ["TensorBoardCurves", "Tracker", "Trackers", "open_trackers", "scalars_of"]

CONFIG = "config.json"
URI = "MLFLOW_TRACKING_URI"
MLFLOW_RECORD = "mlflow.json"  # beside the curves: the id of the run there
EVENTS = "events.out.tfevents.*"


class Tracker(Protocol):
    """Something that keeps the records of a training."""

    def log(self, phase: str, epoch: int, scalars: dict[str, float]) -> None:
        """Keep one epoch, from 1; one that was trained again is kept once."""

    def close(self, error: BaseException | None) -> None:
        """The training ended, by `error` where it was not by itself."""


class Trackers:
    """A function of each epoch's record, for `OnEpoch`, that hands it to every tracker.

    Args:
        trackers: by name.
    """

    def __init__(self, trackers: dict[str, Tracker]) -> None:
        self._trackers = dict(trackers)

    def __call__(self, record: dict[str, Any]) -> None:
        """Keep one epoch's record."""
        phase, epoch, scalars = str(record["phase"]), int(record["epoch"]), scalars_of(record)
        self._each(lambda tracker: tracker.log(phase, epoch, scalars))

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._each(lambda tracker: tracker.close(error))

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                act(tracker)
            except Exception as error:  # noqa: BLE001  # clients raise a dozen unrelated types
                del self._trackers[name]
                reason = (str(error).splitlines() or [""])[0][:200]
                say(f"  warning: no more curves in {name} ({type(error).__name__}: {reason})")


class TensorBoardCurves:
    """TensorBoard event files: a run for each phase, with the same tags; steps are epochs.

    Nothing is opened before the first record. A phase that starts again replaces its curves; one
    that is resumed hides the epochs that are trained once more.

    Args:
        folder: gets one folder of event files for each phase.
        config: of the training; curves of another one are removed.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self._folder, self._config = folder, canonical_json(_plain(config))
        self._writers: dict[str, Any] = {}

    def log(self, phase: str, epoch: int, scalars: dict[str, float]) -> None:
        """Write and flush every scalar of an epoch."""
        writer = self._writers.get(phase) or self._open(phase, epoch)
        for name, value in scalars.items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    def close(self, error: BaseException | None) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()

    def _open(self, phase: str, epoch: int) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        remembered = self._folder / CONFIG
        if not remembered.is_file() or remembered.read_bytes() != self._config:
            _remove([*self._folder.glob(f"*/{EVENTS}"), self._folder / MLFLOW_RECORD])
            self._folder.mkdir(parents=True, exist_ok=True)
            remembered.write_bytes(self._config)
        if epoch == 1:
            _remove((self._folder / phase).glob(EVENTS))
        writer = SummaryWriter(str(self._folder / phase), purge_step=epoch)
        self._writers[phase] = writer
        return writer


def open_trackers(folder: Path, *, name: str, config: dict[str, Any]) -> Trackers:
    """Curves of one training, to be used in a `with` and given to `OnEpoch`.

    MLflow is logged to where MLFLOW_TRACKING_URI is set and mlflow is installed.

    Args:
        folder: of this training alone, for example RUN/tensorboard/teacher.
        name: of the training, for people: "flowers/teacher".
        config: its options; nested ones get dotted names.
    """
    trackers: dict[str, Tracker] = {"TensorBoard": TensorBoardCurves(folder, config)}
    if os.environ.get(URI):
        mlflow_run = resolve_name("train.extras.mlflow_run:MlflowRun")
        trackers["MLflow"] = mlflow_run(folder, name, _plain(config))
    return Trackers(trackers)


def scalars_of(record: dict[str, Any]) -> dict[str, float]:
    """The numbers of a record, without those that say where it belongs."""
    return {
        key: float(value)
        for key, value in record.items()
        if key not in ("phase", "epoch")
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    }


def _plain(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested options as dotted names with text values."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _plain(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        path.unlink(missing_ok=True)
