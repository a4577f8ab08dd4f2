"""The largest rate that holds an objective, by one load after another."""
