"""Metrics, and where asked for drift and tracing."""
