from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from serve.contract.errors import DatasetError
from tests.train.toy import PATIENT, SIZE_PX, draw, fast
from train.data.audit.near_duplicates import near_matches, near_pairs
from train.data.folder import find_unlabelled, fingerprint
from train.data.unlabelled import open_unlabelled
from train.fitting import task_views, views_of
from train.loader.sampler import BatchSampler, ViewKey
from train.losses.objective import CrossEntropy, TrainingTask
from train.losses.targets import UNLABELLED
from train.options import DataOptions
from train.stage import Dataset


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Nine images in folders whose names mean nothing."""
    for i in range(9):
        folder = tmp_path / "pool" / ("a" if i % 2 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        draw(i % 3, 500 + i).save(folder / f"{i}.jpg", quality=92)
    return tmp_path / "pool"


# ---- which files


def test_every_image_below_the_folder_is_found_and_has_no_label(pool: Path) -> None:
    (pool / ".hidden").mkdir()
    shutil.copy(pool / "a" / "1.jpg", pool / ".hidden" / "x.jpg")
    (pool / "notes.txt").write_text("no image")
    photos = find_unlabelled(pool)
    assert [photo.path for photo in photos] == [
        *(f"a/{i}.jpg" for i in (1, 3, 5, 7)),
        *(f"b/{i}.jpg" for i in (0, 2, 4, 6, 8)),
    ]
    assert {photo.label for photo in photos} == {""}


def test_the_fingerprint_follows_the_bytes(pool: Path) -> None:
    before = fingerprint(pool, find_unlabelled(pool))
    assert fingerprint(pool, find_unlabelled(pool)) == before
    draw(1, 999).save(pool / "a" / "1.jpg", quality=92)
    assert fingerprint(pool, find_unlabelled(pool)) != before


@pytest.mark.parametrize("make", [True, False])
def test_an_empty_or_missing_folder_is_refused(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "nothing"
    if make:
        folder.mkdir()
    with pytest.raises(DatasetError, match="nothing") as caught:
        find_unlabelled(folder)
    assert "labels are not needed" in caught.value.next_step


# ---- which of them may be trained on


def test_copies_of_test_and_val_photographs_are_left_out(
    dataset: Dataset, pool: Path, tmp_path: Path
) -> None:
    test, val = dataset.of_split("test")[0], dataset.of_split("val")[0]
    train = dataset.of_split("train")[0]
    shutil.copy(dataset.root / test.path, pool / "equal.jpg")
    with Image.open(dataset.root / val.path) as image:  # another size, another encoder
        image.resize((image.width * 2, image.height * 2)).save(pool / "near.png")
    shutil.copy(dataset.root / train.path, pool / "of-train.jpg")
    found = open_unlabelled(pool, dataset)
    assert {(path, why) for path, _, why in found.left_out} == {
        ("equal.jpg", f"is {test.path} of test"),
        ("near.png", f"is {val.path} of val"),
    }
    assert len(found.photos) == 10
    assert "10 images without labels join" in found.sentence()
    assert "2 are left out" in found.sentence()
    found.write(tmp_path)
    with (tmp_path / "unlabelled.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["left_out"]) for row in rows) == 2
    assert len(rows) == 12
    assert all(len(row["sha256"]) == 64 for row in rows)


def test_nothing_but_test_photographs_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "leak"
    folder.mkdir()
    shutil.copy(dataset.root / dataset.of_split("test")[0].path, folder / "x.jpg")
    with pytest.raises(DatasetError, match=r"None of the 1 images .* x\.jpg is .* of test"):
        open_unlabelled(folder, dataset)


def test_files_that_do_not_decode_are_handled_as_the_audit_does(
    dataset: Dataset, pool: Path
) -> None:
    (pool / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    with pytest.raises(DatasetError, match=r"1 of 10 images .* broken\.jpg") as caught:
        open_unlabelled(pool, dataset)
    assert "data.unreadable=skip" in caught.value.next_step
    found = open_unlabelled(pool, dataset, DataOptions(unreadable="skip"))
    assert len(found.photos) == 9
    assert [path for path, _, _ in found.left_out] == ["broken.jpg"]
    assert open_unlabelled(pool, dataset, DataOptions(unreadable="skip")).digest == found.digest


def test_near_matches_are_the_near_pairs_that_cross() -> None:
    rng = np.random.default_rng(0)
    pictures = np.stack([np.asarray(draw(i % 3, i).resize((16, 16))) for i in range(40)])
    noisy = np.clip(pictures[:15].astype(int) + rng.integers(-3, 4, pictures[:15].shape), 0, 255)
    mine = noisy.astype(np.uint8)
    matches = near_matches(mine, pictures)
    pairs = near_pairs(np.concatenate([mine, pictures]))
    crossing = {(p.first, p.second - 15) for p in pairs if p.first < 15 <= p.second}
    assert matches.tolist() == list(range(15))
    assert set(enumerate(matches.tolist())) <= crossing
    assert near_matches(mine, pictures[20:]).max() == -1
    assert near_matches(mine[:0], pictures).shape == (0,)


# ---- in which order, seen how


def _order(labelled: int, unlabelled: int, batch: int) -> BatchSampler:
    targets = np.concatenate([np.arange(labelled) % 3, np.full(unlabelled, UNLABELLED)])
    return BatchSampler(targets.astype(np.int64), batch, epochs=2, seed=7, balance_limit=3.0)


@PATIENT
@given(st.integers(6, 40), st.integers(1, 80), st.integers(2, 12), st.data())
def test_each_batch_has_its_share_and_resuming_or_sharing_changes_nothing(
    labelled: int, unlabelled: int, batch: int, data: st.DataObject
) -> None:
    order = _order(labelled, unlabelled, batch)
    whole = list(order)
    assert order.per_epoch == (labelled + unlabelled) // batch
    share = batch * labelled / (labelled + unlabelled)
    for keys in whole:
        known = sum(key.position < labelled for key in keys)
        assert abs(known - share) <= 2
    for epoch in range(2):
        drawn = [key.position for keys in whole for key in keys if key.epoch == epoch]
        assert len(set(drawn)) == len(drawn)
    step = data.draw(st.integers(0, len(whole)))
    assert list(order.starting_at(step)) == whole[step:]
    shares = [list(order.of_rank(rank, 2)) for rank in range(2)]
    for keys, first, second in zip(whole, *shares, strict=True):
        assert sorted(keys) == sorted(first + second)


def test_no_rank_gets_one_kind_alone() -> None:
    order = _order(24, 24, 12)
    for rank in range(2):
        known = [sum(k.position < 24 for k in keys) for keys in order.of_rank(rank, 2)]
        assert 0 < sum(known) < 6 * len(known)
        assert len(set(known)) > 1


def test_unlabelled_photographs_are_in_no_class_balance() -> None:
    order = _order(9, 90, 10)
    times = [key.position for keys in order for key in keys if key.epoch == 0]
    assert len(times) == len(set(times)) == 90


def test_the_views_of_labelled_photographs_stay_what_they_were(
    dataset: Dataset, pool: Path
) -> None:
    options = fast()
    unlabelled = open_unlabelled(pool, dataset).absolute
    alone = views_of(dataset, options, seed=3)
    task = TrainingTask(CrossEntropy(), unlabelled=unlabelled)
    both = task_views(dataset, options, task, seed=3)
    count = len(alone)
    assert len(both) == count + 9
    assert (both.targets[:count] == alone.targets).all()
    assert (both.targets[count:] == UNLABELLED).all()
    for position in range(3):
        key = ViewKey(1, position, 0, SIZE_PX)
        assert (alone[key][0] == both[key][0]).all()
    again = task_views(replace(dataset, cache_mib=0), options, task, seed=3)
    key = ViewKey(1, count + 4, 0, SIZE_PX)
    assert (both[key][0] == again[key][0]).all()
    assert both[key][1] == UNLABELLED
    assert (both[key][0] != both[key._replace(epoch=2)][0]).any()
