"""Runners: the one interface behind which a model answers, in parity checks and in the server."""
