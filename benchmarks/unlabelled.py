"""Few labels, many images: what the teacher, images without labels, and FixRes bring.

    python -m benchmarks.unlabelled PHOTOS --labels 20 --unlabelled 180 --seeds 3 --table T.md

PHOTOS' own training split gives so many labelled images of each class, drawn by the seed, and
so many more whose labels are thrown away; as many labelled ones of val as of train choose what is
kept. Each seed draws its own. All students take nearly the same number of steps, which the table
has: an epoch of an arm with images without labels is longer, so it has fewer of them; the
first, of the classifier alone, is besides. The teacher learns from the labelled ones alone. What is
finished in --out is not done again; it is of one setting, and more seeds may join it. Test is
looked at once, for the table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
from numpy.typing import NDArray

from benchmarks.setting import audited, cpu_name
from compress.fixres_stage import fine_tune_fixres
from compress.options import DistilOptions, FixResOptions
from compress.stage import distil_student
from export.model_latency import compare_latency
from export.options import ExportOptions
from stillroom.ablation.paired import paired_difference
from train.data.dataset import Dataset
from train.data.images import LabelledImage
from train.data.unlabelled import open_unlabelled
from train.engine.seed import generator
from train.evaluation import read_predictions
from train.options import TrainOptions
from train.stage import train_teacher

BATCH = 32
USUAL = TrainOptions(
    weights="package", head_epochs=1, head_lr=3e-3, batch_size=BATCH, lr=6e-4, ema_decay=0.99,
    precision="fp32",
)  # fmt: skip
TEACHER = replace(USUAL, arch="tf_efficientnet_lite2", epochs=20)
STUDENT = replace(USUAL, arch="tf_efficientnet_lite0")
FIXRES = FixResOptions(epochs=10, batch_size=BATCH)


@dataclass(frozen=True)
class Setting:
    """What all seeds have in common.

    Args:
        labels: labelled images of each class, to train and to choose by.
        unlabelled: images without labels of each class.
        steps: of each student, those of FixRes included; the classifier's first epoch is besides.
        teacher_px: sides that the teacher is trained and tested at; it sees the student's views at
            the former.
        student_px: side that the student is trained at, and that FixRes fits it to.
    """

    labels: int
    unlabelled: int
    steps: int
    teacher_px: tuple[int, int]
    student_px: tuple[int, int]

    def teacher(self) -> TrainOptions:
        """Of the teacher's training."""
        train_px, test_px = self.teacher_px
        return replace(TEACHER, train_size_px=train_px, test_size_px=test_px)

    def student(self, epochs: int) -> TrainOptions:
        """Of a student's training, which ends before FixRes."""
        size_px = self.student_px[0]
        return replace(STUDENT, train_size_px=size_px, test_size_px=size_px, epochs=epochs)

    def distil(self) -> DistilOptions:
        """Of students that have the teacher."""
        return DistilOptions(teacher_size_px=self.teacher_px[0])

    def fixres(self) -> FixResOptions:
        """Of students that have FixRes."""
        return replace(FIXRES, test_size_px=self.student_px[1])


@dataclass(frozen=True)
class Arm:
    """One way to a student."""

    key: str
    distils: bool
    unlabelled: bool
    fixes: bool

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return self.key.replace(" ", "-").replace(",", "")


ARMS = (
    Arm("labels only", distils=False, unlabelled=False, fixes=False),
    Arm("labels only + FixRes", distils=False, unlabelled=False, fixes=True),
    Arm("distilled", distils=True, unlabelled=False, fixes=False),
    Arm("distilled, unlabelled too", distils=True, unlabelled=True, fixes=False),
    Arm("distilled, unlabelled too + FixRes", distils=True, unlabelled=True, fixes=True),
)


def few_labels(
    dataset: Dataset, labels: int, unlabelled: int, seed: int
) -> tuple[Dataset, list[LabelledImage]]:
    """So many labelled images of each class, test as it is, and those without labels.

    Raises:
        ValueError: a class has too few images.
    """
    chosen, rest = list(dataset.of_split("test")), []
    for split, more in (("train", unlabelled), ("val", 0)):
        for label in dataset.labels:
            found = [photo for photo in dataset.of_split(split) if photo.label == label]
            if len(found) < labels + more:
                raise ValueError(f"{label} has {len(found)} of {split}, not {labels + more}.")
            order = generator(seed, "few", split, label).permutation(len(found))
            chosen += [found[i] for i in order[:labels]]
            rest += [found[i] for i in order[labels : labels + more]]
    chosen.sort(key=lambda photo: photo.path)
    return Dataset(dataset.root, chosen, dataset.cache_mib), rest


def train_seed(
    dataset: Dataset, rest: list[LabelledImage], out: Path, seed: int, setting: Setting
) -> None:
    """The teacher and every arm, unless that was done."""
    copies, teacher = out / "unlabelled", out / "teacher"
    _copy(dataset.root, rest, copies)
    options = setting.teacher()
    _once(teacher, partial(train_teacher, dataset, options, seed=seed, out=teacher))
    labelled = len(dataset.of_split("train"))
    fixres = setting.fixres()
    for arm in ARMS:
        folder = out / arm.folder
        student = folder / "student" if arm.fixes else folder
        an_epoch = (labelled + (len(rest) if arm.unlabelled else 0)) // BATCH
        for_fixres = fixres.epochs * (labelled // BATCH) if arm.fixes else 0
        epochs = max(1, round((setting.steps - for_fixres) / an_epoch))
        _once(student, partial(_fit, dataset, arm, setting, epochs, out, student, seed))
        if arm.fixes:
            fit_size = partial(fine_tune_fixres, dataset, student, fixres, seed=seed, out=folder)
            _once(folder, fit_size)


def _copy(root: Path, rest: list[LabelledImage], out: Path) -> None:
    """The images under names that tell no class."""
    if out.exists():
        return
    partial_copy = out.with_name(f".{out.name}")
    shutil.rmtree(partial_copy, ignore_errors=True)
    partial_copy.mkdir(parents=True)
    for number, photo in enumerate(rest):
        name = f"{number:05d}{Path(photo.path).suffix}"
        shutil.copyfile(root / photo.path, partial_copy / name)
    partial_copy.rename(out)


def _fit(
    dataset: Dataset, arm: Arm, setting: Setting, epochs: int, seed_out: Path, out: Path, seed: int
) -> None:
    options = setting.student(epochs)
    if not arm.distils:
        train_teacher(dataset, options, seed=seed, out=out)
        return
    extra = open_unlabelled(seed_out / "unlabelled", dataset) if arm.unlabelled else None
    teacher, distil = seed_out / "teacher", setting.distil()
    distil_student(dataset, teacher, options, distil, seed=seed, out=out, unlabelled=extra)


def _once(folder: Path, build: Callable[[], object]) -> None:
    if (folder / "wall_s").exists():
        return
    print(f"== {folder}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    build()
    (folder / "wall_s").write_text(f"{time.perf_counter() - start:.1f}")


def rights_of(out: Path, seeds: int, folder: str) -> NDArray[np.bool_]:
    """(seeds, images), whether the answer to each test image is right."""
    answers = [
        read_predictions(out / str(seed) / folder / "predictions.csv").of_split("test")
        for seed in range(seeds)
    ]
    return np.stack([one.predicted == one.targets for one in answers])


def steps_of(folder: Path) -> int:
    """Optimiser steps of a training, with those of the student that FixRes began with."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = {record["phase"]: int(record["step"]) for record in map(json.loads, lines)}
    before = folder / "student"
    return sum(last.values()) + (steps_of(before) if before.is_dir() else 0)


def table_of(out: Path, seeds: int) -> Iterator[str]:
    """Markdown: the teacher, then each arm against labels only and against the teacher."""
    latency = json.loads((out / "latency.json").read_bytes())
    yield (
        "| model | steps | test top-1, mean (SD) | against labels only, points (95 %) "
        "| against the teacher, points (95 %) | CPU ms (quartiles) |"
    )
    yield "|---|---|---|---|---|---|"
    teacher, base = (rights_of(out, seeds, name) for name in ("teacher", ARMS[0].folder))
    models = [("teacher", "teacher", "teacher")]
    models += [(arm.key, arm.folder, "larger" if arm.fixes else "smaller") for arm in ARMS]
    for title, folder, size in models:
        right, time_ms = rights_of(out, seeds, folder), latency[size]
        steps = sorted({steps_of(out / str(seed) / folder) for seed in range(seeds)})
        spread = f" ({100 * right.mean(1).std(ddof=1):.1f})" if seeds > 1 else ""
        cells = [
            title,
            " to ".join(map(str, steps[:: max(1, len(steps) - 1)])),
            f"{100 * right.mean():.1f} %{spread}",
            "-" if folder == ARMS[0].folder else _gap(base, right),
            "-" if folder == "teacher" else _gap(teacher, right),
            f"{time_ms['median_ms']:.2f} ({time_ms['q1_ms']:.2f}-{time_ms['q3_ms']:.2f})",
        ]
        yield f"| {' | '.join(cells)} |"


def _gap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> str:
    gap = paired_difference(first, second)
    return f"{100 * gap.mean:+.1f} ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"


def conditions(dataset: Dataset, setting: Setting, seeds: int) -> str:
    """What a reader must know beside the figures."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "timm"))
    teacher, student, fixres = setting.teacher(), setting.student(1), setting.fixres()
    return (
        f"{setting.labels} labelled images of each of {len(dataset.labels)} classes to train "
        f"and as many to choose by, {setting.unlabelled} of each without labels, about "
        f"{setting.steps} steps of {BATCH}; teacher {teacher.arch} {teacher.train_size_px} -> "
        f"{teacher.test_size_px} px, {teacher.head_epochs} + {teacher.epochs} epochs; student "
        f"{student.arch} at {student.train_size_px} px, FixRes at {fixres.test_size_px}; ImageNet "
        f"weights for both. n = {seeds} seeds (each draws its own images) x "
        f"{len(dataset.of_split('test'))} test images; intervals: two-way bootstrap over "
        f"seeds and images. Latency: one image, one CPU thread, ONNX Runtime. "
        f"{os.cpu_count()} CPU cores ({cpu_name()}), Python {platform.python_version()}, "
        f"{versions}."
    )


def run(dataset: Dataset, setting: Setting, seeds: int, out: Path) -> list[str]:
    """Train what is not done, measure the latency once; the lines of the table.

    Raises:
        ValueError: `out` is of another setting, or there are too few images.
    """
    settings, latency = out / "setting.json", out / "latency.json"
    found = json.dumps(asdict(setting))
    if settings.exists() and settings.read_text() != found:
        raise ValueError(f"{out} has results of {settings.read_text()}; name another --out.")
    if setting.labels * len(dataset.labels) < BATCH:
        raise ValueError(f"labels = {setting.labels}: {BATCH} in all are the least, one step.")
    drawn = [few_labels(dataset, setting.labels, setting.unlabelled, s) for s in range(seeds)]
    out.mkdir(parents=True, exist_ok=True)
    settings.write_text(found)
    for seed, (few, rest) in enumerate(drawn):
        train_seed(few, rest, out / str(seed), seed, setting)
    if not latency.exists():
        folders = {"teacher": "teacher", "smaller": ARMS[0].folder, "larger": ARMS[1].folder}
        paths = {name: out / "0" / folder for name, folder in folders.items()}
        compare_latency(paths, opset=ExportOptions().opset, out=out)
    command = (
        f"python -m benchmarks.unlabelled PHOTOS --labels {setting.labels} "
        f"--unlabelled {setting.unlabelled} --seeds {seeds} --steps {setting.steps} "
        f"--teacher-px {' '.join(map(str, setting.teacher_px))} "
        f"--student-px {' '.join(map(str, setting.student_px))}"
    )
    title = "# Few labels, many images"
    head = [title, "", f"    {command}", "", conditions(dataset, setting, seeds), ""]
    return [*head, *table_of(out, seeds), ""]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--out", type=Path, default=Path("unlabelled"))
    parser.add_argument("--labels", type=int, default=20, help="of each class")
    parser.add_argument("--unlabelled", type=int, default=180, help="of each class")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument(
        "--teacher-px", type=int, nargs=2, default=(144, 176), metavar=("TRAIN", "TEST")
    )
    parser.add_argument(
        "--student-px", type=int, nargs=2, default=(88, 112), metavar=("TRAIN", "FIXRES")
    )
    parser.add_argument("--table", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    setting = Setting(
        args.labels, args.unlabelled, args.steps, tuple(args.teacher_px), tuple(args.student_px)
    )
    try:
        lines = run(audited(args.photos, args.out, 1024), setting, args.seeds, args.out)
    except ValueError as error:
        parser.error(str(error))
    print("\n".join(lines), flush=True)
    if args.table:
        args.table.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
