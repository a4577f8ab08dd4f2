"""The load stage: a corpus with expected answers, a server, and Locust in a process of its own."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from loadtest.result.verdict import status_of, worst
from serve.contract.digest import canonical_json
from serve.contract.errors import GateError, MeasurementError
from serve.process.launch import Running, running_process
from stillroom.run.options import LoadOptions
from stillroom.run.stage_graph import Context
from stillroom.run.stages.http_parity import settings_of
from train.data.image_bytes import CONTAINERS, read_bytes
from train.data.own_images import is_refused_by_service
from train.engine.progress import say
from train.evaluation import Predictions, read_predictions

__all__ = ["run_load_tests", "run_loadtest", "write_corpus"]

HAS_SUMMARY = (0, 1, 3)  # 1: failed; 3: invalid or inconclusive


def run_load_tests(context: Context) -> dict[str, Any]:
    """Load the service: a closed loop for the rate reached, then an open loop at a share of it.

    Writes closed/ and open/, each with summary.json and samples.csv, and summary.json over both.

    Returns:
        Headline metrics.

    Raises:
        GateError: an answer under load was wrong, or the service ended.
        MeasurementError: a load test did not run.
    """
    options = context.recipe.loadtest
    source = context.recipe.export.source
    reference = read_predictions(context.run.stage(source) / "predictions.csv").of_split("test")
    artifact = context.run.stage("artifact")
    with tempfile.TemporaryDirectory(prefix="stillroom-") as folder:
        corpus = write_corpus(Path(folder), context.photos, reference)
        common = ["--corpus", str(corpus), "--duration-s", f"{options.duration_s:g}"]
        log_path = Path(folder) / "server.log"
        with running_process(artifact, log_path=log_path, settings=settings_of(context)) as running:
            common += ["--service-pid", str(running.pid)]
            try:
                closed, opened = _both_loops(running.url, common, options, context.out)
            finally:
                _refuse_dead(running)
    (context.out / "summary.json").write_bytes(canonical_json({"closed": closed, "open": opened}))
    wrong = {
        name: load["answers"]["wrong"] for name, load in (("closed", closed), ("open", opened))
    }
    if any(wrong.values()):
        raise GateError(
            f"Under load {sum(wrong.values())} answers were not those of the artifact.",
            "Nothing was published.",
        )
    return {
        "closed_rps": closed["achieved_rps"],
        "open_rps": opened["achieved_rps"],
        "open_p50_ms": opened["intended"]["p50_ms"],
        "open_p99_ms": opened["intended"]["p99_ms"],
        "slo_met": opened["slo"]["met"],
        "verdict": worst(map(status_of, (closed, opened))).value,
    }


def _both_loops(
    url: str, common: list[str], options: LoadOptions, out: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    closed = run_loadtest(
        [url, *common, "--mode", "closed", "--users", str(options.users)], out=out / "closed"
    )
    rate = max(1.0, options.rate_share * float(closed["achieved_rps"]))
    opened = run_loadtest(
        [url, *common, "--mode", "open", "--rate", f"{rate:.1f}", "--slo", options.slo],
        out=out / "open",
    )
    return closed, opened


def _refuse_dead(running: Running) -> None:
    """A service that ended under load has failed, whatever was measured before.

    Raises:
        GateError: it ended.
    """
    if os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
        raise GateError("The service ended under load.", "Nothing was published.")


def write_corpus(folder: Path, photos: Path, reference: Predictions) -> Path:
    """Write the corpus of the load test: path, label, and the answer that must come back.

    The images are reached through a link, so that the samples name none of this machine's
    folders; those in shards are written out, for the load test reads files alone.

    Returns:
        The corpus file, in `folder`.
    """
    if (photos / CONTAINERS).exists():
        for photo in reference.photos:
            copy = folder / "photos" / photo.path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(read_bytes(photos / photo.path))
    else:
        (folder / "photos").symlink_to(photos.resolve())
    path = (folder / "corpus.csv").resolve()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "expected"])
        for photo, answer in zip(reference.photos, reference.predicted, strict=True):
            if is_refused_by_service(read_bytes(photos / photo.path)):
                continue  # it would count as a failure of the service
            row = [f"photos/{photo.path}", photo.label, reference.labels[int(answer)]]
            writer.writerow(row)
    return path


def run_loadtest(arguments: list[str], *, out: Path) -> dict[str, Any]:
    """Run `python -m loadtest` and read its summary.

    Args:
        arguments: of the command, without --out.
        out: for its files.

    Returns:
        summary.json; a missed objective is in it and is not an error here.

    Raises:
        MeasurementError: it ended without a summary.
    """
    command = [sys.executable, "-m", "loadtest", *arguments, "--out", str(out.resolve())]
    source = Path(__file__).parents[3]
    done = subprocess.run(
        command, cwd=source, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    summary = out / "summary.json"
    if done.returncode not in HAS_SUMMARY or not summary.exists():
        last = " ".join(done.stderr.strip().splitlines()[-1:])
        raise MeasurementError(
            f"The load test ended with code {done.returncode} ({last}).", "Run the command again."
        )
    for line in done.stdout.partition("\nwritten ")[0].splitlines():
        say(f"  {line}")
    value: dict[str, Any] = json.loads(summary.read_bytes())
    return value
