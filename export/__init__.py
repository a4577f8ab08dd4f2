"""export: a checkpoint becomes an artifact, and only if its answers are those of the checkpoint."""

import serve.contract  # noqa: F401  # settles what holds for every process, before any library
