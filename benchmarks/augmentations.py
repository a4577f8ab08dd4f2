"""What each augmentation costs: views a second on one core.

    python -m benchmarks.augmentations PHOTOS --size 128 --rounds 9

Every switch is measured in turn, round by round, at probability 1, from decoded images in
memory. CPU time, so other processes of a shared machine disturb little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from train.augment.random_view import random_view
from train.data.audit.dataset_audit import read_images
from train.data.folder import find_images
from train.data.images import LabelledImage
from train.engine.seed import generator
from train.loader.views import ImageStore
from train.options import AugmentOptions

SWITCHES: dict[str, dict[str, Any]] = {
    "default": {},
    "no colour": {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0},
    "box_jitter 0.2": {"box_jitter": 0.2},
    "resample bilinear": {"resample": "bilinear"},
    "resample mixed": {"resample": "mixed"},
    "rotate_deg 15": {"rotate_deg": 15.0},
    "policy randaugment": {"policy": "randaugment"},
    "policy trivialaugment": {"policy": "trivialaugment"},
    "blur": {"blur": 1.0},
    "noise": {"noise": 1.0},
    "jpeg": {"jpeg": 1.0},
    "erase": {"erase": 1.0},
}


def sample(root: Path, count: int) -> list[LabelledImage]:
    """Every so-many-th image of a folder."""
    found = find_images(root)
    return read_images(root, found[:: max(1, len(found) // count)][:count])[0]


def measure(root: Path, size_px: int, rounds: int, count: int) -> dict[str, list[float]]:
    """Views a second of each switch, one figure a round."""
    photos = sample(root, count)
    store = ImageStore(root, photos, keep_px=2 * size_px, cache_mib=4096)
    rates: dict[str, list[float]] = {name: [] for name in SWITCHES}
    for number in range(rounds):
        for name, changes in SWITCHES.items():
            options = AugmentOptions(**changes)
            start = time.process_time()
            for position in range(len(photos)):
                rng = generator(number, "view", position)
                random_view(store[position], size_px, options, rng)
            rates[name].append(len(photos) / (time.process_time() - start))
    return rates


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--size", type=int, default=128, help="px")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=200, help="images")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rates = measure(args.photos, args.size, args.rounds, args.count)
    print("| switch | views/s, median (min-max) | ms more than the default |\n|---|---|---|")
    for name, values in rates.items():
        more = [1e3 / a - 1e3 / b for a, b in zip(values, rates["default"], strict=True)]
        print(
            f"| {name} | {statistics.median(values):.0f} ({min(values):.0f}-{max(values):.0f}) "
            f"| {statistics.median(more):+.2f} |"
        )


if __name__ == "__main__":
    main()
