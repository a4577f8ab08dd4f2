"""`stillroom serve`: an artifact over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from stillroom.commands.arguments import Served
from stillroom.commands.stale import say_if_stale

__all__ = ["serve"]


def serve(
    target: Served,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port.")] = 3000,
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve a new artifact once it is published here.")
    ] = False,
) -> None:
    """Serve an artifact over HTTP until Ctrl-C. Settings: STILLROOM_* variables (docs/serving.md).

    Example: stillroom serve runs/mine --port 3000
    """
    from serve.process.launch import serve_forever

    say_if_stale(target)
    raise typer.Exit(serve_forever(target, host=host, port=port, watch=watch))
