"""One training as an MLflow run: its options as parameters, its epochs as metrics."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from serve.contract.digest import canonical_json
from serve.contract.errors import Interrupted
from train.curves import MLFLOW_RECORD, URI

__all__ = ["MlflowRun"]

EXPERIMENT = "stillroom"
MAX_PARAMETER = 500  # characters that every store accepts
MAX_BATCH = 100  # parameters in one request
# mlflow's own defaults wait for minutes for a server that is not there.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


class MlflowRun:
    """Logs to the server or store that MLFLOW_TRACKING_URI names, in MLFLOW_EXPERIMENT_NAME.

    A training that is resumed goes on in its run, whose id is kept in `folder`/mlflow.json.

    Args:
        folder: of this training.
        name: of the run.
        config: parameters.
    """

    def __init__(self, folder: Path, name: str, config: dict[str, str]) -> None:
        self._record, self._name, self._config = folder / MLFLOW_RECORD, name, config
        self._client: Any = None
        self._run_id = ""

    def log(self, phase: str, epoch: int, scalars: dict[str, float]) -> None:
        """Log every scalar as `phase/key` with the epoch as its step, once."""
        from mlflow.entities import Metric

        if self._client is None:
            self._open()
        if epoch <= self._last_epoch(phase):
            return
        now_ms = int(1000 * time.time())
        metrics = [Metric(f"{phase}/{key}", value, now_ms, epoch) for key, value in scalars.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self, error: BaseException | None) -> None:
        """Say how the training ended: a stopped one can go on."""
        if self._client is not None:
            stopped = isinstance(error, Interrupted | KeyboardInterrupt)
            status = "FINISHED" if error is None else "KILLED" if stopped else "FAILED"
            self._client.set_terminated(self._run_id, status=status)

    def _open(self) -> None:
        for key, value in PATIENCE.items():
            os.environ.setdefault(key, value)
        from mlflow import MlflowClient
        from mlflow.entities import Param

        client = MlflowClient(os.environ[URI])
        known = self._known(client.tracking_uri)
        # A finished one is not resumed: the same training was asked for once more.
        if known and client.get_run(known).info.status != "FINISHED":
            client.update_run(known, status="RUNNING")
            self._client, self._run_id = client, known
            return
        run = client.create_run(_experiment(client), run_name=self._name)
        self._client, self._run_id = client, run.info.run_id
        parameters = [Param(key, value[:MAX_PARAMETER]) for key, value in self._config.items()]
        for start in range(0, len(parameters), MAX_BATCH):
            client.log_batch(self._run_id, params=parameters[start : start + MAX_BATCH])
        self._record.parent.mkdir(parents=True, exist_ok=True)
        self._record.write_bytes(canonical_json({"uri": client.tracking_uri, "run": self._run_id}))

    def _known(self, uri: str) -> str:
        """Id of the run that an earlier process of this training made in this store."""
        try:
            record: dict[str, str] = json.loads(self._record.read_bytes())
        except (OSError, ValueError):
            return ""
        return record["run"] if record.get("uri") == uri else ""

    def _last_epoch(self, phase: str) -> int:
        history = self._client.get_metric_history(self._run_id, f"{phase}/val_loss")
        return max((metric.step for metric in history), default=0)


def _experiment(client: Any) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))
