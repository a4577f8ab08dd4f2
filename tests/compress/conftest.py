from __future__ import annotations

import pytest

from tests.train.toy import card_of, toy_dataset, toy_model
from train.models.checkpoint import ModelCard
from train.stage import Dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three classes of 24 images, audited and split. Read only."""
    return toy_dataset(tmp_path_factory.mktemp("compress"))


@pytest.fixture(scope="session")
def card(dataset: Dataset) -> ModelCard:
    """Of a toy model of that dataset."""
    return card_of(dataset, toy_model())
