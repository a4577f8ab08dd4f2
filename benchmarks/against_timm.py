"""Our training against timm's train.py: same model, weights, split, epochs, resolution and views.

    python -m benchmarks.against_timm PHOTOS --timm-train TIMM/train.py --out against-timm --seeds 3

train.py comes from github.com/huggingface/pytorch-image-models and is not part of this project.
Both sides start from the same bytes: ImageNet weights (the extra `weights`) with a new classifier.
Ours and theirs are trained in turn; each is timed as a whole process. Ours predicts the val and
test images and writes its files in that time; its audit, done once, is timed apart. Theirs
validates after each epoch, as ours does. Both final models answer the test images through the
serving preprocess, and through timm's own reader and transform. Finished trainings are kept.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from benchmarks.timm_script import (
    Recipe,
    our_overrides,
    read_final_model,
    timm_flags,
    top1_by_timm,
)
from serve.contract.digest import sha256_of_file
from serve.contract.preprocess import PreprocessSpec
from stillroom.ablation.paired import PairedDifference, paired_difference
from train.data.audit.dataset_audit import audit_images
from train.data.dataset import Dataset
from train.evaluation import predict_logits, validator
from train.fitting import prepare_model
from train.loader.views import pixels_of
from train.models.checkpoint import load_checkpoint
from train.models.classifier import ImageClassifier
from train.options import DataOptions, TrainOptions

ROOT = Path(__file__).parents[1]
SIDES = ("timm train.py", "stillroom")


@dataclass(frozen=True)
class Bench:
    """What both sides are given.

    Args:
        dataset: of `folder`, with its splits.
        folder: train/, val/ and test/ with a folder a class, as both sides read it.
        recipe: of both.
        script: timm's train.py.
        out: for everything that is written.
    """

    dataset: Dataset
    folder: Path
    recipe: Recipe
    script: Path
    out: Path

    @property
    def class_map(self) -> Path:
        """The class names in the order of the logits, one a line."""
        return self.out / "classes.txt"

    def weights(self, seed: int) -> Path:
        """Both sides' initial weights."""
        return self.out / f"start-{seed}.safetensors"


def open_bench(photos: Path, recipe: Recipe, script: Path, out: Path) -> Bench:
    """Split the images once, and lay the split out as folders of links."""
    folder, data = out / "photos", out / "data"
    if not (data / "index.csv").exists():
        data.mkdir(parents=True, exist_ok=True)
        audit_images(photos, DataOptions(), seed=0, out=data)
    found = Dataset.open(photos.resolve(), data / "index.csv", 2048)
    for photo in found.photos:
        name = f"{Path(photo.path).stem}-{photo.sha256[:8]}{Path(photo.path).suffix}"
        link = folder / photo.split / photo.label / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(found.root / photo.path)
    (out / "classes.txt").write_text("".join(f"{label}\n" for label in found.labels))
    return Bench(found, folder.resolve(), recipe, script.resolve(), out.resolve())


def write_start(bench: Bench, weights: str, seed: int) -> None:
    """Write the weights that both sides start from."""
    options = TrainOptions(
        arch=bench.recipe.arch, weights=weights, train_size_px=bench.recipe.size_px
    )
    backbone = prepare_model(bench.dataset, options, seed).cpu().backbone
    save_file(
        {name: tensor.contiguous() for name, tensor in backbone.state_dict().items()},
        bench.weights(seed),
    )


def commands_of(bench: Bench, seed: int) -> dict[str, list[str]]:
    """The command of each side, and of our audit."""
    recipe, run = bench.recipe, bench.out / "stillroom" / str(seed)
    overrides = our_overrides(recipe, bench.weights(seed), seed)
    steps = len(bench.dataset.of_split("train")) // recipe.batch_size
    flags = timm_flags(
        recipe, bench.weights(seed), seed, classes=len(bench.dataset.labels), steps=steps
    )
    places = ["--data-dir", bench.folder, "--train-split", "train", "--val-split", "val"]
    places += ["--class-map", bench.class_map, "--output", bench.out / "timm"]
    ours = [sys.executable, "-m", "stillroom"]
    target = [str(bench.folder), "--run", str(run)]
    return {
        "audit": [*ours, "audit", *target, f"seed={seed}"],
        "stillroom": [*ours, "train", *target, *overrides],
        "timm train.py": [
            *(sys.executable, str(bench.script), *map(str, places)),
            *("--experiment", str(seed), *flags),
        ],
    }


def timed(command: list[str], record: Path, unfinished: Path) -> float:
    """Run a command unless it was run before; the seconds it took.

    Args:
        command: to run.
        record: file with the seconds; there once the command has succeeded.
        unfinished: what a stopped call may have left, and would shorten this one.
    """
    if not record.exists():
        shutil.rmtree(unfinished, ignore_errors=True)
        print(f"$ {' '.join(command)}", flush=True)
        env = {"GOMP_SPINCOUNT": "2000", **os.environ}  # ours sets it itself; theirs gets it too
        start = time.perf_counter()
        subprocess.run(command, cwd=ROOT, env=env, check=True)
        record.write_text(f"{time.perf_counter() - start:.2f}")
    return float(record.read_text())


def final_model(bench: Bench, side: str, seed: int) -> ImageClassifier:
    """A side's model after the last epoch; of raw and average the lower val loss, as ours keeps."""
    if side == "stillroom":
        return load_checkpoint(bench.out / "stillroom" / str(seed) / "teacher")[0]
    checkpoint = bench.out / "timm" / str(seed) / "last.pth.tar"
    models = read_final_model(checkpoint, bench.recipe, len(bench.dataset.labels))
    if len(models) == 1:
        return models[0]
    spec = PreprocessSpec(bench.recipe.size_px, 1.0)
    validate = validator(
        pixels_of(bench.dataset.root, bench.dataset.of_split("val"), spec),
        bench.dataset.targets("val"),
    )
    return min(models, key=lambda model: validate(model)["val_loss"])


@dataclass(frozen=True)
class Outcome:
    """What one side reached.

    Args:
        right: (seeds, images), whether each test image was answered right.
        by_timm: (seeds,) top-1 by timm's reader and transform.
        wall_s: (seeds,).
    """

    right: NDArray[np.bool_]
    by_timm: NDArray[np.float64]
    wall_s: NDArray[np.float64]


def measure(bench: Bench, weights: str, seeds: int) -> tuple[dict[str, Outcome], float]:
    """Train in turn, evaluate, and return the outcome of each side and our audit's seconds."""
    walls: dict[str, list[float]] = {side: [] for side in SIDES}
    for seed in range(seeds):
        write_start(bench, weights, seed)
        commands = commands_of(bench, seed)
        run = bench.out / "stillroom" / str(seed)
        audit_s = timed(commands["audit"], bench.out / f"audit-{seed}.wall_s", run)
        for side, left in (
            ("stillroom", run / ".teacher.work"),
            ("timm train.py", bench.out / "timm" / str(seed)),
        ):
            record = bench.out / f"{side.split()[0]}-{seed}.wall_s"
            walls[side].append(timed(commands[side], record, left))
    spec = PreprocessSpec(bench.recipe.size_px, 1.0)
    pixels = pixels_of(bench.dataset.root, bench.dataset.of_split("test"), spec)
    targets = bench.dataset.targets("test")
    outcomes = {}
    for side in SIDES:
        models = [final_model(bench, side, seed) for seed in range(seeds)]
        right = np.stack([predict_logits(m, pixels).argmax(1) == targets for m in models])
        by_timm = [
            top1_by_timm(m, bench.folder, bench.class_map, bench.recipe.size_px) for m in models
        ]
        outcomes[side] = Outcome(right, np.array(by_timm), np.array(walls[side]))
    return outcomes, audit_s


def table_of(outcomes: dict[str, Outcome], gap: PairedDifference, audit_s: float) -> list[str]:
    """Markdown: a row a side, then the paired difference and the ratio of the times."""
    lines = [
        "| | test top-1, mean (SD) | by timm's own evaluation | wall s, each seed |",
        "|---|---|---|---|",
    ]
    for side, outcome in outcomes.items():
        each = outcome.right.mean(1)
        spread = f"{100 * each.std(ddof=1):.1f}" if len(each) > 1 else "-"
        walls = ", ".join(f"{wall:.0f}" for wall in outcome.wall_s)
        lines.append(
            f"| {side} | {100 * each.mean():.1f} % ({spread}) | "
            f"{100 * outcome.by_timm.mean():.1f} % | {walls} |"
        )
    ratios = outcomes["stillroom"].wall_s / outcomes["timm train.py"].wall_s
    return [
        *lines,
        "",
        f"stillroom minus timm: {100 * gap.mean:+.1f} points "
        f"({100 * gap.low:+.1f} to {100 * gap.high:+.1f}), McNemar p = {gap.p:.2g}; wall time "
        f"{np.median(ratios):.2f} of timm's ({ratios.min():.2f}-{ratios.max():.2f}), and "
        f"{audit_s:.0f} s once for our audit.",
    ]


def conditions(bench: Bench, seeds: int) -> list[str]:
    """What a reader must know beside the figures; names no folder of this machine."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "timm"))
    counts = [len(bench.dataset.of_split(split)) for split in ("train", "val", "test")]
    commands = commands_of(bench, 0)
    shown = [f"    {readable(bench, commands[side])}" for side in SIDES]
    return [
        f"{bench.recipe.arch}, {bench.recipe.size_px} px, {bench.recipe.epochs} epochs, fp32, "
        f"average of weights {bench.recipe.ema_decay or 'off'}; n = {seeds} seeds x {counts[2]} "
        f"test images, {counts[0]} to train on, {counts[1]} to validate. {device}, "
        f"{os.cpu_count()} CPU cores, Python {platform.python_version()}, {versions}, train.py "
        f"sha256 {sha256_of_file(bench.script)[:12]}.",
        "",
        "Commands of seed 0:",
        "",
        *shown,
    ]


def readable(bench: Bench, command: list[str]) -> str:
    """A command with names in place of this machine's folders."""
    text = " ".join(command)
    names = {
        str(bench.folder): "PHOTOS",
        str(bench.out): "OUT",
        str(bench.script): "TIMM/train.py",
        sys.executable: "python",
    }
    for path, name in names.items():
        text = text.replace(path, name)
    return text


def write_rows(path: Path, outcomes: dict[str, Outcome]) -> None:
    """A CSV row per side and seed."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["side", "seed", "test_top1", "test_top1_by_timm", "wall_s"])
        for side, one in outcomes.items():
            rows = zip(one.right.mean(1), one.by_timm, one.wall_s, strict=True)
            for seed, (top1, by_timm, wall_s) in enumerate(rows):
                writer.writerow([side, seed, f"{top1:.4f}", f"{by_timm:.4f}", f"{wall_s:.1f}"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--timm-train", type=Path, required=True, help="timm's train.py")
    parser.add_argument("--out", type=Path, default=Path("against-timm"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--size", type=int, default=80, help="px")
    parser.add_argument("--arch", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="package", help="as a recipe's teacher.weights")
    parser.add_argument("--ema", type=float, default=0.0, help="decay of both averages; 0: none")
    parser.add_argument("--results", type=Path, help="folder for against_timm.md and .csv")
    args = parser.parse_args()
    recipe = Recipe(
        arch=args.arch,
        size_px=args.size,
        epochs=args.epochs,
        warmup_epochs=int(args.epochs >= 4),  # ours warms up for a quarter of the steps at most
        ema_decay=args.ema,
    )
    bench = open_bench(args.photos, recipe, args.timm_train, args.out)
    outcomes, audit_s = measure(bench, args.weights, args.seeds)
    gap = paired_difference(*(outcomes[side].right for side in SIDES))
    lines = [*conditions(bench, args.seeds), "", *table_of(outcomes, gap, audit_s)]
    print("\n".join(lines))
    if args.results:
        args.results.mkdir(parents=True, exist_ok=True)
        (args.results / "against_timm.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        write_rows(args.results / "against_timm.csv", outcomes)


if __name__ == "__main__":
    main()
