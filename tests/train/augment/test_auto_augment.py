from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.train.toy import draw
from train.augment.auto_augment import apply_policy
from train.augment.degrade import GREY
from train.engine.seed import generator
from train.options import AugmentOptions

VIEW = draw(1, 0).resize((32, 32))
NAMES = ["randaugment", "trivialaugment"]


def _applied(seed: int, **options: object) -> np.ndarray:
    return np.asarray(apply_policy(VIEW, AugmentOptions(**options), generator(seed)))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_alone_decides(name: str) -> None:
    views = []
    for state in (1, 2):
        torch.manual_seed(state)
        views.append([_applied(seed, policy=name) for seed in range(20)])
    assert all((one == two).all() for one, two in zip(*views, strict=True))
    assert len({view.tobytes() for view in views[0]}) > 10


@pytest.mark.parametrize("name", NAMES)
def test_what_torch_draws_next_stays_as_it_was(name: str) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    _applied(0, policy=name)
    assert torch.rand(3).equal(expected)


def test_no_policy_is_none() -> None:
    assert (_applied(0, policy="none") == np.asarray(VIEW)).all()


def test_randaugment_does_as_much_and_as_strongly_as_asked() -> None:
    def change(ops: int, magnitude: int) -> float:
        options = {"policy": "randaugment", "policy_ops": ops, "policy_magnitude": magnitude}
        views = [_applied(seed, **options) for seed in range(80)]
        return float(np.mean([np.abs(view - np.asarray(VIEW, float)).mean() for view in views]))

    assert change(1, 2) < change(1, 20)
    assert change(1, 9) < change(3, 9)


@pytest.mark.parametrize("name", NAMES)
def test_what_moves_out_of_the_view_leaves_grey(name: str) -> None:
    options = {"policy": name, "policy_magnitude": 30}
    corners = [_applied(seed, **options)[0, 0] for seed in range(150)]
    assert any((corner == GREY).all() for corner in corners)
    assert not any((corner == 0).all() for corner in corners if name == "randaugment")
