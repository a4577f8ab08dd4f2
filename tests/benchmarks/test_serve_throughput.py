"""The throughput benchmark: its arithmetic, what it reads of processes, and one real trial."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.serve_throughput import Bench, read_trials, report, table_of, targets_of
from benchmarks.serving import load
from benchmarks.serving.answering import Answering
from benchmarks.serving.bound import measure_bound, photos_in
from benchmarks.serving.contestants import (
    CONTESTANTS,
    OURS,
    Contestant,
    check_answer,
    missing_of,
    running,
)
from benchmarks.serving.load import MULTIPART, RAW, find_wrk, run_load, write_bodies
from benchmarks.serving.process_tree import ProcessTree
from benchmarks.serving.trial import Trial, measure
from serve.contract.errors import MeasurementError, UsageError

MODEL = "resnet18 @224"
TRIAL = Trial(
    round=0,
    model=MODEL,
    service=OURS.name,
    bound_ms=9.5,
    cpu_ms=10.0,
    rate=150.0,
    p50_ms=11.0,
    bound_p50_ms=10.0,
    ready_s=3.0,
    pss_mib=200.0,
    foreign_cores=0.02,
    drift=1.01,
)
DOCUMENTED = replace(TRIAL, service="BentoML as documented", cpu_ms=30.0, rate=60.0)


@pytest.fixture
def photos(tmp_path: Path, encode, make_picture) -> Path:
    folder = tmp_path / "photos" / "class"
    folder.mkdir(parents=True)
    for seed in range(6):
        (folder / f"{seed}.jpg").write_bytes(encode(make_picture(seed), "JPEG"))
    (folder / "broken.jpg").write_bytes(b"no image")
    return tmp_path / "photos"


@pytest.fixture
def bodies(photos: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "bodies"
    folder.mkdir()
    write_bodies(photos, folder, 3)
    return folder


def test_figures_of_a_trial() -> None:
    assert TRIAL.ratio == pytest.approx(0.95)
    assert TRIAL.added_ms == pytest.approx(1.0)


def test_targets_say_when_they_hold_and_when_they_are_missed() -> None:
    good = targets_of([TRIAL, DOCUMENTED], MODEL)
    assert len(good) == 6
    assert all(line.endswith("holds") for line in good)
    assert "3.00, at least 2.5" in good[-2]
    poor = replace(TRIAL, cpu_ms=20.0, rate=75.0, p50_ms=12.0, ready_s=4.1, pss_mib=251.0)
    assert all(line.endswith("MISSED") for line in targets_of([poor, DOCUMENTED], MODEL))


def test_others_are_compared_within_a_round() -> None:
    slower_machine = [
        replace(one, round=1, bound_ms=19, cpu_ms=2 * one.cpu_ms, rate=one.rate / 2)
        for one in (TRIAL, DOCUMENTED)
    ]
    *_, by_cpu, by_rate = targets_of([TRIAL, DOCUMENTED, *slower_machine], MODEL)
    assert "by CPU time: 3.00" in by_cpu
    assert "by answers a second: 2.50" in by_rate
    assert targets_of([DOCUMENTED], MODEL) == []


def test_a_table_has_median_and_range() -> None:
    trials = [replace(TRIAL, round=n, rate=rate) for n, rate in enumerate((140, 150, 190))]
    assert "| 150 (140 to 190) |" in table_of(trials, MODEL)
    assert "LitServe" not in table_of(trials, MODEL)


def test_the_report_says_what_disturbed_and_what_is_missing(bodies: Path) -> None:
    bench = Bench({"resnet18": 224}, CONTESTANTS, 1, 10.0, bodies.parent)
    loud = replace(DOCUMENTED, foreign_cores=0.9)
    text = report(bench, [TRIAL, loud], ["Left out: LitServe, for want of litserve."])
    assert "above 0.1 in 1 of 2 trials" in text
    assert "3 images" in text
    assert text.endswith("Left out: LitServe, for want of litserve.")


def test_trials_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    assert read_trials(path) == []
    path.write_text(json.dumps(TRIAL.to_dict()) + "\n")
    assert read_trials(path) == [TRIAL]


def test_a_missing_package_is_named() -> None:
    assert missing_of(Contestant("x", (), "/", RAW, ("json", "no_such_package"))) == [
        "no_such_package"
    ]


def test_bodies_are_whole_photographs(bodies: Path, photos: Path) -> None:
    known = {path.read_bytes() for path in photos.rglob("*.jpg")}
    for path in photos_in(bodies):
        assert path.read_bytes() in known
        assert path.read_bytes() in path.with_suffix(".multipart").read_bytes()
    for kind in (RAW, MULTIPART):
        assert len((bodies / f"{kind}.txt").read_text().splitlines()) == 3


def test_too_few_photographs_are_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds 6 JPEG images, 7 are needed.*--bodies"):
        write_bodies(photos, tmp_path, 7)


def test_without_wrk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load.shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="apt-get install wrk"):
        find_wrk()


def test_the_bound_answers_what_the_service_answers(tiny_artifact: Path, bodies: Path) -> None:
    bound = measure_bound(tiny_artifact, bodies, 0.1)
    assert 0 < bound.cpu_ms < 1000
    assert bound.images > 0


def test_a_tree_counts_its_children() -> None:
    burn = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    code = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r} + '\\ninput()'],"
        "stdin=sys.stdin); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as parent:
        tree = ProcessTree(parent.pid)
        deadline = time.monotonic() + 30
        while tree.cpu_s() < 0.3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(tree.members()) == 2
        assert tree.cpu_s() >= 0.3
        assert 2 < tree.pss_mib() < 500
    assert tree.cpu_s() == 0


def test_a_service_that_answers_otherwise_is_not_measured() -> None:
    right = [{"label": "rose", "probability": 0.7}, {"label": "daisy", "probability": 0.3}]
    check_answer("ours", {"predictions": right, "model": {}}, right)
    check_answer("theirs", right, right)
    for wrong in (right[::-1], right[:1], [{**right[0], "probability": 0.71}, right[1]]):
        with pytest.raises(MeasurementError, match=r"theirs answers .* computes something else"):
            check_answer("theirs", wrong, right)


def test_a_service_that_ends_is_no_measurement(tiny_artifact: Path, tmp_path: Path) -> None:
    ends = Contestant("ends", ("-c", "raise SystemExit('why it ended')"), "/", RAW)
    with (
        pytest.raises(MeasurementError, match="why it ended"),
        running(ends, tiny_artifact, b"", [], tmp_path / "log"),
    ):
        pass


@pytest.mark.ci
@pytest.mark.e2e
def test_one_trial_of_ours(tiny_artifact: Path, bodies: Path, tmp_path: Path) -> None:
    try:
        find_wrk()
    except UsageError as error:
        pytest.skip(str(error))
    expected = Answering(tiny_artifact).answer(photos_in(bodies)[0].read_bytes())
    trial = measure(OURS, tiny_artifact, bodies, expected, model=MODEL, seconds=1, number=0)
    assert 0 < trial.ratio < 1.5
    assert trial.rate > 1
    assert trial.pss_mib > 50
    with pytest.raises(MeasurementError):
        run_load("http://127.0.0.1:9/", bodies / "raw.txt", connections=1, seconds=1)
