"""`stillroom admin`: change the model of a service that runs on this machine, or go back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serve.contract.errors import GateError
from serve.process.hot_reload.admin import ask_workers, control_folder
from stillroom.console import show

__all__ = ["admin_app"]

admin_app = typer.Typer(help="Reload, roll back or inspect a service of `stillroom serve`.")

Host = Annotated[str, typer.Option(help="--host of the service.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="--port of the service.")]


@admin_app.command()
def reload(
    target: Annotated[
        Path | None, typer.Argument(help="Run or artifact folder [what it was started with].")
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 3000,
) -> None:
    """Verify an artifact beside the one that serves; then serve it.

    Example: stillroom admin reload runs/new --port 3000
    """
    _tell(ask_workers(control_folder(host, port), "reload", target))


@admin_app.command()
def rollback(host: Host = "127.0.0.1", port: Port = 3000) -> None:
    """Serve the previous artifact again, at once.

    Example: stillroom admin rollback --port 3000
    """
    _tell(ask_workers(control_folder(host, port), "rollback"))


@admin_app.command()
def status(host: Host = "127.0.0.1", port: Port = 3000) -> None:
    """Say what each worker serves.

    Example: stillroom admin status --port 3000
    """
    _tell(ask_workers(control_folder(host, port), "status"))


def _tell(answers: list[dict[str, Any]]) -> None:
    """One line for each worker; a refusal of any is the command's."""
    for answer in answers:
        if answer["ok"]:
            was = f", before {_words(answer['previous'])}" if answer["previous"] else ""
            show(f"worker {answer['worker']}: {_words(answer['current'])}{was}")
    refused = [answer for answer in answers if not answer["ok"]]
    if refused:
        changed = f" {len(answers) - len(refused)} of {len(answers)} workers agreed."
        raise GateError(
            refused[0]["message"] + (changed if len(answers) > 1 else ""), refused[0]["next_step"]
        )


def _words(model: dict[str, str]) -> str:
    return f"{model['name']} {model['version']} ({model['digest'][:12]}, {model['backend']})"
