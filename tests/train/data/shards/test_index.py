from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import DatasetError
from tests.train.shards import write_tar
from train.data.shards.index import INDEX, ShardIndex, index_tar, read_index, write_index

A = {"__key__": "a", "jpg": b"image of a", "cls": b"rose\n"}


def _index(path: Path) -> Any:
    with path.open("rb") as file:
        return index_tar(file, path.name)


def _refused(path: Path, *expected: str) -> None:
    with pytest.raises(DatasetError) as caught:
        _index(path)
    assert caught.value.next_step
    for text in ("shard 0.tar", *expected):
        assert text in caught.value.message


def test_samples_are_found_by_place_label_and_digest(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "0.tar",
        A,
        {"__key__": "sub/b", "PNG": b"image of b", "json": b'{"label": "tulip", "more": 1}'},
        {"__key__": "c", "webp": b"c" * 700, "cls": b"7", "txt": b"a caption"},
        {"__key__": "d", "jpeg": b"d", "json": b'{"label": 7}', "cls": b"7"},
    )
    samples = _index(path)
    assert {s.member: s.label for s in samples.values()} == {
        "a.jpg": "rose",
        "sub/b.PNG": "tulip",
        "c.webp": "7",
        "d.jpeg": "7",
    }
    data = path.read_bytes()
    for sample in samples.values():
        bytes_there = data[sample.offset : sample.offset + sample.size]
        assert sha256_of_bytes(bytes_there) == sample.sha256


def test_the_format_of_tar_and_names_with_a_dot_folder_do_not_matter(tmp_path: Path) -> None:
    photo, label = tmp_path / f"{'long' * 40}.jpg", tmp_path / f"{'long' * 40}.cls"
    photo.write_bytes(b"pixels")
    label.write_text("rosé", encoding="utf-8")
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "0.tar", "w", format=kind) as tar:
            for path in (label, photo):
                tar.add(path, f"./{path.name}")
        ((member, sample),) = _index(tmp_path / "0.tar").items()
        assert (member, sample.label) == (photo.name, "rosé")


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ({"jpg": b"x"}, "'b' with no label"),
        ({"cls": b"rose"}, "'b' with no image"),
        ({"cls": b"rose", "gif": b"x"}, "'b' with no image"),
        ({"cls": b"rose", "jpg": b"x", "png": b"y"}, "'b' with two images"),
        ({"cls": b"rose", "jpg": b"x", "json": b'{"label": "tulip"}'}, "two labels (rose, tulip)"),
        ({"cls": b"", "jpg": b"x"}, "b.cls holds no label"),
        ({"cls": b"\xff", "jpg": b"x"}, "b.cls holds no label"),
        ({"json": b"{", "jpg": b"x"}, "b.json holds no label"),
        ({"json": b'{"class": 1}', "jpg": b"x"}, "b.json holds no label"),
        ({"json": b'{"label": null}', "jpg": b"x"}, "b.json holds no label"),
        ({"json": b"[]", "jpg": b"x"}, "b.json holds no label"),
    ],
)
def test_a_sample_that_cannot_be_used_is_named(
    tmp_path: Path, sample: dict[str, bytes], expected: str
) -> None:
    _refused(write_tar(tmp_path / "0.tar", A, {"__key__": "b", **sample}), expected)


def test_two_samples_of_one_key_are_refused(tmp_path: Path) -> None:
    b = {"__key__": "b", "jpg": b"b", "cls": b"rose"}
    _refused(write_tar(tmp_path / "0.tar", A, A, b), "two samples", "'a.")
    _refused(write_tar(tmp_path / "0.tar", A, b, A), "two samples 'a'")


def test_members_outside_of_the_shard_are_refused(tmp_path: Path) -> None:
    _refused(write_tar(tmp_path / "0.tar", A | {"__key__": "../a"}), "outside")


def test_a_shard_that_is_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole", A, {**A, "__key__": "b"}).read_bytes()
    end = 8 * 512  # four members with a header each
    for size in (*range(0, end, 256), end, end + 1, end + 511):
        (tmp_path / "0.tar").write_bytes(whole[:size])
        _refused(tmp_path / "0.tar", "not a whole, plain tar file")
    (tmp_path / "0.tar").write_bytes(whole[: end + 512])
    assert len(_index(tmp_path / "0.tar")) == 2


def test_what_is_no_plain_tar_file_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w:gz") as tar:
        tar.add(__file__)
    _refused(tmp_path / "0.tar", "not a whole, plain tar file")
    write_tar(tmp_path / "0.tar")
    _refused(tmp_path / "0.tar", "holds no sample")
    damaged = bytearray(write_tar(tmp_path / "0.tar", A, {**A, "__key__": "b"}).read_bytes())
    damaged[4 * 512 + 3] ^= 1  # in the header of the second sample
    (tmp_path / "0.tar").write_bytes(damaged)
    _refused(tmp_path / "0.tar", "not a whole, plain tar file")


def test_an_index_is_read_as_written_and_anew_when_it_changes(tmp_path: Path) -> None:
    samples = _index(write_tar(tmp_path / "0.tar", A))
    index = ShardIndex("/x/0.tar", "stamp", 10240, "", samples)
    folder = tmp_path / "indices" / "0.tar"
    assert read_index(folder) is None
    write_index(folder, index)
    assert read_index(folder) == index
    value = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps(value | {"version": 99}))
    assert read_index(folder) is None
    (folder / INDEX).write_text("{")
    assert read_index(folder) is None
