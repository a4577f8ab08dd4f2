"""`stillroom sweep resolution`: which sizes to train and to test at."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from export.model_latency import compare_latency
from serve.contract.errors import UsageError
from stillroom.sweep.cells import StudyCell, train_cells
from stillroom.sweep.folder import SweepFolder
from stillroom.sweep.lists import sizes_px
from stillroom.sweep.resolution.facts import Resolution, SizePair, latency_key, read_resolution
from stillroom.sweep.resolution.page import render_resolution
from stillroom.sweep.subject import StudyData, open_study_data
from stillroom.sweep.trial import predict_val
from train.engine.progress import say
from train.evaluation import write_predictions
from train.fitting import prepare_model
from train.models.checkpoint import load_checkpoint, save_checkpoint
from train.models.classifier import check_size, count_flops
from train.options import TrainOptions

__all__ = ["ResolutionRequest", "sweep_resolution"]


@dataclass(frozen=True)
class ResolutionRequest:
    """What the user asked for.

    Args:
        target: run or images.
        overrides: key=value each.
        train_sizes: such as "96,128"; empty takes the recipe's.
        test_sizes: such as "96,128,160".
        widths: of the bilinear head, such as "1024,4096"; empty takes the recipe's.
        recipe: a file or a shipped recipe; None takes the run's.
        name: of the sweep's folder.
        keep: whether all checkpoints stay, not the best one's alone.
    """

    target: Path
    overrides: tuple[str, ...]
    train_sizes: str = ""
    test_sizes: str = ""
    widths: str = ""
    recipe: str | None = None
    name: str = "resolution"
    keep: bool = False


def sweep_resolution(request: ResolutionRequest) -> Path:
    """Train once for each train size and width, test each at every test size.

    Returns:
        The page.

    Raises:
        UsageError: sizes or widths that cannot be; nothing was trained.
        Interrupted: a signal came; the same command goes on.
    """
    subject = open_study_data(request.target, request.recipe, request.overrides)
    teacher = subject.recipe.teacher
    trained = [
        replace(teacher, train_size_px=size, test_size_px=0, bilinear_dim=width)
        for width in _widths(request, teacher)
        for size in _sizes(request.train_sizes, "--train-sizes", (teacher.train_size_px,))
    ]
    largest = max(options.train_size_px for options in trained)
    usual = tuple(sorted({_even(largest * ratio) for ratio in (0.75, 1.0, 1.15, 1.3, 1.5)}))
    tested = _sizes(request.test_sizes, "--test-sizes", usual)
    _check_arch(subject, trained[0], tested)
    folder = SweepFolder.of(subject.run.path, request.name)
    with folder.opened(_plan(subject, trained, tested)):
        cells = [
            StudyCell(_name(options), subject.dataset, options, subject.recipe.seed)
            for options in trained
        ]
        outcomes = train_cells(folder, cells)
        places = [
            place
            for number, options in enumerate(trained)
            for place in _test(folder, number, subject, options, tested)
        ]
        latencies = _latencies(folder, subject, trained, tested)
        resolution = read_resolution(folder, places, latencies, outcomes)
        if not request.keep:
            folder.keep_checkpoints({resolution.best.place.number})
        _write(folder, subject, resolution)
    return folder.page


def _test(
    folder: SweepFolder,
    number: int,
    subject: StudyData,
    options: TrainOptions,
    tested: Sequence[int],
) -> list[SizePair]:
    """Answers of one training at every test size; those that are written stay."""
    trial = folder.trial(number)
    width = _width(options)
    places = [SizePair(number, options.train_size_px, size, width) for size in tested]
    for place in places:
        if place.file(trial).is_file():
            continue
        model, card = load_checkpoint(trial)
        spec = replace(card.preprocess, size_px=place.test_size_px)
        say(f"  {_name(options)}: testing at {place.test_size_px} px")
        partial = trial / ".predictions"
        write_predictions(partial, predict_val(model, subject.dataset, spec))
        partial.replace(place.file(trial))
    return places


def _latencies(
    folder: SweepFolder, subject: StudyData, trained: Sequence[TrainOptions], tested: Sequence[int]
) -> dict[str, dict[str, float]]:
    """Latency and multiply-adds by width and test size: the train size changes neither.

    All are measured in one go, so that they can be compared.
    """
    path, flops_path = folder.path / "latency.json", folder.path / "flops.json"
    if path.is_file() and flops_path.is_file():
        return _joined(json.loads(path.read_bytes()), json.loads(flops_path.read_bytes()))
    say("latency of each test size")
    flops: dict[str, int] = {}
    seen: set[int] = set()
    with tempfile.TemporaryDirectory(prefix="stillroom-") as scratch:
        folders = {}
        for number, options in enumerate(trained):
            if options.bilinear_dim in seen:
                continue
            seen.add(options.bilinear_dim)
            model, card = load_checkpoint(folder.trial(number))
            for size in tested:
                key = latency_key(_width(options), size)
                folders[key] = Path(scratch) / key
                folders[key].mkdir()
                spec = replace(card.preprocess, size_px=size)
                save_checkpoint(folders[key], model, replace(card, preprocess=spec))
                flops[key] = count_flops(model, size)
        compare_latency(folders, opset=subject.recipe.export.opset, out=folder.path)
    folder.write_text(flops_path.name, json.dumps(flops))
    return _joined(json.loads(path.read_bytes()), flops)


def _joined(latency: dict[str, Any], flops: dict[str, int]) -> dict[str, dict[str, float]]:
    return {key: {**value, "flops": flops[key]} for key, value in latency.items()}


def _write(folder: SweepFolder, subject: StudyData, resolution: Resolution) -> None:
    folder.write(
        {
            "kind": "resolution",
            "judged_on": "val",
            "test_photographs_held_back": subject.held_back,
            "sentences": resolution.sentences(),
            "best": resolution.best.row(),
        },
        [entry.row() for entry in resolution.entries],
    )
    folder.write_page(render_resolution(resolution, subject, folder.path.name))


def _sizes(text: str, option: str, usual: tuple[int, ...]) -> tuple[int, ...]:
    return sizes_px(text, option) if text else usual


def _widths(request: ResolutionRequest, teacher: TrainOptions) -> tuple[int, ...]:
    if not request.widths:
        return (teacher.bilinear_dim,)
    if teacher.head != "bilinear":
        raise UsageError(
            "--widths are those of the bilinear head, and teacher.head is linear.",
            "Add teacher.head=bilinear, or leave --widths out.",
        )
    return sizes_px(request.widths, "--widths", most=2**16)


def _check_arch(subject: StudyData, options: TrainOptions, tested: Sequence[int]) -> None:
    """Many transformers take one size only: better to know before the first training."""
    model = prepare_model(subject.dataset, replace(options, weights="none"), subject.recipe.seed)
    for size in tested:
        check_size(model, size)


def _plan(
    subject: StudyData, trained: Sequence[TrainOptions], tested: Sequence[int]
) -> dict[str, Any]:
    fixed = asdict(trained[0])
    for key in ("train_size_px", "bilinear_dim", "workers"):
        del fixed[key]
    return {
        "kind": "resolution",
        "seed": subject.recipe.seed,
        "teacher": fixed,
        "train_sizes": sorted({options.train_size_px for options in trained}),
        "widths": sorted({options.bilinear_dim for options in trained}),
        "test_sizes": list(tested),
        "images": subject.digest,
    }


def _width(options: TrainOptions) -> int:
    return options.bilinear_dim if options.head == "bilinear" else 0


def _name(options: TrainOptions) -> str:
    width = f", width {options.bilinear_dim}" if options.head == "bilinear" else ""
    return f"train size {options.train_size_px} px{width}"


def _even(size: float) -> int:
    """A multiple of 16, which strided networks divide well."""
    return max(16, 16 * round(size / 16))
