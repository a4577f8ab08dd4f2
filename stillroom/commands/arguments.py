"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "FromOption",
    "Overrides",
    "Photos",
    "RecipeOption",
    "Run",
    "RunOption",
    "Served",
    "Target",
    "UntilOption",
]

Photos = Annotated[
    str,
    typer.Argument(
        help="Folder with one folder of images per class, a list file, or shards: x-{00..09}.tar."
    ),
]
Run = Annotated[Path, typer.Argument(help="Run folder.")]
Served = Annotated[Path, typer.Argument(help="Run folder or artifact folder.")]
Target = Annotated[str, typer.Argument(help="Run folder, artifact folder or URL of a service.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value of the recipe.")]
RunOption = Annotated[Path | None, typer.Option("--run", help="Run folder [runs/<photos>].")]
RecipeOption = Annotated[
    str | None, typer.Option("--recipe", help="A .toml file or a shipped recipe.")
]
UntilOption = Annotated[str, typer.Option(help="Last stage to build.")]
FromOption = Annotated[
    str | None, typer.Option("--from", help="Build this stage and all after it again.")
]
