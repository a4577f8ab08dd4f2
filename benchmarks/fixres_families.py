"""FixRes beside no change and beside only testing larger, for several families with batch norm.

    python -m benchmarks.fixres_families PHOTOS --out fixres-families --seeds 3 --table T.md

Each student is trained on its labels (one from ImageNet weights, the others from scratch: FixRes
does not ask where a student comes from), tested at its training size, merely tested at the larger
one, and fine-tuned by the stage of the pipeline. What is finished in --out is not done again. The
table goes to standard output, and with --table into a file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.setting import audited, cpu_name
from compress.fixres_stage import RESIZED, fine_tune_fixres
from compress.options import FixResOptions
from export.model_latency import compare_latency
from export.options import ExportOptions
from stillroom.ablation.paired import paired_difference
from train.data.dataset import Dataset
from train.evaluation import read_predictions
from train.options import TrainOptions
from train.stage import train_teacher

TRAIN_PX, TEST_PX = 80, 104  # 1.3 times
OPSET = ExportOptions().opset
PRETRAINED = TrainOptions(
    weights="package", train_size_px=TRAIN_PX, epochs=3, head_epochs=1, head_lr=3e-3,
    batch_size=32, lr=6e-4, ema_decay=0.99, precision="fp32",
)  # fmt: skip
SCRATCH = TrainOptions(
    weights="none", train_size_px=TRAIN_PX, epochs=15, batch_size=32, lr=2e-3,
    weight_decay=0.05, ema_decay=0.99, precision="fp32",
)  # fmt: skip
FAMILIES = {
    "tf_efficientnet_lite0": PRETRAINED,
    "mobilenetv3_small_100": SCRATCH,
    "regnetx_002": SCRATCH,
    "resnet10t": SCRATCH,
    "mnasnet_small": SCRATCH,
}
USUAL = ("tf_efficientnet_lite0", "mobilenetv3_small_100", "regnetx_002")
FIXRES = FixResOptions(test_size_px=TEST_PX, epochs=5, batch_size=32)
ARMS = ("no change", "larger size only", "FixRes")


@dataclass(frozen=True)
class Family:
    """What came of one architecture.

    Args:
        arch: timm name.
        right: by arm and split, (seeds, images), whether the answer is right.
        made: fixres.json of each seed.
        latency: median_ms, q1_ms and q3_ms by arm.
    """

    arch: str
    right: dict[tuple[str, str], NDArray[np.bool_]]
    made: list[dict[str, Any]]
    latency: dict[str, dict[str, float]]


def train_family(
    dataset: Dataset, arch: str, options: TrainOptions, out: Path, seed: int
) -> tuple[Path, Path]:
    """Train one student and run FixRes on it, unless that was done.

    Returns:
        Folders of both.
    """
    student, fixres = out / arch / str(seed) / "student", out / arch / str(seed) / "fixres"
    for folder, build in (
        (student, lambda: train_teacher(dataset, options, seed=seed, out=student)),
        (fixres, lambda: fine_tune_fixres(dataset, student, FIXRES, seed=seed, out=fixres)),
    ):
        if (folder / "wall_s").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        build()
        (folder / "wall_s").write_text(f"{time.perf_counter() - start:.1f}")
    return student, fixres


def read_family(arch: str, folders: list[tuple[Path, Path]], out: Path) -> Family:
    """Answers of all seeds, and the latency of the first one's two sizes."""
    right: dict[tuple[str, str], NDArray[np.bool_]] = {}
    for split in ("val", "test"):
        for number, arm in enumerate(ARMS):
            answers = [
                read_predictions(
                    (s / "predictions.csv", f / RESIZED, f / "predictions.csv")[number]
                ).of_split(split)
                for s, f in folders
            ]
            right[arm, split] = np.stack([one.predicted == one.targets for one in answers])
    path = out / arch / "latency.json"
    if not path.exists():
        student, fixres = folders[0]
        compare_latency({"student": student, "fixres": fixres}, opset=OPSET, out=path.parent)
    found = json.loads(path.read_bytes())
    latency = dict(zip(ARMS, (found["student"], found["fixres"], found["fixres"]), strict=True))
    made = [json.loads((fixres / "fixres.json").read_bytes()) for _, fixres in folders]
    return Family(arch, right, made, latency)


def table_of(families: list[Family]) -> list[str]:
    """Markdown rows: three for each family; FixRes against the two others, paired."""
    lines = [
        "| student | arm | val top-1, mean (SD) | test top-1, mean (SD) | FixRes minus this on "
        "val, points (95 %) | on test (95 %) | McNemar p, test | CPU ms (quartiles) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for family in families:
        for arm in ARMS:
            gaps = ["-", "-", "-"]
            if arm != "FixRes":
                val, test = (
                    paired_difference(family.right[arm, split], family.right["FixRes", split])
                    for split in ("val", "test")
                )
                gaps = [
                    *(
                        f"{100 * gap.mean:+.1f} ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"
                        for gap in (val, test)
                    ),
                    f"{test.p:.2g}",
                ]
            time_ms = family.latency[arm]
            cells = [
                family.arch,
                arm,
                *(_mean(family.right[arm, split]) for split in ("val", "test")),
                *gaps,
                f"{time_ms['median_ms']:.2f} ({time_ms['q1_ms']:.2f}-{time_ms['q3_ms']:.2f})",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def proofs_of(families: list[Family]) -> list[str]:
    """A line for each family: what was free, that the rest is proven frozen, what was kept."""
    lines = []
    for family in families:
        proofs = [made["proof"] for made in family.made]
        equal = all(p["frozen_digest_before"] == p["frozen_digest_after"] for p in proofs)
        kept = sum(made["kept"] == "fixres" for made in family.made)
        norms = " and ".join(f"`{name}`" for name in family.made[0]["last_norms"])
        lines.append(
            f"- {family.arch}: classifier and {norms or 'no norm'} free; digests of the "
            f"{proofs[0]['frozen_tensors']} other tensors "
            f"{'equal before and after' if equal else 'DIFFER'} in all {len(proofs)} seeds; "
            f"kept in {kept} of {len(proofs)} (else the student, by val)."
        )
    return lines


def conditions(dataset: Dataset, seeds: int) -> str:
    """What a reader must know beside the figures."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "timm"))
    counts = {split: len(dataset.of_split(split)) for split in ("train", "val", "test")}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_name()
    return (
        f"Trained at {TRAIN_PX} px, larger size {TEST_PX} px, FixRes {FIXRES.epochs} epochs at "
        f"{FIXRES.lr:g}; ImageNet weights for tf_efficientnet_lite0 ({PRETRAINED.head_epochs} + "
        f"{PRETRAINED.epochs} epochs), the others from scratch ({SCRATCH.epochs} epochs). n = "
        f"{seeds} seeds x {counts['val']} val and {counts['test']} test images, trained on "
        f"{counts['train']}; intervals: two-way bootstrap over seeds and images. Latency: one "
        f"image, one CPU thread, ONNX Runtime. {os.cpu_count()} CPU cores ({device}), Python "
        f"{platform.python_version()}, {versions}."
    )


def run(dataset: Dataset, out: Path, seeds: int, archs: list[str], epochs: int) -> list[Family]:
    """All families, seed by seed.

    Args:
        dataset: of all images.
        out: for the trainings.
        seeds: of each.
        archs: of FAMILIES.
        epochs: of the trainings; 0 for the usual.
    """
    folders: dict[str, list[tuple[Path, Path]]] = {arch: [] for arch in archs}
    for seed in range(seeds):
        for arch in archs:
            print(f"== {arch}, seed {seed}", flush=True)
            options = replace(FAMILIES[arch], arch=arch)
            if epochs:
                options = replace(options, epochs=epochs)
            folders[arch].append(train_family(dataset, arch, options, out, seed))
    return [read_family(arch, folders[arch], out) for arch in archs]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--out", type=Path, default=Path("fixres-families"))
    parser.add_argument("--families", choices=FAMILIES, nargs="+", default=list(USUAL))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=0, help="of the trainings; an --out each")
    parser.add_argument("--table", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    dataset = audited(args.photos, args.out, 2048)
    families = run(dataset, args.out, args.seeds, args.families, args.epochs)
    lines = [conditions(dataset, args.seeds), "", *table_of(families), "", *proofs_of(families), ""]
    print("\n".join(lines), flush=True)
    if args.table:
        args.table.write_text("\n".join(lines), encoding="utf-8")


def _mean(right: NDArray[np.bool_]) -> str:
    each = right.mean(1)
    spread = f"{100 * each.std(ddof=1):.1f}" if len(each) > 1 else "-"
    return f"{100 * each.mean():.1f} % ({spread})"


if __name__ == "__main__":
    main()
