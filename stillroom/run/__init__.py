"""A run: recipe, stage graph, pipeline, folder, status, verification."""
