from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from serve.contract.errors import DatasetError
from tests.train.toy import fast
from train.data.dataset import Dataset
from train.extras.step_choices import Choice, advice, measure_choices

NOW = Choice("fp32", rates=[100.0, 110.0, 90.0])
HALF = Choice("bf16", rates=[150.0, 160.0, 140.0])


def test_the_fastest_choice_that_always_wins_is_advised() -> None:
    compiled = Choice("bf16", compile=True, rates=[200.0, 210.0, 95.0])  # lost a round, nearly
    assert advice([NOW, HALF, compiled]) == "1.50 times as fast: teacher.precision=bf16"
    better = replace(compiled, rates=[200.0, 210.0, 190.0])
    said = advice([NOW, HALF, better])
    assert said == "2.00 times as fast: teacher.precision=bf16 teacher.compile=true"


@pytest.mark.parametrize(
    "other",
    [
        replace(HALF, rates=[105.0, 116.0, 95.0]),
        replace(HALF, rates=[], problem="no compiler"),
        replace(HALF, deterministic=True),
    ],
)
def test_what_is_hardly_faster_or_does_not_run_is_not_advised(other: Choice) -> None:
    assert "leave it as it is" in advice([NOW, other])


def test_each_choice_is_timed_in_each_round_and_one_that_fails_says_why(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: nn.Module) -> Any:
        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("no C++ compiler was found\nand more")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    found = measure_choices(dataset, fast(precision="bf16"), seed=0, rounds=2)
    kinds = [(choice.precision, choice.compile) for choice in found]
    assert kinds[0] == ("bf16", False), "what the recipe asks for comes first"
    assert sorted(kinds) == [(p, c) for p in ("bf16", "fp32") for c in (False, True)]
    for choice in found:
        assert len(choice.rates) == (0 if choice.compile else 2)
        assert choice.problem == ("no C++ compiler was found" if choice.compile else "")
    losses = {choice.precision: choice.loss for choice in found if not choice.compile}
    assert losses["fp32"] == pytest.approx(losses["bf16"], rel=0.05)
    assert "faster" in advice(found) or "fast:" in advice(found)


def test_too_few_photographs_are_refused(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="fewer than one batch of 999"):
        measure_choices(dataset, fast(batch_size=999), seed=0)
