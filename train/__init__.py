"""train: an image folder becomes an audited dataset, then a trained and evaluated model."""
