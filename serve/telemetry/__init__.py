"""Metrics, and where asked for drift and tracing.

* `drift`: Drift
* `metrics`: Metrics, Observer
* `tracing`: Traced, provider_from_env, traced
"""
