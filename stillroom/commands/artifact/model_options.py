"""Options of a model that was made elsewhere: its labels and its preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from export.foreign.preprocess_choice import PreprocessChoice

__all__ = ["Crop", "Filter", "Labels", "Mean", "Size", "Std", "Strict", "choice_of"]

Labels = Annotated[
    Path | None, typer.Option(help="File of class names, one a line, in the order of the outputs.")
]
Mean = Annotated[str | None, typer.Option(help="Of RGB in [0, 1]: 0.5,0.5,0.5")]
Std = Annotated[str | None, typer.Option(help="Of RGB in [0, 1]: 0.5,0.5,0.5")]
Size = Annotated[int | None, typer.Option(help="Side of what the model sees, px.")]
Crop = Annotated[float | None, typer.Option(help="Share of the shorter side that is seen, 0 to 1.")]
Filter = Annotated[str | None, typer.Option(help="bilinear, bicubic or lanczos.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Fail where too few images were given to say.")
]


def choice_of(
    size: int | None,
    crop_pct: float | None,
    interpolation: str | None,
    mean: str | None,
    std: str | None,
) -> PreprocessChoice:
    """The preprocessing that the options say; None where they do not."""
    from export.foreign.preprocess_choice import PreprocessChoice, parse_triple

    triples = parse_triple("--mean", mean), parse_triple("--std", std)
    return PreprocessChoice(size, crop_pct, interpolation, *triples)
