from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadtest.errors import UsageError
from loadtest.plan.arguments import build_parser, fleet_from_options, plan_from_options
from loadtest.plan.load_plan import LoadPlan
from loadtest.plan.worker_fleet import Fleet

URL = "http://127.0.0.1:9"


def plan_of(*flags: Any) -> LoadPlan:
    words = [URL, "--corpus", "images", "--out", "out", *map(str, flags)]
    return plan_from_options(build_parser().parse_args(words), images=12)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), {"scenario": "server", "rate": 10.0, "mode": "open", "duration_s": 30.0}),
        (("--mode", "closed"), {"scenario": "closed", "users": 8, "rate": None}),
        (("--scenario", "SingleStream"), {"scenario": "singlestream", "users": 1}),
        (("--scenario", "Server", "--rate", 5), {"scenario": "server", "rate": 5.0}),
        (("--scenario", "Offline"), {"users": 8, "requests": 12, "mode": "open"}),
        (("--scenario", "offline", "--requests", 99, "--users", 2), {"users": 2, "requests": 99}),
        (("--scenario", "soak"), {"duration_s": 600.0, "rate": 10.0}),
        (("--scenario", "saturation"), {"mode": "closed"}),
        (("--route", "/p", "--field", "file", "--workers", 3), {"workers": 3}),
    ],
)
def test_plans(flags: tuple[Any, ...], expected: dict[str, Any]) -> None:
    plan = plan_of(*flags)
    assert {name: getattr(plan, name) for name in expected} == expected


def test_a_recording_gives_the_times_and_the_length(tmp_path: Path) -> None:
    file = tmp_path / "day.csv"
    file.write_text("time_s\n5\n7.5\n")
    plan = plan_of("--scenario", "recorded", "--recorded", file)
    assert (plan.arrivals_s, plan.duration_s, plan.warmup_s) == ((0.0, 2.5), 3.5, 0.0)
    assert plan.title == "open loop, 2 recorded arrivals for 3.5 s"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--mode", "open", "--scenario", "soak"), "say the same thing; leave --mode out"),
        (("--scenario", "offline", "--rate", 5), "--rate 5 needs an open loop; use --mode open"),
        (("--scenario", "singlestream", "--users", 3), "--users 3 needs another scenario"),
        (("--requests", 4), "--requests 4 needs --scenario offline"),
        (("--scenario", "recorded"), "--scenario recorded and --recorded CSV belong together"),
        (("--workers", 0), "--workers 0 is not from 1 to 256"),
        (("--scenario", "singlestream", "--workers", 2), "1 clients cannot be split among 2"),
        (("--repeat-share", 0.6), "--repeat-share 0.6 is not from 0 to 0.5"),
        (("--answer", "label"), "--answer 'label' is not a JSON pointer"),
        (("--header", "nonsense"), "a --header is not NAME: VALUE"),
    ],
)
def test_errors(flags: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_of(*flags)
    assert message in str(caught.value)


def test_an_unknown_scenario_names_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        plan_of("--scenario", "ofline")
    assert caught.value.code == 2
    assert "invalid choice: 'ofline' (choose from" in capsys.readouterr().err


def test_workers_come_from_elsewhere_where_the_master_listens() -> None:
    words = [URL, "--corpus", "images", "--out", "out"]
    corpus = Path("images")
    assert fleet_from_options(build_parser().parse_args(words)) == Fleet(corpus=corpus)
    bound = build_parser().parse_args([*words, "--bind", "10.0.0.1:5557"])
    assert fleet_from_options(bound) == Fleet(
        corpus=corpus, bind="10.0.0.1", port=5557, external=True
    )
    for text in ("5557", "host:", "host:99999"):
        with pytest.raises(UsageError, match="is not HOST:PORT"):
            fleet_from_options(build_parser().parse_args([*words, "--bind", text]))


def test_titles_of_scenarios() -> None:
    assert plan_of("--scenario", "spike", "--rate", 5).title.startswith("open loop, spike of 5 ")
    assert plan_of("--scenario", "offline").title.startswith("offline, 12 requests over 8 conn")
