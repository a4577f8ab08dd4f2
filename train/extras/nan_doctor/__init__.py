"""A step that was not finite, replayed: where the first NaN arose, and a bundle (optional)."""
