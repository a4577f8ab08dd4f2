from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from serve.contract.errors import StillroomError
from tests.train.dying import SURVIVED, in_a_child
from tests.train.toy import SIZE_PX, toy_views
from train.data.dataset import Dataset
from train.loader.dataloader import feed
from train.loader.sampler import BatchSampler, ViewKey

pytestmark = pytest.mark.ci  # processes that are late on a busy machine

EPOCHS = 4


class Failing:
    """Views whose loader worker fails at one key, so often."""

    def __init__(self, views: Any, folder: Path, how: str, times: int = 1) -> None:
        self._views, self._folder, self._how, self._times = views, folder, how, times
        self.targets = views.targets

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, key: ViewKey) -> Any:
        if key.epoch == 2 and key.position == 5:
            marks = len(list(self._folder.iterdir()))
            if marks < self._times:
                (self._folder / str(marks)).touch()
                if self._how == "hang":
                    time.sleep(600)
                os.kill(os.getpid(), signal.SIGKILL)
        return self._views[key]


def _order(dataset: Dataset) -> BatchSampler:
    return BatchSampler(dataset.targets("train"), 12, EPOCHS, seed=3, sizes_px=(SIZE_PX,))


def _same(one: Iterator[tuple[Tensor, Tensor]], two: list[tuple[Tensor, Tensor]]) -> bool:
    listed = list(one)
    return len(listed) == len(two) and all(
        torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
        for a, b in zip(listed, two, strict=True)
    )


@pytest.fixture(scope="module")
def undisturbed(dataset: Dataset) -> list[tuple[Tensor, Tensor]]:
    return list(feed(toy_views(dataset), _order(dataset), workers=0))


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_number_of_workers_changes_no_batch(
    dataset: Dataset, undisturbed: list[tuple[Tensor, Tensor]], workers: int
) -> None:
    assert _same(feed(toy_views(dataset), _order(dataset), workers=workers), undisturbed)


@pytest.mark.parametrize(("how", "times"), [("die", 1), ("die", 3), ("hang", 1)])
def test_workers_that_die_or_hang_are_started_again_where_they_were(
    dataset: Dataset,
    undisturbed: list[tuple[Tensor, Tensor]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    how: str,
    times: int,
) -> None:
    views: Any = Failing(toy_views(dataset), tmp_path, how, times)
    start = time.monotonic()
    assert _same(feed(views, _order(dataset), workers=2, silence_s=3), undisturbed)
    assert time.monotonic() - start < 60
    assert capsys.readouterr().err.count("started again at step") == times


def test_workers_that_die_again_and_again_end_the_training(
    dataset: Dataset, tmp_path: Path
) -> None:
    views: Any = Failing(toy_views(dataset), tmp_path, "die", times=99)
    with pytest.raises(StillroomError, match="failed 3 times at step") as caught:
        list(feed(views, _order(dataset), workers=1, restarts=2))
    assert "teacher.workers=0" in caught.value.next_step


def test_a_worker_that_dies_while_nobody_waits_disturbs_nothing(
    dataset: Dataset, undisturbed: list[tuple[Tensor, Tensor]]
) -> None:
    batches, seen = feed(toy_views(dataset), _order(dataset), workers=1), []
    for batch in batches:
        seen.append(batch)
        if len(seen) == 2:
            (worker,) = multiprocessing.active_children()
            worker.kill()
            for _ in range(100):  # a step during which the signal of its death arrives
                time.sleep(0.001)
    assert _same(iter(seen), undisturbed)


def _may_be_idle() -> bool:
    """Whether this system has the idle class and lets a process choose it."""
    return (
        hasattr(os, "SCHED_IDLE")
        and in_a_child(lambda: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)))
        == SURVIVED
    )


@pytest.mark.skipif(not _may_be_idle(), reason="no idle class on this system")
def test_polite_workers_that_come_late_are_replaced_by_plain_ones(
    dataset: Dataset,
    undisturbed: list[tuple[Tensor, Tensor]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def policies() -> set[int]:
        return {
            os.sched_getscheduler(child.pid or 0) for child in multiprocessing.active_children()
        }

    monkeypatch.setattr("train.loader.dataloader.LATE_S", -1.0)  # every batch is late
    batches = feed(toy_views(dataset), _order(dataset), workers=1)
    seen = [next(batches)]
    assert policies() == {os.SCHED_IDLE}
    seen.append(next(batches))
    assert policies() == {os.SCHED_OTHER}
    assert _same(iter([*seen, *batches]), undisturbed)


def test_no_worker_outlives_a_training_that_stops(dataset: Dataset) -> None:
    batches = feed(toy_views(dataset), _order(dataset), workers=2)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert not multiprocessing.active_children()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends them")
@pytest.mark.parametrize("asleep", [False, True])
def test_no_worker_outlives_a_trainer_that_is_killed(
    dataset: Dataset, tmp_path: Path, asleep: bool
) -> None:
    views: Any = Failing(toy_views(dataset), tmp_path / "marks", "hang" if asleep else "")
    (tmp_path / "marks").mkdir()
    noted = tmp_path / "workers"

    def train() -> None:
        batches = feed(views, _order(dataset), workers=2)
        next(batches)
        pids = [str(child.pid) for child in multiprocessing.active_children()]
        noted.write_text(" ".join(pids))
        if asleep:
            list(batches)  # until a worker hangs
        time.sleep(60)

    in_a_child(train, kill_after_s=4)
    workers = [int(pid) for pid in noted.read_text().split()]
    assert len(workers) == 2
    end = time.monotonic() + 2
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < end:
        time.sleep(0.02)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_an_error_of_the_data_is_not_a_worker_that_died(dataset: Dataset) -> None:
    class Broken(Failing):
        def __getitem__(self, key: ViewKey) -> Any:
            raise RuntimeError("this image is broken")

    views: Any = Broken(toy_views(dataset), Path(), "")
    with pytest.raises(RuntimeError, match="this image is broken"):
        list(feed(views, _order(dataset), workers=1))
