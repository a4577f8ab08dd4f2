"""Processes of the service: launch, supervisor, workers, drain."""
