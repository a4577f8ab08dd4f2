from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.toy import PATIENT
from train.engine.plan import PhaseOptions
from train.engine.schedule import Plateau, Schedule, learning_rate

SCHEDULES = st.tuples(st.integers(2, 200), st.integers(0, 50), st.floats(1e-4, 1.0))
KINDS = ("cosine", "constant", "step", "plateau", "cyclic")
LONG = Schedule("cosine", peak=1.0, floor=0.01, total=100, warmup=10)


def _rates(schedule: Schedule, decays: int = 0) -> list[float]:
    return [schedule.rate(step, decays) for step in range(schedule.total)]


@PATIENT
@given(SCHEDULES)
def test_the_rate_starts_low_peaks_at_the_peak_and_ends_at_the_floor(
    schedule: tuple[int, int, float],
) -> None:
    total, warmup, peak = schedule
    floor = peak / 100
    rates = _rates(Schedule("cosine", peak, floor, total, warmup))
    assert all(0 < rate <= peak for rate in rates)
    if warmup:
        assert rates[0] == pytest.approx(peak / (warmup + 1))
    if warmup < total:
        assert rates[warmup] == max(rates) == peak
    if warmup + 1 < total:
        assert rates[-1] == pytest.approx(floor)
    rise, fall = rates[: warmup + 1], rates[warmup:]
    assert rise == sorted(rise)
    assert fall == sorted(fall, reverse=True)


def test_the_rate_has_no_jump() -> None:
    rates = _rates(Schedule("cosine", 1.0, 0.0, 1000, 100))
    assert max(abs(a - b) for a, b in itertools.pairwise(rates)) < 0.011


@pytest.mark.parametrize("kind", KINDS)
def test_a_floor_above_the_peak_does_not_raise_the_rate(kind: str) -> None:
    assert max(_rates(Schedule(kind, peak=0.1, floor=1.0, total=9, warmup=2), decays=3)) == 0.1


@PATIENT
@given(st.sampled_from(KINDS), st.integers(1, 200), st.integers(1, 5), st.integers(0, 9))
def test_no_schedule_leaves_the_band_between_floor_and_peak(
    kind: str, total: int, cycles: int, decays: int
) -> None:
    schedule = Schedule(kind, 0.5, 1e-3, total, 0, cycles, decay_steps=7)
    assert all(1e-3 <= rate <= 0.5 for rate in _rates(schedule, decays))


def test_a_cyclic_schedule_repeats_its_cosine() -> None:
    rates = _rates(Schedule("cyclic", peak=1.0, floor=0.01, total=40, cycles=4))
    assert rates[:10] == rates[10:20] == rates[30:]
    assert (rates[0], rates[9]) == (1.0, pytest.approx(0.01))
    assert _rates(Schedule("cyclic", 1.0, 0.01, 40, cycles=1)) == _rates(
        Schedule("cosine", 1.0, 0.01, 40)
    )


def test_a_step_schedule_decays_by_its_factor_every_so_many_steps_after_the_warm_up() -> None:
    schedule = Schedule("step", 1.0, 1e-9, 35, warmup=5, decay_steps=10, decay_factor=0.5)
    rates = _rates(schedule)
    assert rates[5:15] == [1.0] * 10
    assert rates[15:25] == [0.5] * 10
    assert rates[25:] == [0.25] * 10


def test_a_constant_schedule_is_constant_and_a_plateau_follows_its_decays() -> None:
    assert set(_rates(replace(LONG, kind="constant"), decays=2)[10:]) == {1.0}
    plateau = replace(LONG, kind="plateau", decay_factor=0.2)
    assert [plateau.rate(50, n) for n in range(4)] == pytest.approx([1.0, 0.2, 0.04, 0.01])


def test_the_rate_is_held_while_weights_are_averaged() -> None:
    rates = _rates(replace(LONG, hold_from=80, hold=0.3))
    assert rates[80:] == [0.3] * 20
    assert rates[:80] == _rates(LONG)[:80]
    plan = PhaseOptions(epochs=10, batch_size=1, lr=1.0, swa_epochs=3, swa_lr=0.2)
    assert (
        _rates(plan.schedule_of(5))[34:]
        == [pytest.approx(plan.schedule_of(5).rate(34))] + [0.2] * 15
    )
    assert replace(plan, swa_lr=0.0).schedule_of(5).hold_from is None


def test_warm_up_takes_a_quarter_at_most() -> None:
    assert (
        PhaseOptions(epochs=2, batch_size=1, lr=1.0, warmup_epochs=9.0).schedule_of(8).warmup == 4
    )


def test_a_plateau_is_some_epochs_without_a_new_best_loss() -> None:
    plateau = Plateau(patience=2)
    decays = []
    for loss in (3.0, 2.0, 2.5, 2.5, 2.5, 2.0, 1.9, 5.0, math.nan, 5.0):
        plateau.watch(loss)
        decays.append(plateau.decays)
    assert decays == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2]
    assert plateau.best == 1.9


def test_the_function_and_the_schedule_agree() -> None:
    arguments = {"total": 100, "warmup": 10, "peak": 1.0, "floor": 0.01}
    assert [learning_rate(s, **arguments) for s in range(100)] == pytest.approx(_rates(LONG))  # type: ignore[arg-type]
