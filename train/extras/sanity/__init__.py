"""`stillroom train --sanity`: whether this training can work at all (optional)."""
