from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import train.data.shards.cache
from serve.contract.digest import sha256_of_bytes
from serve.contract.errors import DatasetError, UsageError
from tests.train.shards import Server, serving
from train.data.shards.cache import ATTEMPTS, ENV_LIMIT, discard, fetch

MIB = 2**20


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(train.data.shards.cache, "PAUSE_S", 0.01)
    return tmp_path / "cache" / "shard-files"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Serves 0.tar to 5.tar, of a MiB each."""
    (tmp_path / "there").mkdir()
    for number in range(6):
        (tmp_path / "there" / f"{number}.tar").write_bytes(bytes([number]) * MIB)
    with serving(tmp_path / "there") as server:
        yield server


def _digest(number: int) -> str:
    return sha256_of_bytes(bytes([number]) * MIB)


def _read(url: str, sha256: str = "") -> bytes:
    with fetch(url, sha256).file as file:
        return file.read()


def test_a_shard_is_downloaded_once_and_kept_under_its_digest(server: Server, cache: Path) -> None:
    url = f"{server.url}/1.tar"
    file, digest = fetch(url)
    file.close()
    assert digest == _digest(1)
    assert [path.name for path in cache.glob("*.tar")] == [f"{digest}.tar"]
    assert _read(url, digest) == _read(url, digest) == bytes([1]) * MIB
    assert server.asked["1.tar"] == 1
    discard(digest)
    assert _read(url, digest) == bytes([1]) * MIB
    assert server.asked["1.tar"] == 2
    assert not list(cache.glob("*.partial"))


@pytest.mark.parametrize("failures", [["cut"], ["gone", "cut"], ["2.tar", "gone", "cut"]])
def test_a_download_that_fails_is_tried_again(
    server: Server, failures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    server.failures["1.tar"] = list(failures)
    assert _read(f"{server.url}/1.tar", _digest(1)) == bytes([1]) * MIB
    said = capsys.readouterr().err
    assert said.count(f"The shard {server.url}/1.tar again") == len(failures)


@pytest.mark.parametrize(
    ("failure", "why", "step"),
    [
        ("gone", "the server refuses it", "Check the address"),
        ("cut", "the transfer broke off", "Check the address"),
        ("2.tar", "not those that were indexed", "indexed anew"),
    ],
)
def test_one_that_fails_again_and_again_is_given_up_and_leaves_nothing(
    server: Server, cache: Path, failure: str, why: str, step: str
) -> None:
    server.failures["1.tar"] = [failure] * 99
    with pytest.raises(DatasetError, match=why) as caught:
        fetch(f"{server.url}/1.tar", _digest(1))
    assert f"{server.url}/1.tar failed {ATTEMPTS} times" in caught.value.message
    assert step in caught.value.next_step
    assert server.asked["1.tar"] == ATTEMPTS
    assert not [path for path in cache.iterdir() if path.suffix != ".lock"]


def test_a_server_that_is_not_there(server: Server) -> None:
    with pytest.raises(DatasetError, match="nobody answers there"):
        fetch("http://127.0.0.1:9/1.tar")


def test_the_cache_stays_within_its_limit_and_drops_what_was_not_used_for_longest(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_LIMIT, "3")
    for number in (0, 1, 2, 0, 3, 0, 4, 5):  # 0 is used again and again
        assert _read(f"{server.url}/{number}.tar", _digest(number)) == bytes([number]) * MIB
        assert sum(path.stat().st_size for path in cache.glob("*.tar")) <= 3 * MIB
        assert (cache / f"{_digest(0)}.tar").exists()
    assert server.asked["0.tar"] == 1


def test_a_file_that_is_open_can_be_read_though_it_was_dropped(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_LIMIT, "1")
    with fetch(f"{server.url}/1.tar").file as file:
        _read(f"{server.url}/2.tar")
        assert file.read() == bytes([1]) * MIB


def test_a_shard_above_the_limit_and_a_limit_that_is_none(
    server: Server, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there" / "1.tar").write_bytes(bytes(MIB + 1))
    monkeypatch.setenv(ENV_LIMIT, "1")
    with pytest.raises(DatasetError, match="larger than the limit of 1 MiB") as caught:
        fetch(f"{server.url}/1.tar")
    assert ENV_LIMIT in caught.value.next_step
    assert not list(cache.glob("*.partial"))
    monkeypatch.setenv(ENV_LIMIT, "much")
    with pytest.raises(UsageError, match="is 'much'"):
        fetch(f"{server.url}/1.tar")


@pytest.mark.parametrize("times", [1, 99])
def test_a_full_disk_drops_other_shards_and_then_says_so(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    _read(f"{server.url}/2.tar")
    left = [times]
    sync = train.data.shards.cache._write

    def full(*arguments: Any) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(*arguments)

    monkeypatch.setattr(train.data.shards.cache, "_write", full)
    if times == 1:
        assert _read(f"{server.url}/1.tar") == bytes([1]) * MIB
    else:
        with pytest.raises(DatasetError, match="disk of the shard cache is full") as caught:
            fetch(f"{server.url}/1.tar")
        assert "Free some space" in caught.value.next_step
    assert not (cache / f"{_digest(2)}.tar").exists()


def test_a_cache_that_cannot_be_written_to(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DatasetError, match="cannot be kept") as caught:
        fetch(f"{server.url}/1.tar")
    assert "STILLROOM_CACHE" in caught.value.next_step
