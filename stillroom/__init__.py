"""stillroom: the top floor. Command line, recipe, stage graph, lineage and report."""

import serve.contract  # noqa: F401  # settles what holds for every process, before any library
