from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.train.toy import PATIENT
from train.engine.seed import derive_seed, generator

parts = st.lists(st.integers() | st.text(st.characters(exclude_characters="\x1f")), max_size=4)


@PATIENT
@given(parts, parts)
def test_other_parts_give_another_seed(one: list[int | str], two: list[int | str]) -> None:
    assert (derive_seed(*one) == derive_seed(*two)) == (repr(one) == repr(two))


@PATIENT
@given(parts)
def test_a_seed_fits_where_torch_and_numpy_take_one(one: list[int | str]) -> None:
    assert 0 <= derive_seed(*one) < 2**63


def test_the_order_and_the_type_of_parts_count() -> None:
    assert len({derive_seed(1, "2"), derive_seed("1", 2), derive_seed("2", 1)}) == 3


def test_seeds_stay_the_same_between_versions() -> None:
    assert derive_seed(0, "order", 3) == 3421225812864122905
    assert generator(0, "x").integers(1000) == generator(0, "x").integers(1000)
    assert isinstance(generator(0), np.random.Generator)
