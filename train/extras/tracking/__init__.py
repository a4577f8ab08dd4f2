"""Curves of a training in TensorBoard and MLflow (optional)."""
