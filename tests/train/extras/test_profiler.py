from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from serve.contract.errors import DatasetError
from tests.train.toy import fast
from train.data.dataset import Dataset
from train.extras.profiler import TrainingProfile, profile_training

FOUND = TrainingProfile(
    10, 320, 2.0, 0.1, 0.1, (("convolution", 0.4), ("mm", 0.2)), Path("trace.json")
)


@pytest.mark.parametrize(
    ("changes", "bound"),
    [
        ({}, "compute"),
        ({"waited_s": 0.5}, "data"),
        ({"synced_s": 0.5}, "sync"),
        ({"waited_s": 0.5, "synced_s": 1.0}, "data"),
    ],
)
def test_the_verdict_names_what_to_change_first(changes: dict[str, float], bound: str) -> None:
    found = replace(FOUND, **changes)  # type: ignore[arg-type]
    assert found.bound == bound
    lines = found.lines()
    assert len(lines) == 3
    assert lines[0].startswith("160 images/s; a step takes 200 ms")
    assert "convolution 40%" in lines[1]
    assert lines[2].startswith(f"{bound.capitalize()}-bound: ")


@pytest.mark.ci
@pytest.mark.parametrize("workers", [0, 1])
def test_steps_are_timed_and_traced(dataset: Dataset, tmp_path: Path, workers: int) -> None:
    trace = tmp_path / "profile" / "trace.json"
    found = profile_training(dataset, fast(workers=workers), seed=0, trace=trace, steps=5)
    assert (found.steps, found.images) == (5, 60)
    assert 0 <= found.waited_s < found.wall_s
    assert found.synced_s == 0
    assert 0 < sum(share for _, share in found.ops) <= 1
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert any("conv" in str(name) for name in names)


@pytest.mark.ci
def test_a_loader_that_is_slow_shows_as_waiting(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    import train.fitting

    view = train.fitting.random_view

    def slow(*arguments: object) -> object:
        time.sleep(0.02)
        return view(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(train.fitting, "random_view", slow)
    found = profile_training(
        dataset, fast(workers=0), seed=0, trace=tmp_path / "trace.json", steps=3
    )
    assert found.bound == "data"
    assert found.waited_s > 3 * 12 * 0.02


def test_too_few_photographs_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="fewer than one batch of 999"):
        profile_training(dataset, fast(batch_size=999), seed=0, trace=tmp_path / "trace.json")
