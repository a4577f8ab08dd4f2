from __future__ import annotations

import json
import time
from pathlib import Path

from train.pace import Pace, peak_memory_mib


def test_waiting_for_data_is_told_apart_from_working(tmp_path: Path) -> None:
    pace = Pace(tmp_path / "timings.jsonl")

    def slow() -> object:
        for _ in range(4):
            time.sleep(0.03)
            yield None

    for _ in pace.watched(slow()):
        time.sleep(0.01)
        pace.count(8)
    assert " img/s  data wait " in str(pace)
    pace.end_steps()
    time.sleep(0.2)  # validation
    pace.end_epoch(1, "all")
    (entry,) = map(json.loads, (tmp_path / "timings.jsonl").read_text().splitlines())
    assert entry["images"] == 32
    assert entry["wall_s"] >= 0.16
    assert 0.5 < entry["data_wait"] < 0.9
    assert entry["images_per_s"] == round(32 / entry["wall_s"], 1) or entry["wall_s"] < 1
    assert entry["peak_rss_mib"] > 50


def test_each_epoch_is_timed_for_itself(tmp_path: Path) -> None:
    pace = Pace(tmp_path / "timings.jsonl")
    for epoch in (1, 2):
        pace.count(10 * epoch)
        pace.end_steps()
        pace.end_epoch(epoch, "all")
        pace.start_epoch()
    lines = [json.loads(line) for line in (tmp_path / "timings.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["images"]) for line in lines] == [(1, 10), (2, 20)]


def test_a_save_is_due_after_its_minutes(tmp_path: Path) -> None:
    pace = Pace(tmp_path / "timings.jsonl")
    assert pace.save_due(0)
    assert not pace.save_due(1)
    time.sleep(0.02)
    assert pace.save_due(0.01 / 60)
    pace.saved()
    assert not pace.save_due(1)


def test_peak_memory_is_in_mib() -> None:
    assert 50 < peak_memory_mib()["peak_rss_mib"] < 100_000
