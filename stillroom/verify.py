"""`stillroom verify`: every byte of the chain against its digest, and the golden images again."""

from __future__ import annotations

import sys
from pathlib import Path

from serve.client import describe_model
from serve.contract.artifact import open_artifact
from serve.contract.errors import GateError
from serve.runner import open_runner
from serve.verify import replay_golden
from stillroom.predict import is_url
from stillroom.run import stage_states
from stillroom.run_folder import RunFolder
from train.photos import find_photos, fingerprint

__all__ = ["verify_target"]


def verify_target(target: str) -> None:
    """Verify a run, an artifact or what a service says of itself; print what was checked.

    Raises:
        GateError: something does not match; names the stage and the file.
        ArtifactError: the artifact is damaged, or answers its golden images wrongly.
    """
    if is_url(target):
        _verify_service(target)
        return
    folder = Path(target)
    is_run = bool(RunFolder(folder).record())
    if is_run:
        _verify_run(RunFolder(folder))
    if not is_run or (folder / "artifact").is_dir():
        _verify_artifact(folder)


def _verify_run(run: RunFolder) -> None:
    from stillroom.pipeline import PIPELINE

    bad = []
    recorded = {link["stage"]: link["digest"] for link in run.record()["chain"]}
    for state in stage_states(PIPELINE, run):
        name, problem = state.stage.name, state.problem
        if problem == "not built yet":
            if name not in recorded:
                continue
            problem = "run.json names it, and its folder is gone"
        elif problem is None and recorded.get(name) != state.digest:
            problem = "its manifest is not the one that run.json names"
        _say(f"{'FAIL' if problem else 'ok':5}{name:10}{state.digest[:12]}")
        if problem:
            bad.append(f"{name}: {problem}")
    if bad:
        raise GateError(
            f"The chain of {run.path} is broken. {'; '.join(bad)}.",
            f"Build again what is wrong: stillroom report {run.path}",
        )
    record = run.record()
    photos = Path(record["photos"])
    if not photos.is_dir():
        _say(f"{'skip':5}photos    {photos} is not here")
    elif fingerprint(photos, find_photos(photos)) == record["inputs"]:
        _say(f"{'ok':5}photos    {record['inputs'][:12]}")
    else:
        raise GateError(
            f"The photographs in {photos} are not those of the run any more.",
            "Run again to include what changed.",
        )


def _verify_artifact(folder: Path) -> None:
    artifact = open_artifact(folder)
    with open_runner(artifact) as runner:
        check = replay_golden(artifact, runner)
    _say(
        f"{'ok':5}golden    {check.images} images answered as stored on {runner.backend}, "
        f"largest logit difference {check.max_logit_diff:.1e}"
    )


def _verify_service(url: str) -> None:
    model = describe_model(url)
    _say(f"{model['name']} {model['version']} on {model['backend']}: digest {model['digest']}")
    for ancestor in model["lineage"]:
        _say(f"  {ancestor['stage']:10}{ancestor['digest'][:12]}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text.rstrip()}\n")
