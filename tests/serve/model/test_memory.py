from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve.model.memory import SMALL_BYTES, DecodeBudget

ONE = 8 * 2**20  # bytes of a large image


def test_no_more_bytes_are_inside_than_there_is_room_for() -> None:
    room, lock = DecodeBudget(2 * ONE), threading.Lock()
    inside: list[int] = []
    most = 0

    def decode(_: int) -> None:
        nonlocal most
        with room.of(ONE):
            with lock:
                inside.append(1)
                most = max(most, len(inside))
            threading.Event().wait(0.01)
            with lock:
                inside.pop()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, range(24)))
    assert most == 2


def test_a_small_image_never_waits() -> None:
    room = DecodeBudget(ONE)
    with room.of(ONE), room.of(SMALL_BYTES), room.of(1):
        pass


def test_an_image_larger_than_the_room_is_inside_alone() -> None:
    with DecodeBudget(ONE).of(3 * ONE):
        pass


def test_an_error_gives_the_room_back() -> None:
    room = DecodeBudget(ONE)
    for _ in range(3):
        with pytest.raises(ValueError, match="damaged"), room.of(ONE):
            raise ValueError("damaged")


def test_a_large_image_is_not_passed_by_those_behind_it() -> None:
    room = DecodeBudget(2 * ONE)
    order: list[str] = []
    waits = threading.Event()

    def take(name: str, charge: int) -> None:
        waits.set()
        with room.of(charge):
            order.append(name)

    threads = []
    with room.of(ONE):
        for name, charge in (("large", 2 * ONE), ("behind", ONE)):
            waits.clear()
            threads.append(threading.Thread(target=take, args=(name, charge)))
            threads[-1].start()
            waits.wait()
            threads[-1].join(0.05)
        assert order == []
    for thread in threads:
        thread.join(5)
    assert order == ["large", "behind"]
