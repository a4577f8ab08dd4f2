"""torchvision's reference training script as a peer: its command, and how fast its epochs are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from benchmarks.timm_script import Recipe

__all__ = ["ARCHES", "epoch_rates", "torchvision_command"]

ARCHES = {  # the same network's name there
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "mobilenetv3_small_100": "mobilenet_v3_small",
    "mobilenetv3_large_100": "mobilenet_v3_large",
}
BEGINS = re.compile(r"Start training|Test:.*Acc@1 [\d.]+ Acc@5")  # what precedes an epoch
ENDS = re.compile(r"Epoch: \[(\d+)\] Total time")


def torchvision_command(script: Path, folder: Path, recipe: Recipe, out: Path) -> list[str]:
    """The command of references/classification/train.py; its crops and flips are its own.

    Args:
        script: train.py, beside the files that it imports.
        folder: with train and val.
        recipe: of both sides; its optimiser, rate, batch, size, epochs and workers are told.
        out: for its checkpoints.

    Raises:
        KeyError: torchvision has no such network.
    """
    size = recipe.size_px
    flags = {
        "data-path": folder,
        "model": ARCHES[recipe.arch],
        "device": "cpu",
        "batch-size": recipe.batch_size,
        "epochs": recipe.epochs,
        "workers": recipe.workers,
        "opt": "adamw",
        "lr": recipe.lr,
        "wd": recipe.weight_decay,
        "clip-grad-norm": recipe.clip_norm,
        "lr-scheduler": "cosineannealinglr",
        "interpolation": "bicubic",
        "train-crop-size": size,
        "val-crop-size": size,
        "val-resize-size": size,
        "print-freq": 1000,
        "output-dir": out,
    }
    named = [part for key, value in flags.items() for part in (f"--{key}", str(value))]
    return [sys.executable, "-u", str(script), *named]


def epoch_rates(command: list[str], images: int) -> list[float]:
    """Images a second of each epoch's steps, its loader's start included, from when lines appear.

    Args:
        command: of the script.
        images: of an epoch.

    Raises:
        SystemExit: it failed; says its last lines.
    """
    rates, begin_s, last = [], 0.0, ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if BEGINS.search(line):
                begin_s = perf_counter()
            elif ENDS.search(line):
                rates.append(images / (perf_counter() - begin_s))
            last = (last + line)[-800:]
    if process.returncode:
        raise SystemExit(f"torchvision's script failed: {last}")
    return rates
