from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from train.engine.trainer import RunningSums

VALUES = st.lists(st.floats(-1e6, 1e6, width=32), max_size=20)


@given(VALUES, VALUES)
def test_sums_that_are_saved_and_gone_on_with_are_those_of_one_go(
    first: list[float], second: list[float]
) -> None:
    whole, part = RunningSums(), RunningSums()
    for value in first:
        for sums in (whole, part):
            sums.add({"b": torch.tensor(value), "a": torch.tensor(1.0)})
    again = RunningSums(part.values())
    for value in second:
        for sums in (whole, again):
            sums.add({"b": torch.tensor(value), "a": torch.tensor(1.0)})
    assert again.values() == whole.values()
    if first or second:
        assert whole.values() == {"b": sum(first + second), "a": len(first + second)}


def test_nothing_added_is_nothing() -> None:
    assert RunningSums().values() == {}
