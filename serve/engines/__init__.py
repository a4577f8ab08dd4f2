"""TensorRT: engines built, keyed and cached, and the runner of them (optional)."""
