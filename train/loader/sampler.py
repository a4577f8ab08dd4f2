"""Which image comes when, and how large: a function of (seed, epoch)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from train.engine.seed import generator

__all__ = [
    "BatchSampler",
    "ViewKey",
    "draws_per_class",
    "draws_per_image",
    "open_shards_of",
    "sizes_px",
    "some_batches",
]

FEWEST_LANES, MOST_LANES = 4, 16
STEP_PX = 16  # sides of multi-scale views are multiples of it, as most networks' strides divide it


class ViewKey(NamedTuple):
    """One view of a training image.

    Args:
        epoch: from 0.
        position: in the list of images.
        repeat: how often it was drawn before in this epoch.
        size_px: side of the view.
    """

    epoch: int
    position: int
    repeat: int = 0
    size_px: int = 0


@dataclass(frozen=True)
class BatchSampler:
    """Batches of keys from `first_step` to the end of the last epoch; the remainder is dropped.

    Args:
        targets: (N,) class number of each image; those that are unlabelled come once an
            epoch, and each batch has its even share of them.
        batch_size: images a batch.
        epochs: of the training.
        first_step: batches before it are left out.
        seed: of the order.
        balance_limit: see `draws_per_class`; 0 draws every image once.
        sizes_px: sides to draw from, one a batch.
        share: (rank, world): of each batch every world-th key from `rank` on; (0, 1) is all.
        shards: (N,) number of the shard that each image lies in. With them an epoch reads a
            few shards at a time, see `open_shards_of`, and a rank's share of a batch is one piece
            of it.
    """

    targets: NDArray[np.int64]
    batch_size: int
    epochs: int
    seed: int
    first_step: int = 0
    balance_limit: float = 0.0
    sizes_px: tuple[int, ...] = (0,)
    share: tuple[int, int] = (0, 1)
    shards: NDArray[np.int64] | None = None

    @property
    def per_epoch(self) -> int:
        """Batches of an epoch."""
        labelled = draws_per_class(self.targets, self.balance_limit).sum()
        return int(labelled + (self.targets < 0).sum()) // self.batch_size

    def starting_at(self, step: int) -> BatchSampler:
        """The same order without its first `step` batches."""
        return replace(self, first_step=step)

    def of_rank(self, rank: int, world: int) -> BatchSampler:
        """One rank's share of every batch; the shares of all ranks are the very same batches."""
        return replace(self, share=(rank, world))

    def __iter__(self) -> Iterator[list[ViewKey]]:
        per_epoch = self.per_epoch
        if not per_epoch:
            return
        first = self.first_step // per_epoch
        for epoch in range(first, self.epochs):
            begin = self.first_step % per_epoch if epoch == first else 0
            keys = self._keys_of(epoch)
            for step in range(begin, per_epoch):
                size_px = self._size_px(epoch, step)
                chosen = keys[step * self.batch_size : (step + 1) * self.batch_size]
                mine = self._share_of(chosen)
                yield [ViewKey(epoch, position, repeat, size_px) for position, repeat in mine]

    def _share_of(self, batch: list[tuple[int, int]]) -> list[tuple[int, int]]:
        rank, world = self.share
        if self.shards is None:
            return batch[rank::world]
        return batch[rank * len(batch) // world : (rank + 1) * len(batch) // world]

    def _keys_of(self, epoch: int) -> list[tuple[int, int]]:
        draws = draws_per_image(self.targets, self.balance_limit, seed=self.seed, epoch=epoch)
        drawn = [(position, n) for position, times in enumerate(draws) for n in range(times)]
        random = generator(self.seed, "order", epoch)
        order = random.permutation(len(drawn))
        positions = [position for position, _ in drawn]
        unlabelled = self.targets[positions] < 0
        if self.shards is not None:
            shards = self.shards[positions]  # unlabelled ones lie elsewhere: spread over all
            shards[unlabelled] = random.integers(int(shards.max()) + 1, size=unlabelled.sum())
            order = self._in_lanes(order, shards, epoch)
        elif unlabelled.any():
            order = order[_spread(unlabelled[order])]
            for start in range(0, len(order), self.batch_size):  # else a rank may get one kind only
                random.shuffle(order[start : start + self.batch_size])
        return [drawn[i] for i in order]

    def _in_lanes(
        self, order: NDArray[np.int64], shards: NDArray[np.int64], epoch: int
    ) -> NDArray[np.int64]:
        """Shards in a random order, each in the given order, cut into lanes that go side by side.

        Each batch takes equally many draws of every lane, and has them lane by lane.

        Args:
            order: (D,) of the draws.
            shards: (D,) of each draw.
            epoch: of the shards' order.
        """
        places = generator(self.seed, "shards", epoch).permutation(int(shards.max()) + 1)
        by_shard = order[np.argsort(places[shards[order]], kind="stable")]
        lanes, batches = open_shards_of(self.batch_size), len(order) // self.batch_size
        cut = by_shard[: batches * self.batch_size].reshape(lanes, batches, -1)
        return cut.transpose(1, 0, 2).ravel()

    def _size_px(self, epoch: int, step: int) -> int:
        if len(self.sizes_px) == 1:
            return self.sizes_px[0]
        return int(generator(self.seed, "size", epoch, step).choice(self.sizes_px))


def draws_per_class(targets: NDArray[np.int64], limit: float) -> NDArray[np.int64]:
    """How many images of each class an epoch draws.

    Weak classes are drawn more often until the largest is less than `limit` times any other; no
    class is drawn less often than it has images.

    Args:
        targets: (N,) class numbers; unlabelled images count for none.
        limit: more than 1; 0 leaves the classes as they are.

    Returns:
        (K,) draws; 0 for a class without images.
    """
    counts = np.bincount(targets[targets >= 0])
    if not limit:
        return counts.astype(np.int64)
    enough = math.floor(counts.max() / limit) + 1
    return np.where(counts > 0, np.maximum(counts, min(enough, counts.max())), 0).astype(np.int64)


def draws_per_image(
    targets: NDArray[np.int64], limit: float, *, seed: int, epoch: int
) -> NDArray[np.int64]:
    """How often an epoch draws each image: equally often within a class, give or take one.

    Returns:
        (N,) draws; which images get one more changes from epoch to epoch.
    """
    draws = draws_per_class(targets, limit)
    counts = np.bincount(targets[targets >= 0])
    times = np.ones(len(targets), dtype=np.int64)
    for label in np.flatnonzero(draws > counts):
        members = np.flatnonzero(targets == label)
        times[members], more = divmod(int(draws[label]), len(members))
        lucky = generator(seed, "draws", epoch, int(label)).permutation(members)[:more]
        times[lucky] += 1
    return times


def _spread(chosen: NDArray[np.bool_]) -> NDArray[np.intp]:
    """An order of (N,) in which each stretch has its even share of the chosen."""
    places = np.empty(len(chosen))
    for kind in (chosen, ~chosen):
        places[kind] = (np.arange(kind.sum()) + 0.5) / max(1, kind.sum())
    return np.argsort(places, kind="stable")


def open_shards_of(batch_size: int) -> int:
    """How many places of its shards an epoch reads at a time: a divisor of the batch, 4 to 16.

    Of those the one with most divisors, so that a lane belongs to one rank for most numbers of
    ranks. It does not depend on their number, and so neither do the batches.
    """
    divisors = [number for number in range(1, batch_size + 1) if batch_size % number == 0]
    fitting = [number for number in divisors if FEWEST_LANES <= number <= MOST_LANES]
    if not fitting:  # a prime, for example: rather many lanes than batches of one shard alone
        return next((number for number in divisors if number > MOST_LANES), batch_size)
    return max(fitting, key=lambda n: (sum(n % d == 0 for d in range(1, n + 1)), n))


def sizes_px(size_px: int, spread: float) -> tuple[int, ...]:
    """Sides of multi-scale training: size_px, and the multiples of 16 around it up to `spread`."""
    low, high = math.ceil(size_px * (1 - spread)), math.floor(size_px * (1 + spread))
    first = -(-low // STEP_PX) * STEP_PX
    return tuple(sorted({size_px, *range(max(STEP_PX, first), high + 1, STEP_PX)}))


def some_batches(
    count: int, images: int, *, batch_size: int, epoch: int, seed: int, size_px: int
) -> list[list[ViewKey]]:
    """Batches of up to `images` images outside the training's own order.

    Args:
        count: images there are.
        images: images wanted.
        batch_size: of a batch; the last may be smaller.
        epoch: of the keys; one that the training does not reach gives views it never saw.
        seed: of the choice.
        size_px: side of the views.
    """
    chosen = generator(seed, "some", epoch).permutation(count)[:images]
    keys = [ViewKey(epoch, int(position), 0, size_px) for position in chosen]
    return [keys[i : i + batch_size] for i in range(0, len(keys), batch_size)]
