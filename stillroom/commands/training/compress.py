"""`stillroom compress`: student, FixRes and baseline; or a search for a student."""

from __future__ import annotations

import json
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated

import typer

from serve.contract.errors import UsageError
from stillroom.commands.arguments import Overrides, Run
from stillroom.commands.building import build_and_show, build_stages

__all__ = ["compress"]

SEARCH = "stillroom.commands.training.search_students:search_student"  # optional


def compress(  # noqa: PLR0913  # typer reads options from parameters
    run: Run,
    overrides: Overrides = None,
    teachers: Annotated[
        list[Path] | None,
        typer.Option("--teacher", help="Checkpoint folder of a further teacher; may be repeated."),
    ] = None,
    unlabelled: Annotated[
        Path | None, typer.Option(help="Folder of images without labels, to distil on too.")
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(help="Students to choose from, on val: arch,arch:weights. Builds no stage."),
    ] = None,
    test_sizes: Annotated[str, typer.Option(help="Search: px, such as 112,144.")] = "",
    precisions: Annotated[
        str, typer.Option(help="Search: files besides fp32, such as int8 or fp16,int8.")
    ] = "",
    max_latency_ms: Annotated[
        float | None, typer.Option(help="Search: of one image on the CPU, for the pick.")
    ] = None,
    min_top1: Annotated[
        float | None, typer.Option(help="Search: on val, 0 to 1, for the pick.")
    ] = None,
) -> None:
    """Distil the student, run FixRes, train the baseline; or search which student to distil.

    The baseline is the same student without a teacher: what compression is judged against.

    Example: stillroom compress runs/mine distil.temperature=4

    Example: stillroom compress runs/mine --search resnet18,mobilenetv3_small_100 --max-latency-ms 5
    """
    told = [*(overrides or ())]
    if teachers:
        told.append(f"distil.more_teachers={json.dumps([str(t.resolve()) for t in teachers])}")
    if unlabelled is not None:
        told.append(f"distil.unlabelled={json.dumps(str(unlabelled.resolve()))}")
    if search is not None:
        search_student = resolve_name(SEARCH)
        search_student(run, told, search, test_sizes, precisions, max_latency_ms, min_top1)
        return
    if test_sizes or precisions or max_latency_ms is not None or min_top1 is not None:
        raise UsageError(
            "--test-sizes, --precisions, --max-latency-ms and --min-top1 belong to --search.",
            "Name the students to choose from: --search arch,arch:weights",
        )
    build_stages(None, run, None, told, "fixres", None, later=("baseline",))
    build_and_show(None, run, None, told, "baseline", None)
