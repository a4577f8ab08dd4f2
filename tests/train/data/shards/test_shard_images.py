"""The same images as files and in shards: equal pixels, labels, and exactness of position."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import train.data.shards.cache
from serve.contract.digest import sha256_of_file
from serve.contract.errors import DatasetError
from serve.contract.preprocess import PreprocessSpec
from tests.train.shards import Server, open_shards, pack, sample_of, serving, write_tar
from tests.train.toy import PATIENT, SIZE_PX, fast, same_tensors, state_of, toy_views, write_photos
from train.data.dataset import Dataset
from train.data.image_bytes import read_bytes
from train.data.images import LabelledImage
from train.data.shards.cache import ENV_LIMIT
from train.data.shards.shard_images import index_folder, shard_numbers, warn_of_small_cache
from train.data.shards.source import ShardSource
from train.data.source import open_source
from train.fitting import fit_model
from train.loader.dataloader import feed
from train.loader.sampler import BatchSampler, open_shards_of
from train.loader.views import pixels_of

SPEC = PreprocessSpec(SIZE_PX, 1.0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("files") / "photos")


@pytest.fixture(scope="module")
def packed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """72 images in 6 shards. Read only."""
    folder = tmp_path_factory.mktemp("packed")
    return open_shards(pack(photos, folder / "shards"), folder / "data")


@pytest.fixture
def served(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Server, str]]:
    """A server of the same shards, a cache of its own, and their pattern."""
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(train.data.shards.cache, "PAUSE_S", 0.01)
    pack(photos, tmp_path / "there")
    with serving(tmp_path / "there") as server:
        yield server, f"{server.url}/{{000..005}}.tar"


def _keys(order: BatchSampler) -> list[Any]:
    return [key for batch in order for key in batch]


def _order(shards: list[int], batch_size: int, **changes: Any) -> BatchSampler:
    targets = np.arange(len(shards)) % 3
    return BatchSampler(targets, batch_size, 2, 7, shards=np.array(shards), **changes)


def test_photographs_in_shards_are_those_of_the_folder(photos: Path, packed: Dataset) -> None:
    by_digest = {p.sha256: p for p in packed.photos}
    files = open_source(photos).photos
    assert len(by_digest) == len(files) == 72
    one = [by_digest[sha256_of_file(photos / file.path)] for file in files]
    assert [photo.label for photo in one] == [file.label for file in files]
    assert np.array_equal(pixels_of(packed.root, one, SPEC), pixels_of(photos, files, SPEC))
    assert {photo.split for photo in one} == {"train", "val", "test"}
    assert all((photo.width, photo.height) > (0, 0) for photo in one)


def test_views_are_the_same_with_and_without_the_cache_of_pixels(packed: Dataset) -> None:
    cached, direct = toy_views(packed), toy_views(packed, cache_mib=0)
    for key in _keys(BatchSampler(packed.targets("train"), 12, 1, 3, sizes_px=(SIZE_PX,))):
        assert np.array_equal(cached[key][0], direct[key][0])
        assert cached[key][1] == direct[key][1]


@pytest.mark.parametrize("workers", [0, 2])
def test_neither_workers_nor_a_resume_at_any_step_change_a_batch(
    packed: Dataset, workers: int
) -> None:
    views = toy_views(packed, cache_mib=0)
    order = BatchSampler(views.targets, 12, 2, 3, sizes_px=(SIZE_PX,), shards=views.shards)
    whole = list(feed(views, order, workers=0))
    assert len(whole) == 2 * order.per_epoch > 4
    steps = range(len(whole)) if workers == 0 else (0, 1)
    for step in steps:
        rest = list(feed(views, order.starting_at(step), workers=workers))
        assert len(rest) == len(whole) - step
        for one, two in zip(rest, whole[step:], strict=True):
            assert torch.equal(one.images, two.images)
            assert torch.equal(one.labels, two.labels)


@PATIENT
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=12),
    st.sampled_from([1, 2, 3]),
    st.integers(1, 9),
    st.booleans(),
)
def test_ranks_show_each_photograph_once_and_together_the_batches_of_one_process(
    sizes: list[int], world: int, factor: int, balanced: bool
) -> None:
    shards = [number for number, size in enumerate(sizes) for _ in range(size)]
    order = _order(shards, world * factor, balance_limit=1.5 if balanced else 0.0)
    if not order.per_epoch:
        return
    whole, ranks = list(order), [list(order.of_rank(rank, world)) for rank in range(world)]
    for step, batch in enumerate(whole):
        parts = [rank[step] for rank in ranks]
        assert [key for part in parts for key in part] == batch
        assert {len(part) for part in parts} == {factor}
    for epoch in range(2):
        keys = [key for key in _keys(order) if key.epoch == epoch]
        assert len(set(keys)) == len(keys) == order.per_epoch * world * factor
        assert balanced or len({key.position for key in keys}) == len(keys)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("batch_size", [12, 48, 96])
def test_ranks_read_shards_of_their_own_few_at_a_time(world: int, batch_size: int) -> None:
    shards = [position // 96 for position in range(24 * 96)]  # 24 shards of 96
    order = _order(shards, batch_size)
    seen = []
    for rank in range(world):
        batches = list(order.of_rank(rank, world))[: order.per_epoch]
        seen.append({shards[key.position] for batch in batches for key in batch})
        at_a_time = [len({shards[key.position] for key in batch}) for batch in batches]
        assert max(at_a_time) <= 2 * open_shards_of(batch_size) // world
    assert sum(map(len, seen)) == 24
    assert set.union(*seen) == set(range(24))


@pytest.mark.parametrize(
    ("batch_size", "lanes"), [(1, 1), (3, 3), (12, 12), (48, 12), (64, 16), (17, 17), (34, 17)]
)
def test_lanes_divide_the_batch(batch_size: int, lanes: int) -> None:
    assert open_shards_of(batch_size) == lanes


def test_epochs_begin_with_other_shards() -> None:
    shards = [position // 10 for position in range(400)]
    keys = _keys(_order(shards, 4))
    one, two = ([shards[k.position] for k in keys if k.epoch == epoch][:8] for epoch in (0, 1))
    assert one != two


def test_files_have_no_shards(dataset: Dataset) -> None:
    assert toy_views(dataset).shards is None
    assert shard_numbers(dataset.root, [LabelledImage("a.tar/b.jpg", "a")]) is None


def test_training_from_shards_does_not_depend_on_where_they_lie(
    packed: Dataset, served: tuple[Server, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_LIMIT, "1")
    remote = open_shards(served[1], tmp_path / "data", cache_mib=0)
    assert remote.photos == packed.photos
    one = fit_model(packed, fast(), seed=1, out=tmp_path)
    two = fit_model(remote, fast(), seed=1, out=tmp_path / "data")
    assert same_tensors(state_of(one.model), state_of(two.model))


def test_shards_are_indexed_once_and_again_when_they_change(photos: Path, tmp_path: Path) -> None:
    pattern = ShardSource(pack(photos, tmp_path / "shards"))
    before = open_source(pattern).fingerprint()
    indices = {path: path.stat().st_mtime_ns for path in index_folder(pattern).rglob("index.json")}
    assert len(indices) == 6
    assert open_source(pattern).fingerprint() == before
    assert all(path.stat().st_mtime_ns == written for path, written in indices.items())
    files = sorted((photos / "bell").iterdir())
    write_tar(tmp_path / "shards" / "003.tar", *map(sample_of, files))
    assert open_source(pattern).fingerprint() != before
    anew = [path for path, written in indices.items() if path.stat().st_mtime_ns != written]
    assert [path.parent.name for path in anew] == ["003.tar"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_changes_or_goes_while_it_is_used_is_named(
    photos: Path, tmp_path: Path, workers: int
) -> None:
    dataset = open_shards(pack(photos, tmp_path / "shards"), tmp_path / "data")
    views = toy_views(dataset, cache_mib=0)
    order = BatchSampler(views.targets, 12, 1, 3, sizes_px=(SIZE_PX,), shards=views.shards)
    shutil.copy(tmp_path / "shards" / "001.tar", tmp_path / "shards" / "004.tar")
    with pytest.raises(DatasetError, match=r"004\.tar has changed since it was indexed") as caught:
        list(feed(views, order, workers=workers))
    assert "indexed anew" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    (tmp_path / "shards" / "004.tar").unlink()
    with pytest.raises(DatasetError, match=r"004\.tar cannot be read: No such file"):
        list(feed(views, order, workers=workers))


def test_a_remote_shard_that_is_damaged_on_this_disk_is_fetched_again(
    served: tuple[Server, str], tmp_path: Path
) -> None:
    server, pattern = served
    dataset = open_shards(pattern, tmp_path / "data", cache_mib=0)
    assert set(server.asked.values()) == {1}
    whole = pixels_of(dataset.root, dataset.photos, SPEC)
    for path in (tmp_path / "cache" / "shard-files").glob("*.tar"):
        path.write_bytes(bytes(path.stat().st_size))
    assert np.array_equal(pixels_of(dataset.root, dataset.photos, SPEC), whole)
    assert sum(server.asked.values()) >= 12


def test_a_remote_shard_that_changed_is_named(served: tuple[Server, str], tmp_path: Path) -> None:
    server, pattern = served
    dataset = open_shards(pattern, tmp_path / "data")
    shutil.rmtree(tmp_path / "cache" / "shard-files")
    server.failures["003.tar"] = ["002.tar"] * 99
    photo = next(photo for photo in dataset.photos if photo.path.startswith("003.tar/"))
    with pytest.raises(DatasetError, match=r"003.tar failed 4 times: its bytes are not those"):
        read_bytes(dataset.root / photo.path)


def test_a_small_cache_is_said_to_be_small(
    served: tuple[Server, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dataset = open_shards(served[1], tmp_path / "data")
    monkeypatch.setattr("train.data.shards.shard_images.limit_bytes", lambda: 10_000)
    warn_of_small_cache(dataset.root, 4)
    assert f"again and again. Raise {ENV_LIMIT}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("trained", "held_out", "message"),
    [("a", "a", "one class only"), ("ab", "abc", "c occur in val or test but not in train")],
)
def test_classes_that_cannot_be_trained_on(
    tmp_path: Path, trained: str, held_out: str, message: str
) -> None:
    for name, labels in (("train", trained), ("val", held_out)):
        samples = [{"__key__": k, "jpg": k.encode(), "cls": k.encode()} for k in labels]
        write_tar(tmp_path / f"{name}-0.tar", *samples)
    with pytest.raises(DatasetError, match=message):
        open_source(ShardSource(f"{tmp_path}/{{train,val}}-0.tar"))


def test_shards_that_are_missing_are_counted(photos: Path, tmp_path: Path) -> None:
    pack(photos, tmp_path)
    with pytest.raises(DatasetError, match=r"006.tar is not there, nor are 3 others \(of 10\)"):
        open_source(ShardSource(f"{tmp_path}/{{000..009}}.tar"))
