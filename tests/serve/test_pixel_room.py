from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve.pixel_room import SMALL_PX, PixelRoom

SIDE = 2048
ONE = SIDE * SIDE  # a large image


def test_no_more_pixels_are_inside_than_there_is_room_for() -> None:
    room, lock = PixelRoom(2 * ONE), threading.Lock()
    inside: list[int] = []
    most = 0

    def decode(_: int) -> None:
        nonlocal most
        with room.of((SIDE, SIDE)):
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
    room = PixelRoom(ONE)
    with room.of((SIDE, SIDE)), room.of((SMALL_PX, 1)), room.of((1, 1)):
        pass


def test_an_image_larger_than_the_room_is_inside_alone() -> None:
    with PixelRoom(ONE).of((3 * SIDE, SIDE)):
        pass


def test_an_error_gives_the_room_back() -> None:
    room = PixelRoom(ONE)
    for _ in range(3):
        with pytest.raises(ValueError, match="damaged"), room.of((SIDE, SIDE)):
            raise ValueError("damaged")


def test_a_large_image_is_not_passed_by_those_behind_it() -> None:
    room = PixelRoom(2 * ONE)
    order: list[str] = []
    waits = threading.Event()

    def take(name: str, width: int) -> None:
        waits.set()
        with room.of((width, SIDE)):
            order.append(name)

    threads = []
    with room.of((SIDE, SIDE)):
        for name, width in (("large", 2 * SIDE), ("behind", SIDE)):
            waits.clear()
            threads.append(threading.Thread(target=take, args=(name, width)))
            threads[-1].start()
            waits.wait()
            threads[-1].join(0.05)
        assert order == []
    for thread in threads:
        thread.join(5)
    assert order == ["large", "behind"]
