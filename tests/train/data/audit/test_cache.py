from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

import train.data.audit.file_facts
from tests.train.toy import write_photos
from train.data.audit.cache import FileFacts, open_cache
from train.data.audit.dataset_audit import read_images
from train.data.cache_folder import FileKey, cache_folder
from train.data.folder import find_images

FACTS = FileFacts("a" * 64, 30, 20, b"pixels")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "train.data.audit.cache.CHANGING_S", -60
    )  # files of this second count as settled
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"one")
    return path


def _remember(path: Path, facts: FileFacts = FACTS) -> FileKey:
    key = FileKey.of(path)
    with open_cache() as cache:
        cache.write([(key, facts)])
    return key


def _known(path: Path) -> FileFacts | None:
    key = FileKey.of(path)
    with open_cache() as cache:
        return cache.read([key]).get(key.path)


def test_facts_are_remembered(file: Path) -> None:
    assert _known(file) is None
    _remember(file)
    assert _known(file) == FACTS


def test_many_files_are_read_at_once(tmp_path: Path) -> None:
    keys = [FileKey(f"/photos/{i}", "stamp", 0.0) for i in range(1201)]
    with open_cache() as cache:
        cache.write((key, FileFacts(key.path)) for key in keys)
        found = cache.read(keys)
    assert {path: facts.sha256 for path, facts in found.items()} == {k.path: k.path for k in keys}


def test_a_change_of_content_is_seen_even_with_the_old_time_and_size(file: Path) -> None:
    _remember(file)
    stat = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert _known(file) is None


def test_a_replaced_file_is_seen(file: Path, tmp_path: Path) -> None:
    _remember(file)
    other = tmp_path / "other"
    other.write_bytes(b"two")
    other.replace(file)
    assert _known(file) is None


def test_another_reader_reads_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _remember(file)
    monkeypatch.setattr("train.data.cache_folder.READER", "2 Pillow 99")
    assert _known(file) is None


def test_a_file_that_changed_just_now_is_not_remembered(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.data.audit.cache.CHANGING_S", 60)
    _remember(file)
    assert _known(file) is None


def test_a_damaged_cache_is_begun_anew(file: Path, cache: Path) -> None:
    _remember(file)
    (cache / "audit.sqlite").write_bytes(b"no database at all" * 100)
    assert _known(file) is None
    _remember(file)
    assert _known(file) == FACTS


def test_without_a_writable_folder_it_goes_on(
    file: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.write_text("a file where the folder should be")
    _remember(file)
    assert _known(file) is None
    assert "no cache in" in capsys.readouterr().err


def test_a_cache_that_fails_midway_is_given_up(
    file: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = FileKey.of(file)
    with open_cache() as open_one:
        other = sqlite3.connect(cache / "audit.sqlite")
        other.execute("DROP TABLE file_facts")
        other.commit()
        other.close()
        assert open_one.read([key]) == {}
        open_one.write([(key, FACTS)])
    assert "going on without the cache" in capsys.readouterr().err


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_CACHE", "/a")
    assert cache_folder() == Path("/a")
    monkeypatch.setenv("STILLROOM_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/b/stillroom")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/stillroom")


def test_a_second_audit_opens_only_what_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_photos(tmp_path / "photos", count=4)
    (root / "bell" / "000.jpg").write_bytes(b"no image")
    opened: list[str] = []
    read = train.data.audit.file_facts._read

    def watch(path: Path, limits: object) -> FileFacts:
        opened.append(path.name)
        return read(path, limits)

    monkeypatch.setattr("train.data.audit.file_facts._read", watch)
    photos = find_images(root)
    first = read_images(root, photos)
    assert len(opened) == 12
    assert first[1] == [("bell/000.jpg", "This is a text file, not a JPEG, PNG or WebP image.")]
    assert read_images(root, photos) == first
    assert len(opened) == 12
    (root / "bell" / "001.jpg").write_bytes((root / "bell" / "002.jpg").read_bytes())
    again = read_images(root, photos)[0]
    assert opened[12:] == ["001.jpg"]
    digests = {photo.path: photo.sha256 for photo in again}
    assert digests["bell/001.jpg"] == digests["bell/002.jpg"]


def test_a_file_that_is_gone_is_a_problem_and_not_remembered(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos", count=2)
    photos = find_images(root)
    path = root / "bell" / "000.jpg"
    data = path.read_bytes()
    path.unlink()
    assert read_images(root, photos)[1] == [("bell/000.jpg", "No such file or directory")]
    path.write_bytes(data)
    assert read_images(root, photos)[1] == []
