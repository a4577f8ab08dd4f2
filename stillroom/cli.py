"""The one console script: what holds for every command; `stillroom.command_table` lists them."""

from __future__ import annotations

import logging
import os
import signal
import sys
from importlib import metadata
from types import FrameType
from typing import Annotated

import typer

from serve.contract.errors import Interrupted, StillroomError, UsageError
from serve.contract.shortage import shortage_of
from serve.contract.signals import ending_signals
from stillroom.command_table import PLAIN, CommandTable
from stillroom.console import show_error
from stillroom.terminal import settle_terminal
from train.data.folders.file_names import refuse_arguments
from train.engine.progress import log_to_console
from train.engine.world import world_from_env

__all__ = ["app", "main"]

TRAINING = "cpu,train,loadtest"
EXTRAS = {
    **dict.fromkeys(("torch", "torchvision", "timm", "onnx", "sklearn", "scipy"), TRAINING),
    **dict.fromkeys(("safetensors", "jinja2", "matplotlib", "tensorboard"), TRAINING),
    **dict.fromkeys(("pytorch_grad_cam", "optuna"), TRAINING),
    "locust": "loadtest",
    "onnxruntime": "cpu",
    **dict.fromkeys(("webdataset", "braceexpand"), f"{TRAINING},shards"),
}

app = typer.Typer(name="stillroom", cls=CommandTable, **PLAIN)


@app.callback(invoke_without_command=True)
def stillroom(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say no progress.")] = False,
) -> None:
    """From a folder of labelled images to a small, load-tested classifier behind HTTP."""
    if version:
        typer.echo(f"stillroom {metadata.version('stillroom')}")
        return
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        return
    log_to_console(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)
    refuse_arguments(sys.argv[1:])
    if context.invoked_subcommand != "train" and world_from_env(os.environ).world_size > 1:
        raise UsageError(
            f"torchrun started stillroom {context.invoked_subcommand}, which is one process.",
            "Only stillroom train runs under torchrun; run the rest without it.",
        )


def main() -> None:
    """Entry point: one-line errors with the next step, and the exit codes of docs/pipeline.md."""
    settle_terminal()
    # Threads of torch wait for one another by spinning. Where another process wants the core (a
    # loader worker, a server) the default spin halves the training speed; a short one costs nothing
    # that could be measured. Read by libgomp when torch is loaded.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    for number in ending_signals():
        signal.signal(number, _interrupt)
    try:
        code = app(prog_name="stillroom", standalone_mode=False)
    except StillroomError as error:
        show_error(f"error: {error}")
        sys.exit(error.exit_code)
    except typer.TyperException as error:
        from stillroom.usage import usage_error

        show_error(usage_error(error, sys.argv[1:]))
        sys.exit(2)
    except ModuleNotFoundError as error:
        if (extra := EXTRAS.get(str(error.name).split(".")[0])) is None:
            raise
        show_error(
            f"error: This command needs {error.name}, which a server installation does not have. "
            f'Install it from a checkout: pip install ".[{extra}]"'
        )
        sys.exit(2)
    except Exception as error:
        if (line := _line_of(error)) is None:
            raise
        show_error(f"error: {line}")
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _line_of(error: Exception) -> str | None:
    """What to say of an error that is the machine's or the path's; None of one that is ours."""
    if line := shortage_of(error):
        return line
    if not isinstance(error, OSError) or error.filename is None:
        return None
    reason = error.strerror or type(error).__name__
    return f"{os.fspath(error.filename)}: {reason}. Check the path, rights and space."


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise Interrupted("Stopped.", "Run the same command again to go on.")
