"""Which training methods help: every arm against a reference, on the same seeds and images.

    python -m benchmarks.ablation PHOTOS --out ablation --arms methods --seeds 3

Arms are trained into --out/<arm>/<seed>/; what is finished there is not trained again. The table
goes to standard output, and with --table as Markdown into a file.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from benchmarks.setting import audited
from serve.contract.preprocess import PreprocessSpec
from stillroom.ablation.paired import paired_difference
from train.data.dataset import Dataset
from train.engine.seed import generator
from train.engine.weight_averaging import measure_norms, norms_that_move
from train.evaluation import predict_logits, read_predictions
from train.fitting import prepare_model, views_of
from train.loader.sampler import some_batches
from train.loader.views import build_loader, pixels_of
from train.options import LossOptions, TrainOptions
from train.stage import train_teacher

BASE = TrainOptions(
    arch="tf_efficientnet_lite0",
    weights="package",
    train_size_px=80,
    epochs=6,
    head_epochs=1,
    head_lr=3e-3,
    batch_size=32,
    lr=6e-4,
    weight_decay=0.02,
    ema_decay=0.99,
    precision="fp32",
    workers=1,
)
SHARES = (1.0, 0.3, 0.1, 0.1, 0.05)  # of each class's training images, imbalanced version
PER_CLASS = 120  # training images of the other versions: few, where methods matter most
BN_IMAGES = 512


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Args:
        changes: of the base options.
        imbalanced: whether classes are thinned out by SHARES first.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    imbalanced: bool = False


GROUPS: dict[str, dict[str, Arm]] = {
    "methods": {
        "two-phase (reference)": Arm(),
        "all layers at once": Arm({"head_epochs": 0, "epochs": 7}),
        "classifier alone": Arm({"head_epochs": 7, "epochs": 0}),
        "mixup 0.2": Arm({"augment.mixup": 0.2}),
        "weight decay 0": Arm({"weight_decay": 0.0}),
        "weight decay 1e-5": Arm({"weight_decay": 1e-5}),
        "weight decay 1e-3": Arm({"weight_decay": 1e-3}),
    },
    "averages": {
        "cosine to the floor": Arm({"swa_epochs": 3}),
        "rate held at 3e-4": Arm({"swa_epochs": 3, "swa_lr": 3e-4}),
    },
    "imbalance": {
        "imbalanced (reference)": Arm({"balance_limit": 0.0}, imbalanced=True),
        "resampled to max/min < 5": Arm({"balance_limit": 5.0}, imbalanced=True),
        "resampled to max/min < 2": Arm({"balance_limit": 2.0}, imbalanced=True),
        "class weights, inverse": Arm(
            {"balance_limit": 0.0, "loss": LossOptions(class_weights="inverse")}, imbalanced=True
        ),
    },
    "heads": {
        "linear (reference)": Arm(),
        "bilinear 2048": Arm({"head": "bilinear", "bilinear_dim": 2048}),
    },
}


def options_of(arm: Arm, base: TrainOptions = BASE) -> TrainOptions:
    """The base options with an arm's changes."""
    inner = {k.split(".")[1]: v for k, v in arm.changes.items() if k.startswith("augment.")}
    outer = {k: v for k, v in arm.changes.items() if not k.startswith("augment.")}
    return replace(base, **outer, augment=replace(base.augment, **inner))


def thinned(dataset: Dataset, per_class: Callable[[int, int], int]) -> Dataset:
    """The dataset with fewer training images; val and test stay as they are.

    Args:
        dataset: whole.
        per_class: images to keep of class number k, of which there are n.
    """
    kept = [photo for photo in dataset.photos if photo.split != "train"]
    for number, label in enumerate(dataset.labels):
        mine = [photo for photo in dataset.of_split("train") if photo.label == label]
        count = per_class(number, len(mine))
        chosen = generator(0, "thinned", label).permutation(len(mine))[:count]
        kept += [mine[i] for i in sorted(chosen)]
    return replace(dataset, photos=sorted(kept, key=lambda photo: photo.path))


def data_of(arm: Arm, dataset: Dataset) -> Dataset:
    """The images that an arm is trained on."""
    if arm.imbalanced:
        return thinned(dataset, lambda k, n: max(2, round(n * SHARES[k % len(SHARES)])))
    return thinned(dataset, lambda _, n: min(n, PER_CLASS))


def train_arm(dataset: Dataset, options: TrainOptions, folder: Path, seed: int) -> None:
    """Train one arm with one seed, unless that was done."""
    if (folder / "wall_s").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    train_teacher(dataset, options, seed=seed, out=folder)
    (folder / "wall_s").write_text(f"{time.perf_counter() - start:.1f}")


def right_answers(folder: Path) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """(N,) whether each test image was answered right, and (N,) its class."""
    test = read_predictions(folder / "predictions.csv").of_split("test")
    return test.predicted == test.targets, test.targets


def right_by_candidate(
    dataset: Dataset, options: TrainOptions, folder: Path, seed: int
) -> dict[str, NDArray[np.bool_]]:
    """As `right_answers`, for the last weights and each average of one finished training."""
    (saved,) = (folder / ".all").glob(".state-*")
    tensors = load_file(saved / "state.safetensors")
    spec = PreprocessSpec(options.eval_size_px, options.crop_pct)
    pixels = pixels_of(dataset.root, dataset.of_split("test"), spec)
    targets, views = dataset.targets("test"), views_of(dataset, options, seed)
    keys = some_batches(
        len(views), BN_IMAGES, batch_size=32, epoch=options.epochs, seed=seed,
        size_px=options.train_size_px,
    )  # fmt: skip
    right = {}
    for name, prefix in (("raw", "model."), ("ema", "ema."), ("swa", "swa.module.")):
        model = prepare_model(dataset, options, seed)
        model.load_state_dict(
            {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        )
        norms = norms_that_move(model.train())
        right[name] = predict_logits(model.eval(), pixels).argmax(1) == targets
        measure_norms(model, norms, lambda: (x for x, _ in build_loader(views, keys, workers=0)))
        right[f"{name}+bn"] = predict_logits(model, pixels).argmax(1) == targets
    return right


def table_of(
    right: dict[str, NDArray[np.bool_]], targets: NDArray[np.int64], wall_s: dict[str, list[float]]
) -> list[str]:
    """Markdown rows: each arm against the first.

    Args:
        right: (seeds, images) by arm.
        targets: (images,) classes.
        wall_s: seconds of each training by arm.
    """
    names = list(right)
    lines = [
        "| arm | test top-1, mean (SD) | mean recall of classes | against the first, points "
        "(95 % interval) | McNemar p | wall s |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        hits = right[name]
        each = hits.mean(1)
        recall = np.mean([hits[:, targets == k].mean() for k in np.unique(targets)])
        spread = each.std(ddof=1) if len(each) > 1 else float("nan")
        against = "-"
        p = "-"
        if name != names[0]:
            gap = paired_difference(right[names[0]], hits)
            against = f"{100 * gap.mean:+.1f} ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"
            p = f"{gap.p:.2g}"
        seconds = f"{np.median(wall_s[name]):.0f}" if wall_s.get(name) else "-"
        lines.append(
            f"| {name} | {100 * each.mean():.1f} % ({100 * spread:.1f}) | {100 * recall:.1f} % "
            f"| {against} | {p} | {seconds} |"
        )
    return lines


def conditions(options: TrainOptions, dataset: Dataset, seeds: int, train_photos: int) -> str:
    """What a reader must know beside the figures."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "timm"))
    return (
        f"{options.arch}, weights {options.weights}, {options.train_size_px} px, "
        f"{options.head_epochs} + {options.epochs} epochs, n = {seeds} seeds x "
        f"{len(dataset.of_split('test'))} test images, trained on {train_photos}; "
        f" {os.cpu_count()} CPU cores ({device or platform.machine()}), Python "
        f"{platform.python_version()}, {versions}."
    )


def run_group(
    group: str, dataset: Dataset, out: Path, seeds: int, base: TrainOptions = BASE
) -> tuple[list[str], NDArray[np.int64]]:
    """Train all arms of a group, seed by seed, and return the table's lines."""
    arms = GROUPS[group]
    for seed in range(seeds):
        for name, arm in arms.items():
            data = data_of(arm, dataset)
            print(f"== {group}: {name}, seed {seed}", flush=True)
            train_arm(data, options_of(arm, base), _folder(out, group, name, seed), seed)
    targets = dataset.targets("test")
    right: dict[str, NDArray[np.bool_]] = {}
    wall_s: dict[str, list[float]] = {}
    for name, arm in arms.items():
        folders = [_folder(out, group, name, seed) for seed in range(seeds)]
        if group == "averages":
            parts = [
                right_by_candidate(data_of(arm, dataset), options_of(arm, base), folder, seed)
                for seed, folder in enumerate(folders)
            ]
            for key in parts[0]:
                right[f"{key}, {name}"] = np.stack([part[key] for part in parts])
            continue
        right[name] = np.stack([right_answers(folder)[0] for folder in folders])
        wall_s[name] = [float((folder / "wall_s").read_text()) for folder in folders]
    return table_of(right, targets, wall_s), targets


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--out", type=Path, default=Path("ablation"))
    parser.add_argument("--arms", choices=GROUPS, nargs="+", default=["methods"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--epochs", type=int, default=BASE.epochs, help="of all layers; an --out each"
    )
    parser.add_argument("--table", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    dataset = audited(args.photos, args.out, 2048)
    base = replace(BASE, epochs=args.epochs)
    lines: list[str] = []
    for group in args.arms:
        rows, _ = run_group(group, dataset, args.out, args.seeds, base)
        fitted = len(data_of(next(iter(GROUPS[group].values())), dataset).of_split("train"))
        lines += [f"## {group}", "", conditions(base, dataset, args.seeds, fitted), "", *rows, ""]
        print("\n".join(lines), flush=True)
    if args.table:
        args.table.write_text("\n".join(lines), encoding="utf-8")


def _folder(out: Path, group: str, name: str, seed: int) -> Path:
    letters = "".join(c if c.isalnum() else "-" for c in name)
    return out / group / letters / str(seed)


if __name__ == "__main__":
    main()
