from __future__ import annotations

import os

import pytest
import torch

from train.engine.seed import REPEATABLE, WORKSPACE, cudnn_mode


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE, "before")
    monkeypatch.delenv(WORKSPACE)


def _chosen() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return cudnn.benchmark, cudnn.deterministic, torch.are_deterministic_algorithms_enabled()


def test_repeatable_kernels_are_chosen_for_the_block_alone() -> None:
    before = _chosen()
    with cudnn_mode(deterministic=True):
        assert _chosen() == (False, True, True)
        assert os.environ[WORKSPACE] == REPEATABLE
    assert _chosen() == before


def test_else_the_fastest_are() -> None:
    before = _chosen()
    with cudnn_mode(deterministic=False):
        assert _chosen() == (True, False, False)
        assert WORKSPACE not in os.environ
    assert _chosen() == before


def test_a_choice_of_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE, ":16:8")
    with cudnn_mode(deterministic=True):
        assert os.environ[WORKSPACE] == ":16:8"
