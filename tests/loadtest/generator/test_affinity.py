from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.errors import UsageError
from loadtest.extras.host_monitor.service_watch import ServiceWatch
from loadtest.generator.affinity import on_cores, pin_tree, process_tree, split_cores

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"])
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    """A process and its child, which end when their standard input does."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    yield parent.pid, int(parent.stdout.readline())
    parent.stdin.close()
    parent.wait(10)
    parent.stdout.close()


@given(st.integers(1, 64), st.sets(st.integers(0, 100), min_size=1, max_size=40))
def test_cores_are_parted_without_overlap(workers: int, cores: set[int]) -> None:
    split = split_cores(workers, cores)
    assert set(split.generators).isdisjoint(split.service)
    if len(cores) == 1:
        assert split == split_cores(1, [5])  # nothing to part
        assert split.generators == ()
    else:
        assert set(split.generators) | set(split.service) == cores
        assert len(split.service) >= len(split.generators) == min(workers, len(cores) // 2)


def test_a_block_on_some_cores_gives_the_others_back() -> None:
    before = os.sched_getaffinity(0)
    with on_cores([min(before)]):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before
    with on_cores([]):
        assert os.sched_getaffinity(0) == before
    assert os.sched_getaffinity(0) == before


def test_a_tree_is_pinned_with_its_children(family: tuple[int, int]) -> None:
    parent, child = family
    assert process_tree(parent) == [parent, child]
    core = min(os.sched_getaffinity(0))
    assert pin_tree(parent, [core]) >= 2
    assert os.sched_getaffinity(child) == {core}


def test_a_watched_service_shows_its_memory_and_cpu(family: tuple[int, int]) -> None:
    watch = ServiceWatch(family[0])
    for now_s in (0.0, 1.0, 2.0):
        watch.sample(now_s)
    described = watch.describe()
    assert described["time_s"] == [1.0, 2.0]
    assert described["rss_peak_mib"] > 5
    assert 0 <= described["cpu_mean_share"] < 2


def test_a_service_that_ends_leaves_a_gap() -> None:
    done = subprocess.Popen([sys.executable, "-c", "pass"])
    done.wait()
    with pytest.raises(UsageError, match="no such process"):
        ServiceWatch(done.pid)
    assert process_tree(done.pid) == []
    assert pin_tree(done.pid, [0]) == 0
