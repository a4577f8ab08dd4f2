"""The same picture in several files: found by perceptual hash, confirmed on small pictures.

A copy that was resized, compressed again or made a little brighter keeps its 64-bit hash but for a
few bits; so do some pictures that merely look alike. Those are told apart by correlation: of the
grey levels (shapes), and of the colours at a coarser scale, where JPEG has not smeared them. What
is left is looked at more closely (`train.data.audit.close_look`), for on plain backgrounds the
outline is nearly all that correlates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from PIL import Image

from train.data.audit.close_look import CLOSE_PX, LUMA, CloseLook, same_picture

__all__ = [
    "SIDE_PX",
    "NearPair",
    "Thumbnails",
    "groups_of",
    "is_flat",
    "near_matches",
    "near_pairs",
    "perceptual_hashes",
    "similarity",
    "spanning_pairs",
    "thumbnail_of",
]

SIDE_PX = 16  # of a thumbnail
BLOCK = 256  # rows compared at once: 200 MiB where there are 100 000
MAX_DISTANCE = 16  # of 64 bits; a candidate only
CLOSE_DISTANCE = 20  # the same where a closer look decides: plain backgrounds give weak bits
# On 3 667 flowers copies stay above 0.96 and the most alike of different shots reach 0.93.
MIN_SIMILARITY = 0.96
CLIPPED = (6, 240)  # grey levels beyond are left out: a brighter copy has lost them
MIN_UNCLIPPED = 0.3  # share of the thumbnail; with less, everything is compared
FLAT_LEVELS = 2.0  # standard deviation of a thumbnail that shows nothing, of 255

Thumbnails = NDArray[np.uint8]  # (N, SIDE_PX, SIDE_PX, 3) RGB


@dataclass(frozen=True, order=True)
class NearPair:
    """Two pictures that a person would call the same.

    Args:
        distance: bits of 64 in which their hashes differ.
        first: index of the one.
        second: index of the other, larger.
        similarity: correlation of grey levels or of colours, the lower one; at most 1.
    """

    distance: int
    first: int
    second: int
    similarity: float


def thumbnail_of(image: Image.Image) -> NDArray[np.uint8]:
    """The whole of an upright RGB image as (SIDE_PX, SIDE_PX, 3): each pixel a mean."""
    return np.asarray(image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))


def is_flat(thumbnails: Thumbnails) -> NDArray[np.bool_]:
    """(N,): whether a picture shows nothing, such as a black frame."""
    spread = thumbnails.astype(np.float32).std(axis=(1, 2)).max(axis=1, initial=0)
    return np.asarray(spread < FLAT_LEVELS)


def perceptual_hashes(thumbnails: Thumbnails) -> NDArray[np.uint64]:
    """(N,) hashes of 64 bits: signs of the lowest frequencies about their median.

    Source: "pHash" as in Zauner 2010, Implementation and Benchmarking of Perceptual Image Hash
    Functions, section 3.2.
    """
    grey = thumbnails.astype(np.float32) @ LUMA
    low = scipy.fft.dctn(grey, axes=(1, 2))[:, :8, :8].reshape(-1, 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.ascontiguousarray(np.packbits(bits, axis=1)).view(np.uint64)[:, 0]


def similarity(first: Thumbnails, second: Thumbnails) -> NDArray[np.float32]:
    """(N,): correlation of grey levels or of colours, the lower one; gain and offset are free."""
    a, b = first.astype(np.float32), second.astype(np.float32)
    seen = _unclipped(a, b)
    whole = np.asarray(seen.all(-1, keepdims=True))
    grey = _correlation((a @ LUMA)[..., None], (b @ LUMA)[..., None], whole)
    a, b = _halved(a), _halved(b)
    return np.minimum(grey, _correlation(a, b, _unclipped(a, b)))


def near_pairs(thumbnails: Thumbnails, close: CloseLook | None = None) -> list[NearPair]:
    """All pairs of near-duplicates, the nearest first; flat pictures have none.

    Memory is that of BLOCK x N hashes; time grows with N squared: 10 000 take about a second.

    Args:
        thumbnails: of all pictures.
        close: opens pictures again, by index; None judges by the thumbnails alone.
    """
    kept = np.flatnonzero(~is_flat(thumbnails))
    hashes = perceptual_hashes(thumbnails[kept])
    pairs: list[NearPair] = []
    for start in range(0, len(kept), BLOCK):
        differing = np.bitwise_count(hashes[start : start + BLOCK, None] ^ hashes[None, start:])
        rows, columns = np.nonzero(np.triu(differing <= CLOSE_DISTANCE, k=1))
        pairs += _confirmed(
            thumbnails, kept[rows + start], kept[columns + start], differing[rows, columns]
        )
    return sorted(_looked_at(thumbnails, pairs, close))


def near_matches(
    thumbnails: Thumbnails, others: Thumbnails, close: CloseLook | None = None
) -> NDArray[np.intp]:
    """(N,): of each picture the index of a near-duplicate among M others, or -1.

    Of several the nearest. Memory is that of BLOCK x M hashes. `close` is as in `near_pairs`; the
    others come after the N pictures.
    """
    both = np.concatenate([thumbnails, others])
    count = len(thumbnails)
    flat = is_flat(both)
    mine, theirs = np.flatnonzero(~flat[:count]), np.flatnonzero(~flat[count:]) + count
    matches = np.full(count, -1, np.intp)
    hashes, other_hashes = perceptual_hashes(both[mine]), perceptual_hashes(both[theirs])
    found: list[NearPair] = []
    for start in range(0, len(mine), BLOCK):
        differing = np.bitwise_count(hashes[start : start + BLOCK, None] ^ other_hashes[None])
        rows, columns = np.nonzero(differing <= CLOSE_DISTANCE)
        found += _confirmed(both, mine[rows + start], theirs[columns], differing[rows, columns])
    for pair in sorted(_looked_at(both, found, close), reverse=True):  # the nearest last
        matches[pair.first] = pair.second - count
    return matches


def spanning_pairs(count: int, pairs: Iterable[NearPair]) -> list[NearPair]:
    """Of pairs in order, those that join two groups: at most count - 1, and no group is lost."""
    parents = list(range(count))
    return [pair for pair in pairs if _join(parents, pair.first, pair.second)]


def groups_of(count: int, links: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Indices that are linked, directly or through others; only groups of two and more.

    Args:
        count: of indices.
        links: pairs of indices below `count`.

    Returns:
        Sorted groups, in the order of their first index.
    """
    parents = list(range(count))
    for first, second in links:
        _join(parents, first, second)
    members: dict[int, list[int]] = {}
    for index in range(count):
        members.setdefault(_root(parents, index), []).append(index)
    return [group for group in members.values() if len(group) > 1]


def _confirmed(
    thumbnails: Thumbnails,
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    distances: NDArray[np.uint8],
) -> list[NearPair]:
    found = []
    for start in range(0, len(first), 65536):
        part = slice(start, start + 65536)
        alike = similarity(thumbnails[first[part]], thumbnails[second[part]])
        for index in np.flatnonzero(alike > MIN_SIMILARITY):
            i = start + int(index)
            score = round(float(alike[index]), 4)
            found.append(NearPair(int(distances[i]), int(first[i]), int(second[i]), score))
    return found


def _looked_at(
    thumbnails: Thumbnails, pairs: Sequence[NearPair], close: CloseLook | None
) -> list[NearPair]:
    """Those pairs that are one picture in colour, and where they can be opened, in structure."""
    involved = sorted({index for pair in pairs for index in (pair.first, pair.second)})
    looks = close(involved) if close and involved else [None] * len(involved)
    place = {index: i for i, index in enumerate(involved)}
    large = np.array([look is not None for look in looks], bool)
    blank = np.zeros((CLOSE_PX, CLOSE_PX, 3), np.uint8)
    opened = np.stack([blank if look is None else look for look in looks] or [blank])
    kept = []
    for start in range(0, len(pairs), BLOCK):
        part = pairs[start : start + BLOCK]
        first, second = (
            np.array([getattr(pair, name) for pair in part]) for name in ("first", "second")
        )
        a, b = (np.array([place[i] for i in ends]) for ends in (first, second))
        both = large[a] & large[b]
        same = np.empty(len(part), bool)
        same[both] = same_picture(opened[a[both]], opened[b[both]])
        same[~both] = same_picture(
            thumbnails[first[~both]], thumbnails[second[~both]], judge_structure=False
        )
        same &= both | (np.array([pair.distance for pair in part]) <= MAX_DISTANCE)
        kept += [pair for pair, is_same in zip(part, same, strict=True) if is_same]
    return kept


def _unclipped(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray((np.minimum(a, b) > CLIPPED[0]) & (np.maximum(a, b) < CLIPPED[1]))


def _halved(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    half = SIDE_PX // 2
    return np.asarray(levels.reshape(-1, half, 2, half, 2, 3).mean((2, 4)))


def _correlation(
    a: NDArray[np.float32], b: NDArray[np.float32], seen: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """(N,) correlation of (N, h, w, c) over the places that are seen."""
    rows = (len(a), int(np.prod(a.shape[1:])))
    a, b, seen = a.reshape(rows), b.reshape(rows), seen.reshape(rows)
    weight = np.where(seen.mean(1, keepdims=True) < MIN_UNCLIPPED, True, seen).astype(np.float32)
    total = weight.sum(1, keepdims=True)
    a = (a - (a * weight).sum(1, keepdims=True) / total) * weight
    b = (b - (b * weight).sum(1, keepdims=True) / total) * weight
    scale = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.asarray((a * b).sum(1) / np.maximum(scale, 1e-6), np.float32)


def _root(parents: list[int], index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index


def _join(parents: list[int], first: int, second: int) -> bool:
    """Join two groups under the smaller root; False where they were one already."""
    one, two = _root(parents, first), _root(parents, second)
    parents[max(one, two)] = min(one, two)
    return one != two
