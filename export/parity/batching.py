"""A runner's predictions on many images, in batches of mixed sizes, as a busy server makes them."""

from __future__ import annotations

from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from serve.runners.base import Runner
from train.engine.seed import generator

__all__ = ["batch_invariance", "mixed_batch_logits"]


def mixed_batch_logits(
    runner: Runner, pixels: NDArray[np.uint8], *, seed: int = 0
) -> NDArray[np.float32]:
    """Answer all images in a random order, in batches of 1, 3, 8 and the maximum in turn.

    Args:
        runner: the very one that serves.
        pixels: (N, size_px, size_px, 3) uint8.
        seed: of the order.

    Returns:
        (N, K) float32 logits in the order of `pixels`.
    """
    order = generator(seed, "batches").permutation(len(pixels))
    sizes = cycle(sorted({min(size, runner.max_batch_size) for size in (1, 3, 8, 10**9)}))
    parts, begin = [], 0
    while begin < len(order):
        chosen = order[begin : begin + next(sizes)]
        parts.append(runner.infer(pixels[chosen]))
        begin += len(chosen)
    logits = np.concatenate(parts)
    result = np.empty_like(logits)
    result[order] = logits
    return result


def batch_invariance(
    runner: Runner, pixels: NDArray[np.uint8], logits: NDArray[np.float32], *, images: int = 32
) -> float:
    """Largest difference between an image's logits alone and in a mixed batch; -1 beside NaN."""
    alone = np.concatenate([runner.infer(pixels[i : i + 1]) for i in range(len(pixels[:images]))])
    together = logits[: len(alone)]
    if not (np.isfinite(alone).all() and np.isfinite(together).all()):
        return -1.0
    return float(np.abs(alone - together).max())
