from __future__ import annotations

from pathlib import Path

import pytest

from serve.contract.errors import DatasetError
from train.data.shards.patterns import ShardPattern, list_shards
from train.data.shards.source import ShardSource
from train.data.source import origin_of


@pytest.mark.parametrize(
    "text",
    [
        "train-{000000..000009}.tar",
        "https://host/flowers/{0..3}.tar",
        "https://host/a?sig={0..3}",
        "a.tar::b.tar",
        "one.tar",
        "one.tar.gz",
    ],
)
def test_urls_and_tar_files_are_shards(text: str) -> None:
    assert origin_of(text) == ShardSource(text)


def test_all_else_is_a_folder_or_a_list_even_a_folder_called_like_a_shard(tmp_path: Path) -> None:
    (tmp_path / "x.tar").mkdir()
    for text in ("photos", "photos/list.csv", "photos.target", str(tmp_path / "x.tar")):
        assert origin_of(text) == Path(text)


def test_names_leave_out_what_all_shards_have_in_common(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, two = list_shards(ShardPattern("x/{b,a}/0.tar"))
    assert (one.name, two.name) == ("a/0.tar", "b/0.tar")
    assert one.source == f"{tmp_path}/x/a/0.tar"
    (only,) = list_shards(ShardPattern("https://host/x/0.tar?sig=1"))
    assert (only.name, only.is_remote) == ("0.tar", True)
    assert only.source == "https://host/x/0.tar?sig=1"


@pytest.mark.parametrize(
    ("pattern", "splits"),
    [
        ("p/{train-{0..1},val-0}.tar", {"train-0.tar": "train", "val-0.tar": "val"}),
        ("p/{train,validation,test}/0.tar", {"validation/0.tar": "val", "test/0.tar": "test"}),
        ("p/train-{0..2}.tar", {"train-2.tar": "train"}),
        ("p/{0..2}.tar", {"1.tar": ""}),
        ("p/{trainers-0,b-0}.tar", {"trainers-0.tar": ""}),
        ("p/{train-0,b-0}.tar", {"train-0.tar": ""}),  # nothing is held out by its name
    ],
)
def test_the_split_is_the_first_word_of_the_name_where_all_have_one(
    pattern: str, splits: dict[str, str]
) -> None:
    found = {shard.name: shard.split for shard in list_shards(ShardPattern(pattern))}
    assert splits.items() <= found.items()


@pytest.mark.parametrize(
    ("pattern", "message", "step"),
    [
        ("::", "names no shard", "ranges in braces"),
        ("a/{0..3.tar", "cannot be read", "ranges in braces"),
        ("a.tar::a.tar", "twice", "Name each shard once"),
        ("a-{0..3}.tar.gz", "is compressed", "plain .tar"),
        ("p/val-{0..3}.tar", "none is of train", "Add train shards"),
        ("p/{train-0,val-0,b-0}.tar", "b-0.tar is not", "Call every shard after its split"),
    ],
)
def test_patterns_that_cannot_be_used(pattern: str, message: str, step: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        list_shards(ShardPattern(pattern))
    assert step in caught.value.next_step


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(DatasetError, match="is empty") as caught:
        origin_of(" ")
    assert "train-{000000..000009}.tar" in caught.value.next_step


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("/a/flowers/train-{0..3}.tar", "flowers"),
        ("/a/flowers/{train,val}/{0..3}.tar", "flowers"),
        ("https://host/flowers/{0..3}.tar", "flowers"),
        ("https://127.0.0.1:80/{0..3}.tar", "127.0.0.1-80"),
    ],
)
def test_a_run_is_called_like_the_folder_of_its_shards(pattern: str, name: str) -> None:
    assert ShardPattern(pattern).name == name
