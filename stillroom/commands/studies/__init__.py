"""Commands that compare many trainings: sweep, ablate."""
