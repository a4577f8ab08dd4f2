"""`stillroom loadtest TARGET`, and `stillroom loadtest compare A B`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

__all__ = ["loadtest_app"]

USUAL = "measure"


class _UsualCommand(TyperGroup):
    """A group whose usual command need not be named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, "--help"):
            args = [USUAL, *args]
        return super().parse_args(ctx, args)


loadtest_app = typer.Typer(
    cls=_UsualCommand,
    help="Find the max rate of a service, or load it at a given one. Compare results.\n\n"
    "Example: stillroom loadtest runs/mine --slo p99=50ms",
    rich_markup_mode=None,
)


@loadtest_app.command(USUAL)
def measure(
    target: Annotated[str, typer.Argument(help="Run folder or URL of a service.")],
    further: Annotated[
        list[str] | None,
        typer.Argument(help="After --: how another classifier is asked, --workers and the like."),
    ] = None,
    photos: Annotated[Path | None, typer.Option(help="Corpus; a URL needs one.")] = None,
    slo: Annotated[str, typer.Option(help="Objective, such as p99=50ms.")] = "p99=100ms",
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, help="Requests a second [the largest that holds is searched]."),
    ] = None,
    duration_s: Annotated[
        float, typer.Option(min=1, help="Seconds measured, at a given rate.")
    ] = 30.0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results [a new one in loadtest-results]."),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit's XML, for CI.")] = None,
) -> None:
    """Find the max rate of a service, or load it at a given one.

    The word `measure` may be left out. Open loop: latency counts from the intended send time, so a
    stalled server cannot hide it.

    Example: stillroom loadtest runs/mine --slo p99=50ms

    Example: stillroom loadtest runs/mine --rate 50 --slo p99=50ms

    Example: stillroom loadtest http://host:8000 --photos photos -- --route /predict --field file
    """
    from stillroom.commands.service.run_loadtest import loadtest_target

    raise typer.Exit(
        loadtest_target(
            target,
            photos,
            out,
            slo=slo,
            rate=rate,
            duration_s=duration_s,
            junit=junit,
            further=further or (),
        )
    )


@loadtest_app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="A result, a folder of repeats, or a max rate.")],
    second: Annotated[Path, typer.Argument(help="The same of what it is compared with.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also where machines or loads differ.")
    ] = False,
) -> None:
    """Say what two load tests show of one another, with intervals.

    Exit code 1 where the second is shown to be worse.

    Example: stillroom loadtest compare before after
    """
    from stillroom.commands.service.run_loadtest import compare_results

    raise typer.Exit(compare_results(first, second, force=force))
