"""Few labels, many photographs: what the teacher, photographs without labels, and FixRes bring.

    python -m benchmarks.unlabelled PHOTOS --labels 20 --unlabelled 180 --seeds 3 --table T.md

PHOTOS' own training split gives so many labelled photographs of each class, drawn by the seed, and
so many more whose labels are thrown away; as many labelled ones of val as of train choose what is
kept. Each seed draws its own. All students take nearly the same number of steps: an epoch of an arm
with photographs without labels is longer, so it has fewer of them. The teacher learns from the
labelled ones alone. What is finished in --out is not done again. Test is looked at once, for the
table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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
from export.compare import compare_latency
from export.options import ExportOptions
from stillroom.ablation.paired import paired_difference
from train.dataset import Dataset
from train.evaluate import read_predictions
from train.options import TrainOptions
from train.photos import Photo
from train.seed import generator
from train.stage import train_teacher
from train.unlabelled import open_unlabelled

BATCH = 32
USUAL = TrainOptions(
    weights="package", head_epochs=1, head_lr=3e-3, batch_size=BATCH, lr=6e-4, ema_decay=0.99,
    precision="fp32",
)  # fmt: skip
TEACHER = replace(
    USUAL, arch="tf_efficientnet_lite2", train_size_px=144, test_size_px=176, epochs=40
)
STUDENT = replace(USUAL, arch="tf_efficientnet_lite0", train_size_px=88, test_size_px=88)
DISTIL = DistilOptions(teacher_size_px=144)
FIXRES = FixResOptions(test_size_px=112, epochs=10, batch_size=BATCH)


@dataclass(frozen=True)
class Arm:
    """One way to a student."""

    key: str
    distils: bool
    unlabelled: bool
    fixes: bool


ARMS = (
    Arm("labels only", distils=False, unlabelled=False, fixes=False),
    Arm("labels only + FixRes", distils=False, unlabelled=False, fixes=True),
    Arm("distilled", distils=True, unlabelled=False, fixes=False),
    Arm("distilled, unlabelled too", distils=True, unlabelled=True, fixes=False),
    Arm("distilled, unlabelled too + FixRes", distils=True, unlabelled=True, fixes=True),
)


def few_labels(
    dataset: Dataset, labels: int, unlabelled: int, seed: int
) -> tuple[Dataset, list[Photo]]:
    """So many labelled photographs of each class, test as it is, and those without labels."""
    chosen, rest = list(dataset.of_split("test")), []
    for split, take in (("train", labels), ("val", labels)):
        for label in dataset.labels:
            found = [photo for photo in dataset.of_split(split) if photo.label == label]
            order = generator(seed, "few", split, label).permutation(len(found))
            chosen += [found[i] for i in order[:take]]
            if split == "train":
                rest += [found[i] for i in order[take : take + unlabelled]]
    chosen.sort(key=lambda photo: photo.path)
    return Dataset(dataset.root, chosen, dataset.cache_mib), rest


def train_seed(dataset: Dataset, rest: list[Photo], out: Path, seed: int, steps: int) -> None:
    """The teacher and every arm, unless that was done."""
    copies = out / "unlabelled"
    if not copies.exists():
        copies.mkdir(parents=True)
        for number, photo in enumerate(rest):
            suffix = Path(photo.path).suffix
            shutil.copy(dataset.root / photo.path, copies / f"{number:05d}{suffix}")
    teacher = out / "teacher"
    _once(teacher, partial(train_teacher, dataset, TEACHER, seed=seed, out=teacher))
    labelled = len(dataset.of_split("train"))
    for arm in ARMS:
        folder = out / arm.key.replace(" ", "-").replace(",", "")
        student = folder / "student" if arm.fixes else folder
        an_epoch = (labelled + (len(rest) if arm.unlabelled else 0)) // BATCH
        for_fixres = FIXRES.epochs * (labelled // BATCH)
        epochs = max(1, round((steps - (for_fixres if arm.fixes else 0)) / an_epoch))
        options = replace(STUDENT, epochs=epochs)
        _once(student, partial(_fit, dataset, arm, options, teacher, copies, student, seed))
        if arm.fixes:
            fit_size = partial(fine_tune_fixres, dataset, student, FIXRES, seed=seed, out=folder)
            _once(folder, fit_size)


def _fit(
    dataset: Dataset,
    arm: Arm,
    options: TrainOptions,
    teacher: Path,
    copies: Path,
    out: Path,
    seed: int,
) -> None:
    if not arm.distils:
        train_teacher(dataset, options, seed=seed, out=out)
        return
    extra = open_unlabelled(copies, dataset) if arm.unlabelled else None
    distil_student(dataset, teacher, options, DISTIL, seed=seed, out=out, unlabelled=extra)


def _once(folder: Path, build: Callable[[], object]) -> None:
    if (folder / "wall_s").exists():
        return
    print(f"== {folder}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    build()
    (folder / "wall_s").write_text(f"{time.perf_counter() - start:.1f}")


def rights_of(out: Path, seeds: int, key: str, split: str) -> NDArray[np.bool_]:
    """(seeds, images), whether the answer is right."""
    folder = key.replace(" ", "-").replace(",", "")
    answers = [
        read_predictions(out / str(seed) / folder / "predictions.csv").of_split(split)
        for seed in range(seeds)
    ]
    return np.stack([one.answers == one.targets for one in answers])


def table_of(out: Path, seeds: int) -> Iterator[str]:
    """Markdown: the teacher, then each arm against labels only and against the teacher."""
    latency = json.loads((out / "latency.json").read_bytes())
    yield (
        "| model | test top-1, mean (SD) | against labels only, points (95 %) "
        "| against the teacher, points (95 %) | CPU ms (quartiles) |"
    )
    yield "|---|---|---|---|---|"
    teacher = rights_of(out, seeds, "teacher", "test")
    base = rights_of(out, seeds, ARMS[0].key, "test")
    for key in ("teacher", *(arm.key for arm in ARMS)):
        right = rights_of(out, seeds, key, "test")
        size = "teacher" if key == "teacher" else "larger" if "FixRes" in key else "smaller"
        time_ms = latency[size]
        cells = [
            key,
            f"{100 * right.mean():.1f} % ({100 * right.mean(1).std(ddof=1):.1f})",
            "-" if key == ARMS[0].key else _gap(base, right),
            "-" if key == "teacher" else _gap(teacher, right),
            f"{time_ms['median_ms']:.2f} ({time_ms['q1_ms']:.2f}-{time_ms['q3_ms']:.2f})",
        ]
        yield f"| {' | '.join(cells)} |"


def _gap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> str:
    gap = paired_difference(first, second)
    return f"{100 * gap.mean:+.1f} ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"


def conditions(dataset: Dataset, args: argparse.Namespace) -> str:
    """What a reader must know beside the figures."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "timm"))
    return (
        f"{args.labels} labelled photographs of each of {len(dataset.labels)} classes to train and "
        f"as many to choose by, {args.unlabelled} of each without labels, {args.steps} steps of "
        f"{BATCH}; teacher {TEACHER.arch} {TEACHER.train_size_px} -> {TEACHER.test_size_px} px, "
        f"student {STUDENT.arch} at {STUDENT.train_size_px} px, FixRes at {FIXRES.test_size_px}; "
        f"ImageNet weights for both. n = {args.seeds} seeds (each draws its own photographs) x "
        f"{len(dataset.of_split('test'))} test photographs; intervals: two-way bootstrap over "
        f"seeds and photographs. Latency: one image, one CPU thread, ONNX Runtime. "
        f"{os.cpu_count()} CPU cores ({cpu_name()}), Python {platform.python_version()}, "
        f"{versions}."
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--out", type=Path, default=Path("unlabelled"))
    parser.add_argument("--labels", type=int, default=20, help="of each class")
    parser.add_argument("--unlabelled", type=int, default=180, help="of each class")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--table", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    dataset = audited(args.photos, args.out, 1024)
    for seed in range(args.seeds):
        few, rest = few_labels(dataset, args.labels, args.unlabelled, seed)
        train_seed(few, rest, args.out / str(seed), seed, args.steps)
    if not (args.out / "latency.json").exists():
        first = args.out / "0"
        folders = {
            "teacher": first / "teacher",
            "smaller": first / "labels-only",
            "larger": first / "labels-only-+-FixRes",
        }
        compare_latency(folders, opset=ExportOptions().opset, out=args.out)
    lines = [conditions(dataset, args), "", *table_of(args.out, args.seeds), ""]
    print("\n".join(lines), flush=True)
    if args.table:
        args.table.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
