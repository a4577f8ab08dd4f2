from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from export.parity.batching import batch_invariance, mixed_batch_logits


class Sums:
    """Answers with the sum of the pixels; may be wrong by the size of the batch."""

    backend = reason = "sums"

    def __init__(self, max_batch_size: int, fault: float = 0.0) -> None:
        self.max_batch_size = max_batch_size
        self.sizes: list[int] = []
        self._fault = fault

    def infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert 1 <= len(images) <= self.max_batch_size
        self.sizes.append(len(images))
        sums = images.reshape(len(images), -1).sum(1, dtype=np.float32)
        return np.stack([sums, -sums], 1) + np.float32(self._fault) * (len(images) - 1)


PIXELS = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("largest", [1, 2, 8, 16])
def test_answers_come_back_in_the_order_of_the_images(largest: int) -> None:
    runner = Sums(largest)
    logits = mixed_batch_logits(runner, PIXELS)
    assert (logits[:, 0] == PIXELS.reshape(50, -1).sum(1)).all()
    assert sum(runner.sizes) == 50
    assert set(runner.sizes[:4]) == {min(size, largest) for size in (1, 3, 8, largest)}


def test_images_are_mixed_by_the_seed() -> None:
    class Order(Sums):
        def infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            seen.extend(images[:, 0, 0, 0].tolist())
            return super().infer(images)

    seen: list[int] = []
    for seed in (0, 0, 1):
        mixed_batch_logits(Order(8), PIXELS, seed=seed)
    assert seen[:50] == seen[50:100] != seen[100:]
    assert seen[:50] != PIXELS[:, 0, 0, 0].tolist()


def test_a_batch_that_changes_answers_is_measured() -> None:
    sound, faulty = Sums(8), Sums(8, fault=0.5)
    assert batch_invariance(sound, PIXELS, mixed_batch_logits(sound, PIXELS)) == 0
    assert batch_invariance(faulty, PIXELS, mixed_batch_logits(faulty, PIXELS)) == 3.5


def test_answers_that_are_not_finite_have_no_difference() -> None:
    logits = mixed_batch_logits(Sums(8), PIXELS)
    logits[0, 0] = np.nan
    assert batch_invariance(Sums(8), PIXELS, logits) == -1.0
