"""Commands around a training: sanity, profile, choices, evaluate, compare."""
