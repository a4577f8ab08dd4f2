"""`stillroom train` of two checkouts on the same images, seed and recipe."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.against.checkout import Checkout
from benchmarks.against.pairs import Figure, Pair, run_pairs
from benchmarks.timm_script import Recipe, our_overrides
from serve.contract.digest import sha256_of_file

__all__ = ["FIGURES", "compare_training"]

FIGURES = (
    Figure("images_per_s", "images/s, epochs from the second on", 0, more_is_better=True),
    Figure("cpu_s", "CPU s of the command", 1),
    Figure("wall_s", "s of the command", 1),
    Figure("peak_mib", "peak memory, MiB", 0),
)
AUDITED = "audit"  # before the rounds, so that no round pays for reading the images first


def compare_training(
    sides: dict[str, Checkout], recipe: Recipe, photos: Path, out: Path, rounds: int
) -> tuple[list[Pair], str]:
    """Train in both checkouts, from random weights of the same seed.

    Args:
        sides: by `ours` and `theirs`.
        recipe: of both; at least 2 epochs.
        photos: a folder for each class.
        out: folder for runs and the log.
        rounds: trainings of each side.

    Returns:
        The pairs, and a sentence that says whether both sides trained the same weights.
    """
    digests: dict[str, str] = {}
    photos = photos.resolve()
    for side, checkout in sides.items():
        checkout.run("-m", "stillroom", "audit", str(photos), "--run", str(out / AUDITED / side))

    def measure_one(subject: str, side: str, number: int) -> dict[str, float]:
        run = out / f"{side}-{number}"
        shutil.rmtree(run, ignore_errors=True)  # of a call that was stopped
        found = measure_training(sides[side], recipe, photos, run)
        digests[side] = sha256_of_file(run / "teacher" / "checkpoint.safetensors")
        shutil.rmtree(run)
        return found

    subject = f"{recipe.arch} @{recipe.size_px}, batch {recipe.batch_size}"
    pairs = run_pairs([subject], rounds, out / "pairs.jsonl", measure_one)
    return pairs, same_weights(digests)


def measure_training(
    checkout: Checkout, recipe: Recipe, photos: Path, run: Path
) -> dict[str, float]:
    """Run the command once, as a whole process; a value for each of FIGURES."""
    words = our_overrides(recipe, Path("none"), 0)
    cpu_s, start = _children_s(), perf_counter()
    checkout.run("-m", "stillroom", "train", str(photos), "--run", str(run), *words)
    wall_s, cpu_s = perf_counter() - start, _children_s() - cpu_s
    text = (run / "teacher" / "timings.jsonl").read_text(encoding="utf-8")
    return {**figures_of(text), "cpu_s": cpu_s, "wall_s": wall_s}


def figures_of(timings: str) -> dict[str, float]:
    """Of timings.jsonl: rate from the second epoch on, because the first warms up, and memory."""
    epochs = [json.loads(line) for line in timings.splitlines()]
    return {
        "images_per_s": median(epoch["images_per_s"] for epoch in epochs[1:]),
        "peak_mib": max(epoch["peak_rss_mib"] for epoch in epochs),
    }


def same_weights(digests: dict[str, str]) -> str:
    """Whether both sides wrote the same checkpoint, in a sentence; empty where none was written."""
    if not digests:
        return ""
    same = len(set(digests.values())) == 1
    return f"Both checkpoints are {'equal, byte for byte' if same else 'NOT equal'}."


def _children_s() -> float:
    """CPU time of the processes that were waited for, s."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
