"""`stillroom loadtest`: one open-loop load on a run's service, or on any URL."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from serve.contract.errors import RunError, UsageError
from serve.launch import running_server
from stillroom.load import write_corpus
from stillroom.predict import is_url
from stillroom.recipe import load_recipe
from stillroom.run_folder import RunFolder
from train.evaluate import read_predictions
from train.shard_names import origin_of
from train.source import root_of

__all__ = ["loadtest_target"]


def loadtest_target(
    target: str, photos: Path | None, out: Path, *, slo: str, rate: float, duration_s: float
) -> int:
    """Load a service and let `python -m loadtest` print what it found.

    Args:
        target: URL of a service, or a run folder whose artifact is then served for the test.
        photos: corpus; needed for a URL, else the run's test split with its expected answers.
        out: gets summary.json and samples.csv.
        slo: objective, such as "p99=50ms".
        rate: requests a second.
        duration_s: seconds measured.

    Returns:
        The exit code of the load test: 0, 1 objective missed or wrong answers, 2, 3 or 75.

    Raises:
        UsageError: a URL without a corpus, or a folder that is no run or is damaged.
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stillroom-")))
        if is_url(target):
            if photos is None:
                raise UsageError(
                    "A URL needs a corpus.", f"stillroom loadtest {target} --photos FOLDER"
                )
            url, corpus = target, photos.resolve()
        else:
            run = RunFolder(Path(target))
            corpus = photos.resolve() if photos else _corpus_of(run, scratch)
            server = running_server(run.stage("artifact"), log_path=scratch / "server.log")
            url = stack.enter_context(server)
        arguments = ["--rate", f"{rate:g}", "--duration-s", f"{duration_s:g}", "--slo", slo]
        command = [sys.executable, "-m", "loadtest", url, "--corpus", str(corpus)]
        done = subprocess.run(
            [*command, *arguments, "--out", str(out.resolve())],
            cwd=Path(__file__).parents[1],
            check=False,
        )
        return done.returncode


def _corpus_of(run: RunFolder, scratch: Path) -> Path:
    record = run.record()
    if not record or run.manifest("artifact") is None:
        raise RunError(
            f"{run.path} holds no artifact to serve.",
            f"stillroom run PHOTOS --run {run.path} --until export",
        )
    source = load_recipe(run.recipe_path).export.source
    if problem := run.problem(source):
        raise RunError(
            f"{run.stage(source)} has no answers to check by: {problem}.",
            f"Build it again: stillroom report {run.path}",
        )
    reference = read_predictions(run.stage(source) / "predictions.csv").of_split("test")
    return write_corpus(scratch, root_of(origin_of(record["photos"])), reference)
