"""WebDataset shards as a source of images (optional)."""
