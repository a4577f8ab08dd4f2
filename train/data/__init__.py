"""Labelled images: where they come from, which split each is in, and the index of a run."""
