from __future__ import annotations

import pytest

from tests.train.toy import toy_dataset
from train.stage import Dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three classes of 24 images, audited and split. Read only."""
    return toy_dataset(tmp_path_factory.mktemp("train"))
