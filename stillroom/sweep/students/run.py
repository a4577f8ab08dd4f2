"""`stillroom compress --search`: which student at which test size, judged on val alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compress.teachers import open_teachers
from export.model_latency import compare_latency, gpu_is_here
from serve.contract.digest import digest_of_json
from serve.contract.errors import GateError, RunError, UsageError
from stillroom.command_text import command_text
from stillroom.run.execution import Request, run_stages
from stillroom.run.folder import RunFolder
from stillroom.run.pipeline import PIPELINE
from stillroom.sweep.folder import SweepFolder
from stillroom.sweep.lists import names, sizes_px
from stillroom.sweep.students.facts import Students, read_students
from stillroom.sweep.students.page import render_students
from stillroom.sweep.students.pareto import Bounds
from stillroom.sweep.students.precision_cells import Refused, precisions_of, reduce_cell
from stillroom.sweep.students.student_cells import (
    SearchContext,
    StudentTrial,
    distil_cell,
    tune_cell,
)
from stillroom.sweep.subject import StudyData, open_study_data
from train.data.dataset import Dataset
from train.data.unlabelled import Unlabelled, open_unlabelled
from train.engine.progress import say
from train.fitting import pick_device, prepare_model
from train.models.classifier import check_size
from train.options import TrainOptions

__all__ = ["StudentsRequest", "choose_student", "refuse_without_pick"]

NAME = "students"
USUAL = (1.0, 1.15, 1.3)  # test sizes as multiples of the training size


@dataclass(frozen=True)
class StudentsRequest:
    """What the user asked for.

    Args:
        run: with a teacher, or with images to train one on.
        overrides: key=value each; they hold for the search and leave the run's recipe alone.
        students: "arch,arch:weights,..."; without weights the recipe's are taken.
        test_sizes: such as "112,144"; empty takes 1, 1.15 and 1.3 times the training size.
        bounds: that the pick must hold.
        precisions: such as "fp16,int8", each besides fp32.
    """

    run: Path
    overrides: tuple[str, ...]
    students: str
    test_sizes: str = ""
    bounds: Bounds = field(default_factory=Bounds)
    precisions: str = ""


def choose_student(request: StudentsRequest) -> Students:
    """Distil each student, fit it to each test size, export it, measure all side by side.

    What an earlier search of the same run has finished is not computed again.

    Returns:
        What was found; its page and figures are in RUN/sweep/students/.

    Raises:
        UsageError: a student or a size that cannot be; nothing was trained.
        Interrupted: a signal came; the same command goes on.
    """
    _check_bounds(request.bounds)
    precisions = precisions_of(request.precisions)
    course = _open_course(request)
    subject = course.subject
    candidates = _candidates(request, subject)
    sizes = _sizes(request, subject.recipe.student)
    for options in candidates:  # a wrong name is known before the first hour is spent
        model = prepare_model(subject.dataset, options, subject.recipe.seed)
        for size in sizes:
            check_size(model, size)
    folder = SweepFolder.of(subject.run.path, NAME)
    with folder.opened({"kind": NAME}):
        cells: list[StudentTrial] = []
        refused: list[Refused] = []
        for number, options in enumerate(candidates):
            say(f"{number + 1} of {len(candidates)}: {options.arch}")
            student = distil_cell(folder, course, options)
            for size in sizes:
                say(f"  {options.arch} at {size} px")
                fixres = replace(subject.recipe.fixres, test_size_px=size)
                tuned = tune_cell(course, student, fixres)
                cells.append(tuned)
                for precision in precisions:
                    say(f"  {options.arch} at {size} px, {precision}")
                    made = reduce_cell(course, tuned, precision)
                    cells.append(made) if isinstance(made, StudentTrial) else refused.append(made)
        latencies = _latencies(folder, subject, cells)
        found = read_students(cells, latencies, request.bounds, request.overrides, refused)
        _write(folder, subject, found)
    return found


def refuse_without_pick(found: Students) -> None:
    """End with the exit code of a missed gate where bounds were given and nothing holds them.

    Raises:
        GateError: names what comes nearest.
    """
    if found.bounds and found.picked is None:
        raise GateError(found.refusal, found.next_step)


def _open_course(request: StudentsRequest) -> SearchContext:
    if not RunFolder(request.run).record():
        raise RunError(
            f"{request.run} holds no run.",
            f"Make one: {command_text('train', 'PHOTOS', '--run', request.run)}",
        )
    run_stages(PIPELINE, Request(request.run, until="teacher"))
    subject = open_study_data(request.run, None, request.overrides)
    # Its test images are compared with and never opened: the teacher's digest is of all
    # images, and none of those without labels may be one of them.
    everything = Dataset.open(subject.dataset.root, subject.run.stage("data") / "index.csv", 0)
    distil = subject.recipe.distil
    folders = [subject.run.stage("teacher"), *map(Path, distil.more_teachers)]
    teachers = tuple(open_teachers(folders, everything))
    for teacher in teachers:
        teacher.model.to(pick_device())
    unlabelled: Unlabelled | None = None
    if distil.unlabelled:
        unlabelled = open_unlabelled(Path(distil.unlabelled), everything, subject.recipe.data)
    return SearchContext(subject, teachers, unlabelled)


def _candidates(request: StudentsRequest, subject: StudyData) -> list[TrainOptions]:
    student = subject.recipe.student
    candidates = []
    for entry in names(request.students, "--search"):
        arch, _, weights = entry.partition(":")
        candidates.append(replace(student, arch=arch, weights=weights or student.weights))
    return candidates


def _sizes(request: StudentsRequest, student: TrainOptions) -> tuple[int, ...]:
    if request.test_sizes:
        return sizes_px(request.test_sizes, "--test-sizes")
    return tuple(sorted({16 * round(student.train_size_px * ratio / 16) or 16 for ratio in USUAL}))


def _check_bounds(bounds: Bounds) -> None:
    if bounds.min_top1 is not None and not 0 < bounds.min_top1 <= 1:
        raise UsageError(
            f"--min-top1 {bounds.min_top1:g}: expected a fraction, more than 0 and at most 1.",
            "Write 0.93 for 93 %.",
        )
    if bounds.max_latency_ms is not None and bounds.max_latency_ms <= 0:
        raise UsageError(f"--max-latency-ms {bounds.max_latency_ms:g}: expected more than 0.")


def _latencies(
    folder: SweepFolder, subject: StudyData, cells: Sequence[StudentTrial]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Latency by device and cell: all in one go, so that they can be compared; measured once."""
    all_of_them = sorted(str(cell.folder.relative_to(folder.path)) for cell in cells)
    out = folder.path / "latency" / digest_of_json(all_of_them)[:10]
    out.mkdir(parents=True, exist_ok=True)
    models = {cell.name: cell.model for cell in cells}
    opset = subject.recipe.export.opset
    found = {}
    for device in ("cpu", *(("cuda",) if gpu_is_here() else ())):
        path = out / device
        if not (path / "latency.json").is_file():
            say(f"latency of each on the {device.upper()}")
            path.mkdir(exist_ok=True)
            compare_latency(models, opset=opset, out=path, device=device)
        found[device] = json.loads((path / "latency.json").read_bytes())
    return found


def _write(folder: SweepFolder, subject: StudyData, found: Students) -> None:
    folder.write(
        {
            "kind": NAME,
            "judged_on": "val",
            "test_photographs_held_back": subject.held_back,
            "sentences": found.sentences(),
            "pick": found.picked.row() if found.picked else None,
            "refused": [
                {"cell": one.cell.name, "precision": one.precision, "why": one.why}
                for one in found.refused
            ],
            "overrides": found.recipe_overrides(),
            "front": [entry.cell.name for entry in found.front],
        },
        [entry.row() for entry in found.entries],
    )
    folder.write_page(render_students(found, subject, NAME))
