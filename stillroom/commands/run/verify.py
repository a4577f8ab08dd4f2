"""`stillroom verify`: every byte of the chain against its digest, and the golden images again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from compress.proof import prove_frozen, tensor_digests
from serve.client import describe_model
from serve.contract.artifact import open_artifact
from serve.contract.digest import digest_of_json
from serve.contract.errors import GateError
from serve.model.golden_check import replay_golden
from stillroom.command_text import command_text
from stillroom.commands.arguments import Target
from stillroom.commands.service.predict import is_url
from stillroom.console import show
from stillroom.run.artifacts import artifacts_of, open_local_runner
from stillroom.run.folder import RunFolder
from stillroom.run.status import RunState, read_run_state

__all__ = ["verify", "verify_target"]


def verify(target: Target) -> None:
    """Re-hash the chain of digests and replay the golden images.

    Example: stillroom verify runs/mine
    """
    verify_target(target)


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
        for artifact in artifacts_of(folder):
            _verify_artifact(artifact)


def _verify_run(run: RunFolder) -> None:
    from stillroom.run.pipeline import PIPELINE

    state = read_run_state(PIPELINE, run)
    bad = [
        *_bad_photos(state),
        *_bad_recipe(run),
        *_bad_stages(run, state),
        *_bad_fixres(run),
    ]
    if bad:
        raise GateError(
            f"The chain of {run.path} is broken. {'; '.join(bad)}.",
            f"Build again what is wrong: {command_text('report', run.path)}",
        )


def _bad_photos(state: RunState) -> Iterator[str]:
    if not state.photos_here:
        _say(f"{'skip':5}{'photos':10}{state.photos} is not here")
    else:
        _say(f"{'FAIL' if state.photos_changed else 'ok':5}{'photos':10}{state.inputs[:12]}")
    if state.photos_changed:
        yield state.photos_changed


def _bad_recipe(run: RunFolder) -> Iterator[str]:
    recorded = run.record().get("recipe_digest", "")
    if not run.recipe_path.exists():
        problem = "recipe.toml is gone"
    elif digest_of_json(run.recipe_path.read_text(encoding="utf-8")) != recorded:
        problem = "recipe.toml is not the one that run.json names"
    else:
        problem = ""
    _say(f"{'FAIL' if problem else 'ok':5}{'recipe':10}{recorded[:12]}")
    if problem:
        yield problem


def _bad_stages(run: RunFolder, state: RunState) -> Iterator[str]:
    recorded = {link["stage"]: link["digest"] for link in run.record()["chain"]}
    for one in state.stages:
        name, problem = one.stage.name, one.problem
        if problem == "not built yet":
            if name not in recorded:
                continue
            problem = "run.json names it, and its folder is gone"
        elif problem is None and recorded.get(name) != one.digest:
            problem = "its manifest is not the one that run.json names"
        _say(f"{'FAIL' if problem else 'ok':5}{name:10}{one.digest[:12]}")
        if problem:
            yield f"{name}: {problem}"


def _bad_fixres(run: RunFolder) -> Iterator[str]:
    """Repeat the proof that FixRes changed nothing but what its manifest says is free."""
    manifest = run.manifest("fixres") or {}
    if "fixres" not in manifest or run.manifest("student") is None:
        return
    said = manifest["fixres"]["proof"]
    try:
        before, after = (
            tensor_digests((run.stage(name) / "checkpoint.safetensors").read_bytes())
            for name in ("student", "fixres")
        )
        proof = prove_frozen(before, after, free=said["free"])
        problem = "" if proof == said else "the proof that the rest is frozen is another one today"
    except (OSError, ValueError, GateError) as error:
        problem = getattr(error, "message", str(error)).rstrip(".")
    count, digest = said["frozen_tensors"], said["frozen_digest_after"][:12]
    _say(f"{'FAIL' if problem else 'ok':5}{'frozen':10}{digest} {count} tensors as in student")
    if problem:
        yield f"fixres: {problem}"


def _verify_artifact(folder: Path) -> None:
    artifact = open_artifact(folder)
    name = "golden" if artifact.precision == "fp32" else artifact.precision
    with open_local_runner(artifact) as runner:
        check = replay_golden(artifact, runner)
    _say(
        f"{'ok':5}{name:10}{check.images} golden images answered as stored on {runner.backend}, "
        f"largest logit difference {check.max_logit_diff:.1e}"
    )


def _verify_service(url: str) -> None:
    model = describe_model(url)
    _say(f"{model['name']} {model['version']} on {model['backend']}: digest {model['digest']}")
    for ancestor in model["lineage"]:
        _say(f"  {ancestor['stage']:10}{ancestor['digest'][:12]}")


def _say(text: str) -> None:
    show(text.rstrip())
