"""export: a checkpoint becomes an artifact, and only if its answers are those of the checkpoint."""
