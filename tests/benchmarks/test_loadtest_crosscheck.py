from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import loadtest_crosscheck
from benchmarks.loadtest_crosscheck import Part, cost_ms, main, part_text
from benchmarks.loadtest_turns import Setting, Turn, _at, _ms, hey
from loadtest.generator.null_server import running_null_server

ROOT = Path(__file__).parents[2]


def test_units_of_wrk() -> None:
    assert [_ms(text) for text in ("950.00us", "20.43ms", "1.02s", "1.5m")] == pytest.approx(
        [0.95, 20.43, 1020, 90_000]
    )


def test_percentiles_of_counted_latencies() -> None:
    counted = [(10.0, 50), (20.0, 49), (900.0, 1)]
    assert [_at(counted, 100, percentile) for percentile in (50, 90, 99)] == [10, 20, 20]


def test_agreement_is_judged_within_rounds() -> None:
    turns = {"open": [Turn(20, 30, 40, 9, 1.0)] * 2, "script": [Turn(20.5, 30, 50, 9, 1.0)] * 2}
    turns["closed"] = [Turn(20, 20, 20, 9, 1.0), Turn(10, 10, 10, 9, 1.0, valid=False)]
    text = part_text(Part("Title", turns, {"open": [0.5, 0.7], "locust": [1.0, 1.2]}))
    assert "- p50 open / script: 0.976, 1 +- 0.05 is asked: holds" in text
    assert "- p99 open / script: 0.800, 1 +- 0.05 is asked: MISSED" in text
    assert "| open / closed | 1.500 (1.000 to 2.000) |" in text
    assert "| closed (1 of 2 INVALID) | 15.00 (10.00 to 20.00) |" in text
    assert "| locust | 1.100 (1.000 to 1.200) |" in text


def test_the_cost_of_a_request_is_without_that_of_starting() -> None:
    assert cost_ms(Turn(1, 1, 1, 200, 1.5), Turn(1, 1, 1, 100, 1.4)) == pytest.approx(1.0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff" + bytes(1000))
    return tmp_path


def test_the_table_holds_the_command_and_both_servers(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[str, float]] = []

    def load_of(name: str):
        def load(setting: Setting, seed: int) -> Turn:
            seen.append((name, setting.duration_s))
            n = round(setting.rate * setting.duration_s)
            return Turn(20, 30, 40, n, 1 + n / 2000)

        return load

    names = ("open", "script", "closed", "locust", "hey")
    monkeypatch.setattr(
        loadtest_crosscheck, "loads_of", lambda rate: {name: load_of(name) for name in names}
    )
    main([str(photos), "--rounds", "2", "--duration-s", "4", "--table", str(photos / "T.md")])
    text = (photos / "T.md").read_text()
    assert capsys.readouterr().out == f"{text}\n"
    command = "python -m benchmarks.loadtest_crosscheck PHOTOS --rate 200 --duration-s 4 --rounds 2"
    assert f"    {command}\n" in text
    assert "**Empty server with 20 ms of delay, frozen 1 s in every 5**" in text
    assert text.count("| open | 20.00 (20.00 to 20.00)") == 2
    assert text.count("| locust | 0.500 (0.500 to 0.500) |") == 1
    assert sorted(seen).count(("locust", 2)) == seen.count(("open", 2)) == 2
    assert str(photos) not in text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--rounds", "0"], "--rounds is at least 1"),
        (["--duration-s", "1"], "--duration-s 2"),
        (["--rate", "0"], "--rate above 0"),
    ],
)
def test_settings_that_measure_nothing(
    photos: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    with pytest.raises(SystemExit):
        main([str(photos), *flags])
    assert said in capsys.readouterr().err


def test_a_folder_without_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "has no .jpg file directly in it" in capsys.readouterr().err


def test_what_hey_prints_is_read(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "  50%% in 0.0205 secs\n  90%% in 0.0213 secs\n  99% in 0.1234 secs\n  [200]\t97 responses"
    )
    monkeypatch.setattr("benchmarks.loadtest_turns._run", lambda command: (0.5, said))
    turn = hey(Setting("http://127.0.0.1:9", photos, 50.0, 2.0), 0)
    assert (turn.p50_ms, turn.p90_ms, turn.p99_ms) == pytest.approx((20.5, 21.3, 123.4))
    assert (turn.n, turn.cpu_s) == (97, 0.5)


@pytest.mark.ci
@pytest.mark.e2e
def test_every_load_runs_and_says_what_it_measured(photos: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.loadtest_crosscheck", str(photos)]
    flags = ["--rate", "40", "--duration-s", "2", "--rounds", "1", "--table"]
    flags.append(str(photos / "T.md"))
    done = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = (photos / "T.md").read_text()
    for name in ("open", "script", "closed", "locust"):
        assert f"| {name}" in text
    assert text.count("is asked: ") == 4


@pytest.mark.e2e
def test_the_script_measures_the_delay(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff" + bytes(1000))
    command = [sys.executable, "-m", "benchmarks.loadtest_script"]
    p50_ms = []
    for delay_ms in (30, 330):
        with running_null_server(delay_ms=delay_ms) as url:
            words = [*command, url, str(tmp_path), "--rate", "60", "--duration-s", "1.5"]
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
        figures = json.loads(done.stdout)
        assert figures["failed"] == 0
        assert figures["n"] == pytest.approx(90, abs=35)
        assert figures["p50_ms"] >= delay_ms
        p50_ms.append(figures["p50_ms"])
    assert p50_ms[1] - p50_ms[0] > 100  # 300, were nothing else on the machine
