"""`stillroom sweep`: many trainings compared on the validation images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stillroom.console import show

__all__ = ["show_verdict", "sweep_app"]

sweep_app = typer.Typer(
    help="Search, backbones, learning curve, resolution: judged on val, the test split untouched.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Target = Annotated[Path, typer.Argument(help="Run folder, or images (run: runs/<name>).")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value of the recipe.")]
RecipeOption = Annotated[
    str | None, typer.Option("--recipe", help="A .toml file or a shipped recipe [the run's].")
]
KeepOption = Annotated[bool, typer.Option("--keep", help="Keep all checkpoints, not the best's.")]


NameOption = Annotated[str, typer.Option("--name", help="Results go to RUN/sweep/<name>.")]


@sweep_app.command()
def search(
    target: Target,
    entries: Annotated[
        list[str] | None,
        typer.Argument(help="key=low..high[:log], key=a,b,c, or key=value, which is fixed."),
    ] = None,
    recipe: RecipeOption = None,
    space: Annotated[Path | None, typer.Option(help="Dimensions as TOML.")] = None,
    sampler: Annotated[str, typer.Option(help="tpe, random or grid.")] = "tpe",
    trials: Annotated[int, typer.Option(min=0, help="In all; 0: the whole grid.")] = 20,
    timeout_s: Annotated[float, typer.Option(min=0, help="Begin no trial later; 0: never.")] = 0,
    name: NameOption = "search",
) -> None:
    """The teacher's options that are best on val; writes best.toml for `stillroom run --recipe`.

    Also study.pruner=median|hyperband|none and study.keep=best|all.

    Example: stillroom sweep search photos/ teacher.lr=1e-4..1e-2:log teacher.drop_rate=0,0.2
    """
    from stillroom.sweep.search.run import SearchRequest
    from stillroom.sweep.search.run import search as run_search

    request = SearchRequest(
        target, tuple(entries or ()), recipe, space, sampler, trials, timeout_s, name
    )
    show_verdict(run_search(request))


@sweep_app.command()
def backbones(
    target: Target,
    archs: Annotated[str, typer.Option(help="Between commas; arch:weights sets its weights.")],
    overrides: Overrides = None,
    budget_s: Annotated[
        float, typer.Option(min=0, help="Seconds of training each; 0: the recipe's epochs.")
    ] = 0,
    recipe: RecipeOption = None,
    name: NameOption = "backbones",
    keep: KeepOption = False,
) -> None:
    """Several architectures for the teacher under one budget: accuracy, size, latency.

    Example: stillroom sweep backbones photos/ --archs resnet18,mobilenetv3_small_100
    """
    from stillroom.sweep.backbones.run import BackbonesRequest, compare_backbones

    request = BackbonesRequest(target, tuple(overrides or ()), archs, budget_s, recipe, name, keep)
    show_verdict(compare_backbones(request))


@sweep_app.command("learning-curve")
def learning_curve(
    target: Target,
    overrides: Overrides = None,
    percents: Annotated[str, typer.Option(help="Shares of the training images.")] = "10,25,50,100",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each share.")] = 3,
    equal: Annotated[str, typer.Option(help="What all shares get: steps or epochs.")] = "steps",
    recipe: RecipeOption = None,
    name: NameOption = "learning-curve",
) -> None:
    """Would more images help? Accuracy over the number of them, extended to twice as many.

    Example: stillroom sweep learning-curve runs/mine --seeds 3 teacher.epochs=5
    """
    from stillroom.sweep.learning_curve.run import CurveRequest, draw_learning_curve

    request = CurveRequest(target, tuple(overrides or ()), percents, seeds, equal, recipe, name)
    show_verdict(draw_learning_curve(request))


@sweep_app.command()
def resolution(
    target: Target,
    overrides: Overrides = None,
    train_sizes: Annotated[str, typer.Option(help="Such as 96,128 [the recipe's].")] = "",
    test_sizes: Annotated[str, typer.Option(help="Such as 96,128,160.")] = "",
    widths: Annotated[str, typer.Option(help="Of the bilinear head, such as 1024,4096.")] = "",
    recipe: RecipeOption = None,
    name: NameOption = "resolution",
    keep: KeepOption = False,
) -> None:
    """Which sizes to train and to test at: accuracy and latency of each pair.

    Example: stillroom sweep resolution runs/mine --train-sizes 96,128 --test-sizes 96,128,160
    """
    from stillroom.sweep.resolution.run import ResolutionRequest, sweep_resolution

    request = ResolutionRequest(
        target, tuple(overrides or ()), train_sizes, test_sizes, widths, recipe, name, keep
    )
    show_verdict(sweep_resolution(request))


def show_verdict(page: Path) -> None:
    """The verdict, and where the rest is."""
    import json

    results = json.loads((page.parent / "results.json").read_bytes())
    first, *others = results["sentences"]
    show("\n".join([first, *(f"  {line}" for line in others), str(page)]))
