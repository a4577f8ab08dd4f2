"""Charts of the report, from the files of a run."""
