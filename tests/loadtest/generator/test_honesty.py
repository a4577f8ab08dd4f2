"""A generator that measures itself is found out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.loadtest.stub_server import Behaviour, run_command, run_script, served, write_corpus

pytestmark = pytest.mark.e2e

SCRIPT = """
    import sys
    import time
    from pathlib import Path
    import loadtest.plan.target
    from loadtest.__main__ import main

    def burn(self, body, take=loadtest.plan.target.Target.prediction_of):
        end = time.perf_counter() + {burn_s}
        while time.perf_counter() < end:
            pass
        return take(self, body)

    loadtest.plan.target.Target.prediction_of = burn
    sys.exit(main({arguments!r}))
"""


def test_a_generator_that_burns_its_processor_is_invalid(tmp_path: Path) -> None:
    flags = ["--rate", "80", "--duration-s", "1.5", "--warmup-s", "0.3", "--slo", "p50=1s"]
    out = tmp_path / "out"
    with served(Behaviour()) as url:
        where = [url, "--corpus", str(write_corpus(tmp_path)), "--out", str(out)]
        done = run_script(SCRIPT.format(burn_s=0.02, arguments=[*where, *flags]))
    assert done.returncode == 3, done.stderr
    summary = json.loads((out / "summary.json").read_text())
    held = {rule["name"]: rule["held"] for rule in summary["validity"]["rules"]}
    # Whether its core was its own or shared with others, it could not send in time.
    assert not (held["dispatch_lateness_p99_ms"] and held["generator_cpu_share"])
    (generator,) = summary["generators"]
    assert generator["cpu_peak_share"] > 0.3
    assert len(generator["time_s"]) == len(generator["rss_mib"]) > 0
    assert max(generator["cpu_shares"]) > 0.3
    assert all(0 < time_s < 30 for time_s in generator["time_s"])
    assert min(generator["rss_mib"]) > 10
    assert "INVALID      the figures cannot be used: " in done.stdout


def test_a_rate_beyond_the_generator_is_invalid(tmp_path: Path) -> None:
    """Alone it manages some thousand requests a second, and 20 000 are not half of those."""
    out = tmp_path / "out"
    flags = ("--rate", 20_000, "--duration-s", 0.1, "--warmup-s", 0, "--calibrate")
    with served(Behaviour()) as url:
        done = run_command(url, "--corpus", write_corpus(tmp_path), "--out", out, *flags)
    assert done.returncode in (1, 3), done.stderr  # 1: the stub may refuse every connection
    summary = json.loads((out / "summary.json").read_text())
    assert summary["calibration"]["rate_share"] > 0.5
    assert "capacity_share" in {
        rule["name"] for rule in summary["validity"]["rules"] if not rule["held"]
    }


@pytest.mark.parametrize(("cached_s", "cached"), [(None, False), (0.002, True)])
def test_a_cache_is_found_and_a_service_without_one_not_accused(
    cached_s: float | None, cached: bool, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    flags = ("--scenario", "singlestream", "--duration-s", 1.5, "--warmup-s", 0)
    with served(Behaviour(delay_s=0.02, cached_s=cached_s)) as url:
        corpus = write_corpus(tmp_path, images=200)
        done = run_command(url, "--corpus", corpus, "--out", out, *flags, "--repeat-share", 0.4)
    caching = json.loads((out / "summary.json").read_text())["caching"]
    assert caching["pairs"] >= 6
    assert caching["cached"] is cached
    assert ("the service caches predictions" in " ".join(done.stdout.split())) is cached
