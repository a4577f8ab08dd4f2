"""`stillroom train --nproc N`: the pipeline by rank 0, the training by all (optional)."""
