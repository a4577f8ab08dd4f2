"""What distilling costs: its steps against plain steps plus the teacher's forward passes.

    python -m benchmarks.distil_cost PHOTOS --teacher tf_efficientnet_lite2 \
        --student tf_efficientnet_lite0 --size 112 --rounds 12 --table results.md

Plain steps on the labels, the teacher's forward passes alone, and distilling steps take turns on
the same batches in memory, in one process; each round gives one ratio, and the order within a round
changes from round to round. The models have random weights, which cost what trained ones do.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from time import perf_counter

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
import torch

from compress.distil import Distillation
from train.data.audit.dataset_audit import audit_images
from train.data.dataset import Dataset
from train.engine.step import DTYPES
from train.engine.trainer import Trainer
from train.fitting import phases_of, pick_device, prepare_model, views_of
from train.loader.sampler import ViewKey
from train.loader.views import Batch, build_loader
from train.losses.objective import TrainingTask
from train.models.classifier import ImageClassifier, build_model
from train.options import DataOptions, TrainOptions

LIMIT = 1.15  # distilling over plain plus teacher: what the project promises


@dataclass(frozen=True)
class Setting:
    """What is timed.

    Args:
        student: of the student's training.
        teacher: timm name.
        teacher_px: side that the teacher sees; 0 is the student's.
        steps: batches a turn.
        rounds: turns of each.
    """

    student: TrainOptions
    teacher: str
    teacher_px: int
    steps: int
    rounds: int

    @property
    def view_px(self) -> int:
        """Side of the views."""
        return max(self.student.train_size_px, self.teacher_px)


@dataclass(frozen=True)
class Times:
    """Seconds of each turn."""

    plain: list[float]
    teacher: list[float]
    distilled: list[float]

    @property
    def ratios(self) -> list[float]:
        """Of each round: distilled / (plain + teacher)."""
        turns = zip(self.plain, self.teacher, self.distilled, strict=True)
        return [distilled / (plain + teacher) for plain, teacher, distilled in turns]


def measure(dataset: Dataset, setting: Setting) -> Times:
    """Time all three in turn."""
    options, device = setting.student, pick_device()
    classes = len(dataset.labels)
    teacher = build_model(setting.teacher, classes, size_px=setting.view_px)
    teacher.eval().requires_grad_(False).to(device)
    objective = Distillation(
        teacher,
        kd_weight=0.9,
        temperature=2.0,
        student_px=options.train_size_px if setting.teacher_px else 0,
        teacher_px=setting.teacher_px,
    )
    task = TrainingTask(objective, view_px=setting.view_px if setting.teacher_px else 0)
    small = _batches(dataset, setting, 0)
    large = _batches(dataset, setting, setting.teacher_px)
    with tempfile.TemporaryDirectory() as folder:
        plain = _training(dataset, options, None, Path(folder) / "plain")
        distilled = _training(dataset, options, task, Path(folder) / "distilled")
        precision = plain.plan.precision
        turns: dict[str, Callable[[], None]] = {
            "plain": lambda: _run(plain, small),
            "teacher": lambda: _answer(teacher, large, precision),
            "distilled": lambda: _run(distilled, large),
        }
        for turn in turns.values():
            turn()  # warm up
        taken: dict[str, list[float]] = {name: [] for name in turns}
        for number in range(setting.rounds):
            names = list(turns)
            for name in names[number % 3 :] + names[: number % 3]:
                taken[name].append(_seconds(turns[name], device))
    return Times(**taken)


def _training(
    dataset: Dataset, options: TrainOptions, task: TrainingTask | None, folder: Path
) -> Trainer:
    model = prepare_model(dataset, options, 0)
    phase = phases_of(dataset, model, options, task, 0)[-1]
    training = Trainer("all", model, phase.objective, phase.policy, phase.plan, per_epoch=10**6)
    folder.mkdir()
    training.resume(folder / ".all")
    return training


def _batches(dataset: Dataset, setting: Setting, side_px: int) -> list[Batch]:
    options = setting.student
    side = max(side_px, options.train_size_px)
    views = views_of(dataset, replace(options, train_size_px=side), 0)
    size = options.batch_size
    keys = [
        [ViewKey(0, position % len(views), 0, side) for position in range(first, first + size)]
        for first in range(0, setting.steps * size, size)
    ]
    return list(build_loader(views, keys, workers=0))


def _run(training: Trainer, batches: list[Batch]) -> None:
    for batch in batches:
        training.step(batch)
    training.look_back()


def _answer(teacher: ImageClassifier, batches: list[Batch], precision: str) -> None:
    dtype = DTYPES.get(precision)
    for batch in batches:
        images = batch.to(teacher.device).images
        with torch.no_grad(), torch.autocast(images.device.type, dtype, enabled=dtype is not None):
            float(teacher(images).sum())


def _seconds(turn: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = perf_counter()
    turn()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return perf_counter() - start


def table_of(setting: Setting, times: Times) -> list[str]:
    """Markdown of what was measured."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "timm"))
    options, ratios = setting.student, times.ratios
    seen = f"{setting.teacher_px or options.train_size_px} px"
    images = setting.steps * options.batch_size
    median = float(np.median(ratios))
    return [
        f"Student {options.arch} at {options.train_size_px} px, teacher {setting.teacher} at "
        f"{seen}, batch {options.batch_size}, {setting.rounds} rounds of {setting.steps} steps. "
        f"{device}, {os.cpu_count()} CPU cores, Python {platform.python_version()}, {versions}.",
        "",
        "| | ms an image, median (lowest to highest round) |",
        "|---|---|",
        _row("plain steps", times.plain, images),
        _row("the teacher's forward passes", times.teacher, images),
        _row("distilling steps", times.distilled, images),
        "",
        f"Distilling over plain plus teacher: median {median:.3f} ({min(ratios):.3f} to "
        f"{max(ratios):.3f}); promised {LIMIT}: {'kept' if median <= LIMIT else 'not kept'}.",
    ]


def _row(name: str, seconds: list[float], images: int) -> str:
    each = [1000 * value / images for value in seconds]
    return f"| {name} | {np.median(each):.2f} ({min(each):.2f} to {max(each):.2f}) |"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--teacher", default="tf_efficientnet_lite2")
    parser.add_argument("--student", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=112, help="px, of the student")
    parser.add_argument("--teacher-size", type=int, default=0, help="px; 0: the student's")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--table", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        audit_images(args.photos, DataOptions(), seed=0, out=Path(folder))
        dataset = Dataset.open(args.photos, Path(folder) / "index.csv", 2048)
        student = TrainOptions(arch=args.student, train_size_px=args.size, batch_size=args.batch)
        setting = Setting(student, args.teacher, args.teacher_size, args.steps, args.rounds)
        lines = table_of(setting, measure(dataset, setting))
    print("\n".join(lines))
    if args.table:
        args.table.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
