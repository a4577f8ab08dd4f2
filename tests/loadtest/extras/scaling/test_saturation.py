from __future__ import annotations

from typing import Any

import pytest

from loadtest.extras.scaling.saturation import describe_saturation, saturate
from loadtest.extras.scaling.usl import Usl

LAW = Usl(100, 0.1, 0.002, 1.0)


def measured(users: int, **changes: Any) -> dict[str, Any]:
    """What a closed loop gives on a service that scales by the law and loses nothing."""
    rps = LAW.throughput(users)
    mean_ms = 1000 * users / rps
    service = {"mean_ms": mean_ms, "p50_ms": mean_ms, "p99_ms": mean_ms}
    return {
        "users": users,
        "good_rps": rps,
        "achieved_rps": rps,
        "service": service,
        "stopped_by": None,
        "validity": {"valid": True},
        **changes,
    }


def test_it_ends_after_two_steps_without_gain_and_gives_the_best() -> None:
    summaries, best = saturate(measured, max_users=256)
    assert [summary["users"] for summary in summaries] == [1, 2, 4, 8, 16, 32, 64]
    assert best["users"] == 16


def test_it_ends_where_it_must() -> None:
    assert len(saturate(measured, max_users=4)[0]) == 3
    stopped, _ = saturate(lambda users: measured(users, stopped_by="SIGINT"), max_users=256)
    assert len(stopped) == 1


def test_the_law_and_its_knee() -> None:
    described = describe_saturation(saturate(measured, max_users=256)[0])
    assert described["usl"]["contention"] == pytest.approx(0.1)
    assert described["usl"]["peak_users"] == pytest.approx(LAW.peak_users, abs=0.01)
    assert described["usl"]["knee_users"] == pytest.approx(LAW.knee_users, abs=0.01)
    assert {step["little"] for step in described["steps"]} == {1.0}
    assert all(step["little_held"] for step in described["steps"])


def test_lost_requests_break_littles_law() -> None:
    lossy = [measured(users, achieved_rps=0.9 * LAW.throughput(users)) for users in (1, 2, 4)]
    assert not any(step["little_held"] for step in describe_saturation(lossy)["steps"])


def test_no_reply_at_all_is_no_law() -> None:
    nothing = {"mean_ms": None, "p50_ms": None, "p99_ms": None}
    dead = [measured(u, good_rps=0.0, achieved_rps=0.0, service=nothing) for u in (1, 2, 4)]
    described = describe_saturation(dead)
    assert described["usl"] is None
    assert described["steps"][0]["little"] is None
