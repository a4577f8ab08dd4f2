"""stillroom: the top floor. Command line, recipe, stage graph, lineage and report."""
