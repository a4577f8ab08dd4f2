"""train: an image folder becomes an audited dataset, then a trained and evaluated model."""

import serve.contract  # noqa: F401  # settles what holds for every process, before any library
