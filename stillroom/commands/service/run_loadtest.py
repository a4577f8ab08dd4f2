"""`stillroom loadtest`: the max rate of a service, or one load at a given rate."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from loadtest.max_rate.subprocess_runner import run_child
from serve.contract.errors import RunError, UsageError
from serve.process.launch import running_process
from stillroom.command_text import command_text
from stillroom.commands.service.predict import is_url
from stillroom.commands.stale import say_if_stale
from stillroom.run.folder import RunFolder
from stillroom.run.recipe import load_recipe
from stillroom.run.stages.load import write_corpus
from train.data.source import origin_of, root_of
from train.evaluation import read_predictions

__all__ = ["compare_results", "loadtest_target", "new_folder"]

RESULTS = Path("loadtest-results")


def loadtest_target(
    target: str,
    photos: Path | None,
    out: Path | None,
    *,
    slo: str,
    rate: float | None,
    duration_s: float,
    junit: Path | None = None,
    further: Sequence[str] = (),
) -> int:
    """Load a service and let `python -m loadtest` print what it found.

    Args:
        target: URL of a service, or a run folder whose artifact is then served for the test.
        photos: corpus; needed for a URL, else the run's test split with its expected answers.
        out: gets summary.json and samples.csv, or promise.json and its probes; None makes a new
            folder, which the load test names.
        slo: objective, such as "p99=50ms".
        rate: requests a second; None searches the largest that holds the objective.
        duration_s: seconds measured at a given rate.
        junit: also gets JUnit's XML.
        further: words for the load test, such as the interface of another classifier.

    Returns:
        The exit code of the load test: 0, 1 objective missed or wrong predictions, 2, 3 or 75.

    Raises:
        UsageError: a URL without a corpus, or a folder that is not a run or is damaged.
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stillroom-")))
        if is_url(target):
            if photos is None:
                raise UsageError(
                    "A URL needs a corpus.",
                    f"Name one: {command_text('loadtest', target, '--photos', 'FOLDER')}",
                )
            url, corpus, more = target, photos, []
        else:
            run = RunFolder(Path(target))
            corpus = photos if photos else _corpus_of(run, scratch)
            artifact = run.stage("artifact")
            say_if_stale(run.path)
            server = running_process(artifact, log_path=scratch / "server.log")
            running = stack.enter_context(server)
            url, more = running.url, ["--service-pid", str(running.pid)]
        module, arguments = "loadtest.promise", ["--slo", slo, *more, *further]
        if junit is not None:
            arguments += ["--junit", str(junit)]
        if rate is not None:
            module = "loadtest"
            arguments += ["--rate", f"{rate:g}", "--duration-s", f"{duration_s:g}"]
        command = [sys.executable, "-m", module, url, "--corpus", str(corpus)]
        folder = new_folder(target) if out is None else out
        try:
            return run_child([*command, *arguments, "--out", str(folder)], env=_ours_alone())
        finally:
            if out is None:
                _remove_if_empty(folder)


def new_folder(target: str) -> Path:
    """A folder that no other load has: loadtest-results/NAME-1, NAME-2 and so on.

    Args:
        target: run folder or URL, which gives the name.

    Raises:
        UsageError: it cannot be made.
    """
    name = urlsplit(target).netloc if is_url(target) else Path(target).resolve().name
    name = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "load"
    taken = [one.name.rpartition("-") for one in RESULTS.glob("*-*")]
    numbers = [int(end) for start, _, end in taken if start == name and end.isdecimal()]
    for number in count(max(numbers, default=0) + 1):
        folder = RESULTS / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if RESULTS.is_dir():
                continue
            raise UsageError(f"{RESULTS} is a file.", "Name a folder with --out.") from None
        except OSError as error:
            raise UsageError(
                f"{folder} cannot be made ({error.strerror}).", "Name a folder with --out."
            ) from error
        return folder
    raise AssertionError  # the numbers have no end


def _remove_if_empty(folder: Path) -> None:
    """A load that was refused leaves nothing."""
    with suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()


def compare_results(first: Path, second: Path, *, force: bool) -> int:
    """Let `python -m loadtest.compare` print what two results show of one another.

    Returns:
        Its exit code: 0, 1 the second is shown to be worse, 2 or 3.
    """
    command = [sys.executable, "-m", "loadtest.compare", str(first), str(second)]
    return run_child([*command, *(["--force"] if force else [])], env=_ours_alone())


def _ours_alone() -> dict[str, str]:
    """Variables with which `python -m loadtest` is ours wherever it runs.

    It runs in the user's folder, where relative paths are what the user means; a folder named
    loadtest there would be taken for the module.
    """
    source = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def _corpus_of(run: RunFolder, scratch: Path) -> Path:
    record = run.record()
    if not record or run.manifest("artifact") is None:
        raise RunError(
            f"{run.path} holds no artifact to serve.",
            "Make one: "
            + command_text("run", run.photos_or("PHOTOS"), "--run", run.path, "--until", "export"),
        )
    source = load_recipe(run.recipe_path).export.source
    if problem := run.problem(source):
        raise RunError(
            f"{run.stage(source)} has no answers to check by: {problem}.",
            f"Build it again: {command_text('report', run.path)}",
        )
    photos = root_of(origin_of(record["photos"]))
    if not photos.exists():
        raise RunError(
            f"{photos}, the images of this run, is not there.",
            f"Give others: {command_text('loadtest', run.path, '--photos', 'FOLDER')}",
        )
    reference = read_predictions(run.stage(source) / "predictions.csv").of_split("test")
    return write_corpus(scratch, photos, reference)
