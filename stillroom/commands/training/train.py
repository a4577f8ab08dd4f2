"""`stillroom train`: the audit and the teacher; in one process, in several, or a look before."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated

import typer

from serve.contract.errors import UsageError
from stillroom.commands.arguments import Overrides, Photos, RecipeOption, RunOption
from stillroom.commands.building import build_and_show
from train.engine.world import world_from_env

__all__ = ["train"]

# Optional: imported when the option asks for it.
LOOKS = {
    "--sanity": "stillroom.commands.training.sanity:check_training",
    "--profile": "stillroom.commands.training.profile:profile_run",
    "--choices": "stillroom.commands.training.choices:measure_run",
}
LOUDNESS = {logging.DEBUG: ["-v"], logging.WARNING: ["-q"]}  # as this command was told
LAUNCH = "stillroom.extras.distributed.launch_ranks:launch_ranks"
RANK = "stillroom.extras.distributed.ranks:run_as_rank"


def train(
    photos: Photos,
    overrides: Overrides = None,
    run: RunOption = None,
    recipe: RecipeOption = None,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Check for a minute whether it can work; no training.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Time some steps and write a trace; no training.")
    ] = False,
    choices: Annotated[
        bool, typer.Option("--choices", help="Time each precision and torch.compile; no training.")
    ] = False,
    nproc: Annotated[
        int, typer.Option(min=1, help="Processes on this machine that train together.")
    ] = 1,
) -> None:
    """Audit the images and train the teacher.

    Example: stillroom train photos/ --run runs/mine teacher.epochs=20
    """
    from stillroom.run.execution import Request
    from train.data.source import name_of, origin_of

    origin = origin_of(photos)
    run = run or Path("runs") / name_of(origin)
    request = Request(run, origin, recipe, tuple(overrides or ()), "teacher")
    world = world_from_env(os.environ)
    asked = {"--sanity": sanity, "--profile": profile, "--choices": choices}
    if option := next((name for name, wanted in asked.items() if wanted), ""):
        from stillroom.run.section_advice import advising

        if nproc > 1 or world.world_size > 1:
            raise UsageError(f"{option} needs one process.", "Leave --nproc and torchrun out.")
        with advising("teacher"):
            resolve_name(LOOKS[option])(request)
    elif nproc > 1:
        options = ["--run", str(run), *(["--recipe", recipe] if recipe else [])]
        loudness = LOUDNESS.get(logging.getLogger("stillroom").level, [])
        arguments = [*loudness, "train", *options, "--", photos, *request.overrides]
        raise typer.Exit(resolve_name(LAUNCH)(nproc, arguments))
    elif world.world_size > 1:
        from stillroom.commands.tables import summary_table

        folder = resolve_name(RANK)(world, request)
        if folder is not None:
            summary_table(folder)
    else:
        build_and_show(photos, run, recipe, overrides, "teacher", None)
