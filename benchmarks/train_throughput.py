"""Images a second: the real loop, the same steps on data in memory, and two scripts of others.

    python -m benchmarks.train_throughput PHOTOS --arch resnet18 --size 128 --out throughput \
        [--timm-train TIMM/train.py] [--torchvision-train VISION/references/classification/train.py]

The loop and the steps in memory run in turn, an epoch each, in one process: the loop as `fit` runs
it (cache of decoded images, loader, augmentation, progress), the steps with batches that the
loop had made before. The others run for as many epochs in processes of their own, before and after;
theirs are the epochs from the second on, their loaders included, without validation. timm's script
gets our weights, split, batch, precision, crops, flips and colours, once in its own memory layout
and once channels-last; torchvision's has crops and flips of its own, no colours and one layout.

    python -m benchmarks.train_throughput PHOTOS --against CHECKOUT --rounds 6

compares with another checkout of this project instead (`git worktree add --detach CHECKOUT COMMIT`)
that runs in its own environment: `stillroom train` of one side after the other, A B B A.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import perf_counter

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
import torch

from benchmarks.against.checkout import open_checkout, this_checkout
from benchmarks.against.pairs import report as report_of_pairs
from benchmarks.against.training import FIGURES, compare_training
from benchmarks.against_timm import Bench, commands_of, open_bench, readable, write_start
from benchmarks.timm_script import Recipe
from benchmarks.torchvision_script import epoch_rates, torchvision_command
from serve.contract.digest import sha256_of_file
from serve.contract.errors import StillroomError
from train.engine.callbacks import OnEpoch
from train.engine.loop import fit
from train.engine.throughput import TIMINGS
from train.engine.trainer import Trainer
from train.fitting import phases_of, prepare_model, views_of
from train.loader.dataloader import feed
from train.loader.sampler import BatchSampler
from train.options import AugmentOptions, TrainOptions

CHANNELS_LAST = "timm train.py --channels-last"
RATE = re.compile(r"100%\)\].*\(([\d.]+)s, +([\d.]+)/s\)")  # the last line of timm's epoch


def options_of(bench: Bench) -> TrainOptions:
    """Ours, as `benchmarks.timm_script.our_overrides` says them."""
    recipe = bench.recipe
    jitter = recipe.jitter
    augment = AugmentOptions(
        min_scale=recipe.min_scale, max_aspect=recipe.max_aspect, flip=recipe.flip,
        brightness=jitter, contrast=jitter, saturation=jitter,
    )  # fmt: skip
    return TrainOptions(
        arch=recipe.arch, weights=str(bench.weights(0)), train_size_px=recipe.size_px,
        epochs=recipe.epochs, batch_size=recipe.batch_size, lr=recipe.lr, balance_limit=0.0,
        weight_decay=recipe.weight_decay, clip_norm=recipe.clip_norm, ema_decay=recipe.ema_decay,
        precision="fp32", workers=recipe.workers, augment=augment,
    )  # fmt: skip


@dataclass(frozen=True)
class Rates:
    """Images a second, an entry an epoch, and the share of time that the loop waited for data."""

    loop: list[float]
    memory: list[float]
    waits: list[float]


def measure_loop(bench: Bench) -> Rates:
    """The real loop and the steps in memory, an epoch each in turn, from the second epoch on."""
    options = options_of(bench)
    dataset = bench.dataset
    views = views_of(dataset, options, 0)
    loop, memory, waits = [], [], []
    in_memory = _MemorySteps(bench, options, views)
    with tempfile.TemporaryDirectory() as folder:
        model = prepare_model(dataset, options, 0)
        (phase,) = phases_of(dataset, model, options, None, 0)

        def after_epoch(record: dict[str, object]) -> None:
            if record["epoch"] != 1:  # the first epoch warms up
                memory.append(in_memory.rate())

        fit(
            phase, model, views, folder=Path(folder), callbacks=[OnEpoch(after_epoch)],
            validate=lambda _: {"val_loss": 1.0, "val_top1": 0.0},
        )  # fmt: skip
        lines = (Path(folder) / f".{phase.name}" / TIMINGS).read_text().splitlines()
    for entry in list(map(json.loads, lines))[1:]:
        loop.append(entry["images_per_s"])
        waits.append(entry["data_wait"])
    return Rates(loop, memory, waits)


class _MemorySteps:
    """The same steps, on one epoch's batches that lie in memory."""

    def __init__(self, bench: Bench, options: TrainOptions, views: object) -> None:
        model = prepare_model(bench.dataset, options, 0)
        (phase,) = phases_of(bench.dataset, model, options, None, 0)
        plan = phase.plan
        order = BatchSampler(
            bench.dataset.targets("train"), plan.batch_size, 1, plan.seed, sizes_px=plan.sizes_px
        )
        self._batches = list(feed(views, order, workers=0))  # type: ignore[arg-type]
        self._training = Trainer(
            phase.name, model, phase.objective, phase.policy, plan, order.per_epoch
        )
        self._folder = tempfile.TemporaryDirectory()
        self._training.resume(Path(self._folder.name) / "memory")

    def rate(self) -> float:
        start, images = perf_counter(), 0
        for batch in self._batches:
            self._training.step(batch)
            images += len(batch.images)
        return images / (perf_counter() - start)


def peers_of(bench: Bench, *, timm: bool, torchvision: Path | None) -> dict[str, list[str]]:
    """Name and command of each script that is compared with."""
    peers = {}
    if timm:
        command = [*commands_of(bench, 0)["timm train.py"], "--log-interval", "1"]
        peers = {"timm train.py": command, CHANNELS_LAST: [*command, "--channels-last"]}
    if torchvision is not None:
        peers["torchvision train.py"] = torchvision_command(
            torchvision, bench.folder, bench.recipe, bench.out / "torchvision"
        )
    return peers


def measure_peer(bench: Bench, name: str, command: list[str]) -> list[float]:
    """Images a second of a script's epochs from the second on."""
    if name.startswith("torchvision"):
        return epoch_rates(command, len(bench.dataset.of_split("train")))[1:]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    rates = [float(rate) for _, rate in RATE.findall(result.stdout + result.stderr)]
    if len(rates) < bench.recipe.epochs:
        raise SystemExit(f"timm printed {len(rates)} rates; its last lines: {result.stderr[-500:]}")
    return rates[1:]


def report(
    bench: Bench, rates: Rates, peers: dict[str, list[str]], theirs: dict[str, list[float]]
) -> list[str]:
    """Markdown of what was measured."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    names = ("torch", "torchvision", "timm")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    ratios = np.array(rates.loop) / np.array(rates.memory)
    lines = [
        f"{bench.recipe.arch}, {bench.recipe.size_px} px, batch {bench.recipe.batch_size}, fp32, "
        f"{bench.recipe.workers} loader worker, {len(bench.dataset.of_split('train'))} images,"
        f" epochs 2 to {bench.recipe.epochs}. {device}, {os.cpu_count()} CPU cores, Python "
        f"{platform.python_version()}, {versions}.",
        "",
        "| | images/s, median (lowest to highest epoch) | ours over theirs |",
        "|---|---|---|",
        _row("stillroom, the real loop", rates.loop, ""),
        _row("the same steps on data in memory", rates.memory, f"{np.median(ratios):.2f}"),
    ]
    for name, figures in theirs.items():
        times = np.median(rates.loop) / np.median(figures)
        lines.append(_row(name, figures, f"{times:.2f}"))
    lines += [
        "",
        f"Loop over memory {np.median(ratios):.2f} ({ratios.min():.2f}-{ratios.max():.2f} of "
        f"{len(ratios)} epochs); it waited for data {np.median(rates.waits):.1%} of its time.",
    ]
    for name, command in peers.items():
        if name == CHANNELS_LAST:
            continue
        script = next(Path(part) for part in command if part.endswith("train.py"))
        digest = sha256_of_file(script)[:12]
        text = readable(bench, command).replace(str(script.parent), "VISION")
        lines += ["", f"{name} (sha256 {digest}):", "", f"    {text}"]
    return lines


def _row(name: str, rates: list[float], times: str) -> str:
    return f"| {name} | {np.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f}) | {times} |"


def compare_checkouts(args: argparse.Namespace, recipe: Recipe) -> list[str]:
    """Measure another checkout beside this one; the report."""
    try:
        ours, theirs = this_checkout(), open_checkout(args.against, args.against_python)
        sides = {"ours": ours, "theirs": theirs}
        pairs, same = compare_training(
            sides, recipe, args.photos, args.out.resolve(), args.rounds
        )  # fmt: skip
    except StillroomError as error:
        raise SystemExit(str(error)) from None
    return [report_of_pairs(ours, theirs, FIGURES, pairs), "", same]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--timm-train", type=Path, help="timm's train.py; without it ours alone")
    parser.add_argument("--torchvision-train", type=Path, help="torchvision's train.py")
    parser.add_argument("--out", type=Path, default=Path("throughput"))
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--size", type=int, default=128, help="px")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--results", type=Path, help="folder for the report")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another commit's folder")
    parser.add_argument(
        "--against-python", type=Path, help="its interpreter [that of its .venv, made if missing]"
    )
    parser.add_argument("--rounds", type=int, default=5, help="trainings of each checkout")
    args = parser.parse_args()
    recipe = Recipe(
        arch=args.arch, size_px=args.size, batch_size=args.batch, epochs=args.epochs,
        workers=args.workers,
    )  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    if args.against:
        lines, name = compare_checkouts(args, recipe), f"train_against-{args.arch}.md"
    else:
        lines, name = compare_scripts(args, recipe), f"train_throughput-{args.arch}.md"
    print("\n".join(lines))
    if args.results:
        (args.results / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def compare_scripts(args: argparse.Namespace, recipe: Recipe) -> list[str]:
    """Measure ours and the scripts of others; the report."""
    bench = open_bench(args.photos, recipe, args.timm_train or Path(sys.executable), args.out)
    write_start(bench, "none", 0)
    peers = peers_of(bench, timm=bool(args.timm_train), torchvision=args.torchvision_train)
    before = {name: measure_peer(bench, name, command) for name, command in peers.items()}
    rates = measure_loop(bench)
    after = {name: measure_peer(bench, name, command) for name, command in peers.items()}
    return report(bench, rates, peers, {name: before[name] + after[name] for name in peers})


if __name__ == "__main__":
    main()
